//! Where a repository and its records are.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use orch_model::plan::MAX_TEXT;

/// The top folder of the repository that `start` lies in; `start` itself outside of one.
#[must_use]
pub fn find(start: &Path) -> PathBuf {
    let start = std::path::absolute(start).unwrap_or_else(|_| start.to_owned());
    let start = start.canonicalize().unwrap_or(start);
    start.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(&start).to_owned()
}

/// The folder in which the runs of a repository are recorded.
#[must_use]
pub fn state_dir(top: &Path) -> PathBuf {
    top.join(".orch")
}

/// Reads a text of a repository, for `orch_model::plan::parse_with`. It reads no more than that takes.
///
/// # Errors
/// Where it is no file, or leads out of the repository, or is not UTF-8.
pub fn read_text(top: &Path, name: &str) -> io::Result<String> {
    let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    let (top, path) = (top.canonicalize()?, top.join(name).canonicalize()?);
    if !path.starts_with(&top) {
        return refused("it leads out of the repository");
    }
    if !path.is_file() {
        return refused("it is not a file");
    }
    let most = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(&path)?.take(most).read_to_end(&mut bytes)?;
    let is_cut = bytes.len() > MAX_TEXT;
    String::from_utf8(bytes).or_else(|error| {
        if is_cut {
            // It is refused for its length, whatever the last character was.
            return Ok(String::from_utf8_lossy(error.as_bytes()).into_owned());
        }
        let at = error.utf8_error().valid_up_to();
        refused(&format!("it is not UTF-8 text: the byte at offset {at} is wrong"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("repo");
        std::fs::create_dir_all(top.join("sub")).unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        std::fs::write(top.join("sub/a.md"), "é").unwrap();
        std::fs::write(top.join("bad"), b"a\xff").unwrap();
        std::fs::write(top.join("large"), "é".repeat(MAX_TEXT)).unwrap();
        std::os::unix::fs::symlink("../secret", top.join("out")).unwrap();
        std::os::unix::fs::symlink("sub/a.md", top.join("in")).unwrap();
        for name in ["sub/a.md", "in"] {
            assert_eq!(read_text(&top, name).unwrap(), "é");
        }
        assert!(read_text(&top, "large").unwrap().len() > MAX_TEXT);
        assert_eq!(read_text(&top, "gone").unwrap_err().kind(), io::ErrorKind::NotFound);
        for (name, why) in [
            ("out", "it leads out of the repository"),
            ("sub", "it is not a file"),
            ("bad", "it is not UTF-8 text: the byte at offset 1 is wrong"),
        ] {
            assert_eq!(read_text(&top, name).unwrap_err().to_string(), why);
        }
    }
}

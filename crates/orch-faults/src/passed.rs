//! What happens around an operation where the tests may break it.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::Path,
};

/// The point before an operation.
///
/// # Errors
/// Where the operation is to fail; it is not done.
pub fn before(name: impl AsRef<str>) -> io::Result<()> {
    crate::step(name.as_ref())?;
    #[cfg(feature = "faults")]
    crate::active::before(name.as_ref())?;
    Ok(())
}

/// The point after an operation that succeeded.
///
/// # Errors
/// Where it is to fail all the same.
pub fn after(name: impl AsRef<str>) -> io::Result<()> {
    #[cfg(feature = "faults")]
    crate::active::after(name.as_ref())?;
    crate::step(name.as_ref())
}

/// Writes between two points: it can be done by half, and others can see it half done.
///
/// # Errors
/// Where it fails, or is to fail.
pub fn write_all(name: &str, out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    if crate::is_interleaved() {
        crate::step(name)?;
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        out.write_all(half)?;
        crate::step(name)?;
        bytes = rest;
    }
    #[cfg(feature = "faults")]
    crate::active::write_all(name, out, bytes)?;
    #[cfg(not(feature = "faults"))]
    out.write_all(bytes)?;
    crate::step(name)
}

/// The name of a call of git: `git::update-ref`.
#[must_use]
pub fn git_point(arguments: &[OsString]) -> String {
    let words = arguments.iter().map(|word| word.to_string_lossy());
    let mut words = words.skip_while(|word| word.starts_with('-'));
    let command = words.next().unwrap_or_default();
    match (&*command, words.next()) {
        ("worktree", Some(deed)) => format!("git::{command}-{deed}"),
        _ => format!("git::{command}"),
    }
}

/// The name of an operation on a file of its own name: `disk::replace(current)`. Numbers don't count.
#[must_use]
pub fn file_point(operation: &str, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut point = format!("{operation}(");
    for c in name.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }) {
        if c != '#' || !point.ends_with('#') {
            point.push(c);
        }
    }
    point.push(')');
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_done_to_what() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(git_point(&words(&["worktree", "add", "-b"])), "git::worktree-add");
        assert_eq!(git_point(&words(&["--literal-pathspecs", "add", "x"])), "git::add");
        assert_eq!(
            file_point("small::write", Path::new("/a/slot-12.clean")),
            "small::write(slot-#.clean)"
        );
    }
}

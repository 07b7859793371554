//! A git repository for a test, gone when it is dropped.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// A git repository in a temporary folder, with one commit on `main`.
#[derive(Debug)]
pub struct TempRepository {
    folder: tempfile::TempDir,
}

impl TempRepository {
    /// Makes one. It takes nothing from the user's git configuration.
    ///
    /// # Errors
    /// Where git is missing or the folder can't be written.
    pub fn new() -> io::Result<Self> {
        let this = Self { folder: tempfile::tempdir()? };
        fs::create_dir(this.path())?;
        this.git(&["init", "--quiet", "--initial-branch=main"])?;
        this.git(&["config", "user.name", "Test"])?;
        this.git(&["config", "user.email", "test@localhost"])?;
        this.git(&["config", "commit.gpgsign", "false"])?;
        this.write("README.md", "a repository for a test\n")?;
        this.commit("first commit")?;
        Ok(this)
    }

    /// Its top folder; worktrees may be made beside it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// Writes a file, with its folders.
    ///
    /// # Errors
    /// Where that fails.
    pub fn write(&self, path: impl AsRef<Path>, text: &str) -> io::Result<()> {
        let path = self.path().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)
    }

    /// Commits everything.
    ///
    /// # Errors
    /// Where git fails.
    pub fn commit(&self, message: &str) -> io::Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--no-verify", "-m", message]).map(|_| ())
    }

    /// Runs git in it and gives what it prints, without the last line's end.
    ///
    /// # Errors
    /// Where git fails.
    pub fn git(&self, args: &[&str]) -> io::Result<String> {
        let output = Command::new("git")
            .args(args)
            .current_dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("git {}: {said}", args.join(" "))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

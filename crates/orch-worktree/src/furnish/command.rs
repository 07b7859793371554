//! A command that makes a tree ready, such as `npm ci`, and when it can be left out.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::Path,
    process::Stdio,
};

use orch_model::ports::WorktreeError;
use tokio::process::Command;

use crate::{
    error::{io_error, shortened},
    pool::slot::write_whole,
};

/// The file in a worktree's git folder with the key of the command that ran in it.
pub(crate) const DONE: &str = "orch-setup";

/// Runs the command unless it ran in this tree already with the same files of the key.
pub(super) async fn run(
    setup: &str,
    key_files: &[String],
    path: &Path,
    admin: &Path,
) -> Result<(), WorktreeError> {
    let doing = || format!("running the setup `{setup}` in {}", path.display());
    let key = key(setup, key_files, path).map_err(io_error(doing()))?;
    let done = admin.join(DONE);
    if !key_files.is_empty() && fs::read_to_string(&done).is_ok_and(|ran| ran.trim() == key) {
        return Ok(());
    }
    let output = Command::new("sh")
        .args(["-c", setup])
        .current_dir(path)
        .env("ORCH_WORKTREE", path)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(io_error(doing()))?;
    if !output.status.success() {
        let said = if output.stderr.is_empty() { output.stdout } else { output.stderr };
        let text = String::from_utf8_lossy(&said).into_owned();
        let tail = text.char_indices().rev().nth(900).map_or(0, |(at, _)| at);
        let said = shortened(&text[tail..]);
        let error = format!("the setup `{setup}` ended with {}: {said}", output.status);
        return Err(WorktreeError::Other { source: error.into() });
    }
    write_whole(&done, &key, false).map_err(io_error(doing()))
}

/// Changes when the command or a file of the key does.
fn key(setup: &str, files: &[String], path: &Path) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    setup.hash(&mut hasher);
    for name in files {
        name.hash(&mut hasher);
        match fs::read(path.join(name)) {
            Ok(content) => content.hash(&mut hasher),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0.hash(&mut hasher),
            Err(error) => return Err(error),
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

//! What a tree gets besides the files of its commit, before a task sees it: files that git ignores,
//! submodules, and what a command makes.

pub(crate) mod command;
pub(crate) mod include;
mod submodules;

use std::path::Path;

use orch_model::ports::WorktreeError;

use crate::repo::Repo;

impl Repo {
    /// Makes a tree ready for work. May be repeated.
    pub(crate) async fn furnish(&self, path: &Path, admin: &Path) -> Result<(), WorktreeError> {
        self.include(path, admin).await?;
        if self.trees.submodules && path.join(".gitmodules").is_file() {
            self.check_out_submodules(path, admin).await?;
        }
        if let Some(setup) = &self.trees.setup {
            command::run(setup, &self.trees.setup_key, path, admin).await?;
        }
        Ok(())
    }
}

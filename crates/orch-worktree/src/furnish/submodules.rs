//! Submodules, cloned from what the user's checkout has of them, so that the network is not needed.

use std::path::Path;

use orch_model::ports::WorktreeError;

use crate::{modules, repo::Repo};

impl Repo {
    pub(super) async fn check_out_submodules(
        &self,
        path: &Path,
        admin: &Path,
    ) -> Result<(), WorktreeError> {
        // What is cloned is written down in the repository's configuration.
        let git = self.git.plain().on_worktree(admin, path);
        let idle = self.git.view().map(|view| view.idle_filters().clone()).unwrap_or_default();
        let idle: Vec<String> = idle
            .iter()
            .flat_map(|name| ["clean=", "smudge=", "process=", "required=false"].map(|s| (name, s)))
            .flat_map(|(name, setting)| ["-c".to_owned(), format!("filter.{name}.{setting}")])
            .collect();
        let list =
            ["config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$"];
        let answer = git.call(list).answer().await?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let known = modules::of(&self.git.on_worktree(admin, path), None).await?;
        for entry in text.split('\0') {
            let Some((key, place)) = entry.split_once('\n') else { continue };
            // What is only written there, and not a submodule of the commit, is nobody's to clone.
            if !known.iter().any(|known| known == place) {
                continue;
            }
            let name = key.trim_start_matches("submodule.").trim_end_matches(".path");
            let local = self.checkouts.common().join("modules").join(name);
            let is_local = local.join("HEAD").is_file() && !name.split('/').any(|p| p == "..");
            let mut settings = vec!["-c".to_owned(), "protocol.file.allow=user".to_owned()];
            if is_local {
                settings = vec!["-c".into(), "protocol.file.allow=always".into()];
                settings.extend(["-c".into(), format!("submodule.{name}.url={}", local.display())]);
            }
            // In this way, whatever the repository's configuration says.
            let how = ["--quiet", "update", "--init", "--checkout", "--force", "--", place];
            let update = std::iter::once("submodule").chain(how);
            git.call(idle.iter().chain(&settings)).arguments(update).answer().await?.success()?;
            if is_local {
                // It is to be fetched from and pushed to where that of the checkout is.
                let origin = self.git.on_repository(&local);
                let url = origin.call(["config", "remote.origin.url"]).answer().await?;
                if let Ok(url) = url.success() {
                    let url = String::from_utf8_lossy(&url).trim_end().to_owned();
                    let module = self.git.on_repository(&admin.join("modules").join(name));
                    module.run(["config", "remote.origin.url", &url]).await?;
                }
            }
        }
        Ok(())
    }
}

//! Submodules, cloned from what the user's checkout has of them, so that the network is not needed.

use std::path::Path;

use orch_model::ports::WorktreeError;

use crate::repo::Repo;

impl Repo {
    pub(super) async fn check_out_submodules(
        &self,
        path: &Path,
        admin: &Path,
    ) -> Result<(), WorktreeError> {
        let git = self.git.on_worktree(admin, path);
        let list =
            ["config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$"];
        let answer = git.call(list).answer().await?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        for entry in text.split('\0') {
            let Some((key, place)) = entry.split_once('\n') else { continue };
            let name = key.trim_start_matches("submodule.").trim_end_matches(".path");
            let local = self.checkouts.common().join("modules").join(name);
            let is_local = local.join("HEAD").is_file() && !name.split('/').any(|p| p == "..");
            let mut settings = vec!["-c".to_owned(), "protocol.file.allow=user".to_owned()];
            if is_local {
                settings = vec!["-c".into(), "protocol.file.allow=always".into()];
                settings.extend(["-c".into(), format!("submodule.{name}.url={}", local.display())]);
            }
            let update = ["submodule", "--quiet", "update", "--init", "--force", "--", place];
            git.call(settings).arguments(update).answer().await?.success()?;
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

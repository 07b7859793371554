//! Fetches from remotes and pushes to them.
//!
//! Both obey the configuration: addresses, credential helpers, the command for ssh. Nobody is asked for
//! anything: a password that no helper knows is an error. What of the repository's own configuration
//! matters here names programs and addresses, and agents can write it: where that has changed since
//! this process looked first, nothing is fetched or pushed.

use std::{ffi::OsString, time::Duration};

use orch_model::{CommitId, ports::WorktreeError};

use crate::{
    error::target_error,
    git::{Answer, Call},
    repo::Repo,
    settings::{self, Settings},
    target::{REMOTES, Target},
};

/// How long a fetch or a push may take.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What became of a push.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// The remote's branch is where it was to be.
    Yes,
    /// The remote's branch was moved by somebody else.
    Moved,
    /// The remote refused, or can't be reached.
    Refused(String),
}

impl Repo {
    /// Takes over where a branch of a remote stands; `None` where there is none.
    pub(crate) async fn fetch(
        &self,
        remote: &str,
        branch: &str,
    ) -> Result<Option<CommitId>, WorktreeError> {
        self.refuse_new_settings(remote).await?;
        let reference = format!("{REMOTES}{remote}/{branch}");
        let refspec = format!("+refs/heads/{branch}:{reference}");
        let arguments = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--no-write-fetch-head",
            "--end-of-options",
            remote,
            &refspec,
        ];
        let git = self.git.plain();
        // A worktree that is made meanwhile would fail.
        let lock = self.lock.hold().await?;
        let call = unattended(git.call(arguments).durable());
        let answer = call.holding(&lock)?.answer().await?;
        drop(lock);
        let known = self.refs(&[&reference]).await?.remove(&reference).map(|r| r.commit);
        if answer.code == Some(0) {
            return Ok(known);
        }
        let complaint = answer.complaint();
        if !complaint.contains("couldn't find remote ref") {
            return Err(target_error(format!(
                "can't fetch `{branch}` from `{remote}`: {complaint}"
            )));
        }
        if let Some(stale) = known {
            let line = format!("delete {reference} {stale}");
            self.transact("orch: the remote has it no more", &[line]).await??;
        }
        Ok(None)
    }

    /// Moves a branch of a remote, from where it was seen, to a commit that contains that.
    pub(crate) async fn push(
        &self,
        target: &Target,
        new: &CommitId,
        seen: Option<&CommitId>,
    ) -> Result<Pushed, WorktreeError> {
        let Target::Remote { remote, branch } = target else {
            return Err(target_error(format!("`{}` is no branch of a remote", target.name())));
        };
        if let Err(error) = self.refuse_new_settings(remote).await {
            return Ok(Pushed::Refused(error.to_string()));
        }
        let lease =
            format!("--force-with-lease=refs/heads/{branch}:{}", seen.map_or("", CommitId::as_str));
        let refspec = format!("{new}:refs/heads/{branch}");
        let arguments = [
            "push",
            "--porcelain",
            "--no-verify",
            "--no-follow-tags",
            "--recurse-submodules=no",
            &lease,
            "--end-of-options",
            remote,
            &refspec,
        ];
        let git = self.git.plain();
        let answer = match unattended(git.call(arguments)).answer().await {
            Ok(answer) => answer,
            Err(error @ WorktreeError::Io { .. }) => return Ok(Pushed::Refused(error.to_string())),
            Err(error) => return Err(error),
        };
        if answer.code != Some(0) {
            return Ok(refusal(&answer));
        }
        // Git does it too, where the remote has the usual refspec.
        let line = format!("update {} {new}", target.reference());
        self.transact("orch: pushed", &[line]).await??;
        Ok(Pushed::Yes)
    }

    async fn refuse_new_settings(&self, remote: &str) -> Result<(), WorktreeError> {
        let now = settings::read(&self.git, &self.top_admin).await?.map_err(target_error)?;
        match Settings::new(now).first_change_of_network(&self.settings, remote) {
            None => Ok(()),
            Some(key) => Err(target_error(format!(
                "`{key}` of the repository was changed during the run, perhaps by an agent; look at it with `git config --show-origin --get-all {key}`"
            ))),
        }
    }
}

/// Has a call ask nobody, and end.
fn unattended(call: Call<'_>) -> Call<'_> {
    // For ssh, which asks the terminal otherwise.
    let no_answer = [("SSH_ASKPASS", "false"), ("SSH_ASKPASS_REQUIRE", "force")];
    let no_answer = no_answer.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    call.environment(no_answer.into())
        .settings(&["core.askPass=false".into(), "protocol.ext.allow=never".into()])
        .within(PATIENCE)
}

/// Why a push did nothing, from its `--porcelain` lines: `!`, what was to go where, and the reason.
fn refusal(answer: &Answer) -> Pushed {
    const MOVED: [&str; 6] = [
        "stale info",
        "fetch first",
        "non-fast-forward",
        "failed to update ref",
        "cannot lock ref",
        "incorrect old value",
    ];
    let out = String::from_utf8_lossy(&answer.stdout);
    let line = out.lines().find(|line| line.starts_with('!'));
    match line.and_then(|line| line.rsplit('\t').next()) {
        Some(reason) if MOVED.iter().any(|part| reason.contains(part)) => Pushed::Moved,
        Some(reason) => Pushed::Refused(format!("{reason}; {}", answer.complaint())),
        None => Pushed::Refused(answer.complaint()),
    }
}

//! Who makes the engine's commits, and that they are signed.

use std::{fs, process::Command};

use orch_model::{
    CommitId,
    plan::spec::Strategy,
    ports::{MergeRequest, WorktreeProvider},
};
use orch_worktree::{GitWorktrees, GitWorktreesConfig};

use crate::support::{Fixture, begin, git, merge, merge_request, merged, request, trees, work};

/// A key for ssh, and a configuration that signs with it; `None` where there is no `ssh-keygen`.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn signing_user(fixture: &Fixture) -> Option<GitWorktreesConfig> {
    let key = fixture.repo.with_file_name("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&key)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this needs ssh-keygen");
        return None;
    }
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let signers = fixture.repo.with_file_name("signers");
    fs::write(&signers, format!("someone@example.com {public}")).unwrap();
    let global = fixture.repo.with_file_name("gitconfig");
    let text = format!(
        "[commit]\n\tgpgSign = true\n[gpg]\n\tformat = ssh\n[gpg \"ssh\"]\n\tallowedSignersFile = {}\n[user]\n\tsigningKey = {}.pub\n",
        signers.display(),
        key.display()
    );
    fs::write(&global, text).unwrap();
    Some(
        GitWorktreesConfig::new(&fixture.repo)
            .trees(trees())
            .environment("GIT_CONFIG_GLOBAL", global)
            .environment("GIT_CONFIG_SYSTEM", "/dev/null"),
    )
}

fn is_signed(fixture: &Fixture, commit: &CommitId) -> bool {
    let global = fixture.repo.with_file_name("gitconfig");
    let output = Command::new("git")
        .args(["verify-commit", commit.as_str()])
        .current_dir(&fixture.repo)
        .env("GIT_CONFIG_GLOBAL", global)
        .output()
        .unwrap();
    output.status.success()
}

#[tokio::test]
async fn commits_are_signed_where_the_user_signs() {
    for strategy in [Strategy::Merge, Strategy::Squash, Strategy::Rebase] {
        let fixture = Fixture::new();
        let Some(config) = signing_user(&fixture) else { return };
        let provider = GitWorktrees::open(config).await.unwrap();
        begin(&provider, None).await.unwrap();
        // What an agent writes to the repository's configuration is not run.
        let trap = fixture.repo.with_file_name("trap");
        let evil = fixture.repo.with_file_name("evil");
        fs::write(&evil, format!("#!/bin/sh\ntouch {}\nexit 1\n", trap.display())).unwrap();
        Command::new("chmod").arg("+x").arg(&evil).status().unwrap();
        for key in ["gpg.ssh.program", "gpg.program", "gpg.ssh.defaultKeyCommand"] {
            fixture.git(&["config", key, evil.to_str().unwrap()]);
        }
        fixture.git(&["config", "user.signingKey", "/nowhere"]);
        fixture.git(&["config", "gpg.format", "openpgp"]);
        let (_one, tip) = work(&provider, "one", &[("one", "1")]).await;
        let request = MergeRequest { strategy, ..merge_request("one", &tip) };
        let commit = merged(provider.merge(request).await.unwrap());
        for key in ["gpg.ssh.program", "gpg.format", "user.signingKey"] {
            fixture.git(&["config", "--unset", key]);
        }
        assert!(is_signed(&fixture, &commit), "{strategy:?}");
        assert!(is_signed(&fixture, &tip), "what a task left is committed for it");
        assert!(!trap.exists());
    }
}

#[tokio::test]
async fn who_does_not_sign_gets_plain_commits() {
    let fixture = Fixture::new();
    let Some(_key) = signing_user(&fixture) else { return };
    let provider = fixture.begun().await;
    fixture.git(&["config", "commit.gpgSign", "true"]);
    let (_one, tip) = work(&provider, "one", &[("one", "1")]).await;
    let commit = merged(merge(&provider, "one", &tip).await);
    assert!(!is_signed(&fixture, &commit) && !is_signed(&fixture, &tip));
}

#[tokio::test]
async fn author_and_committer_are_those_of_the_configuration_at_the_start() {
    let fixture = Fixture::new();
    fixture.git(&["config", "author.name", "An Author"]);
    fixture.git(&["config", "committer.email", "committer@example.com"]);
    let provider = fixture.begun().await;
    for key in ["user.name", "author.name", "committer.email"] {
        fixture.git(&["config", key, "Forged"]);
    }
    let worktree = provider.acquire(request("one", 1)).await.unwrap();
    crate::support::write(worktree.path(), "one", "1");
    let sealed = worktree.seal(&crate::support::message("one")).await.unwrap();
    let tip = sealed.tip.unwrap();
    let commit = merged(merge(&provider, "one", &tip).await);
    for commit in [&tip, &commit] {
        let who =
            git(&fixture.repo, &["log", "-1", "--format=%an <%ae> %cn <%ce>", commit.as_str()]);
        assert_eq!(who, "An Author <someone@example.com> Someone <committer@example.com>");
    }
}

//! Nothing that an agent can put into the repository's hooks and settings is executed.

use std::{fs, os::unix::fs::PermissionsExt};

use orch_model::{
    event::Delivery,
    ports::{GcRequest, Release, WorktreeProvider},
};

use orch_worktree::GitWorktrees;

use crate::support::{
    Fixture, begin, finish, merge, merged, message, request, shared, work, write,
};

#[tokio::test]
async fn hooks_and_programs_of_the_repository_do_not_run() {
    let fixture = Fixture::new();
    let witness = fixture.repo.with_file_name("witness");
    let script = format!("#!/bin/sh\necho \"$0 $*\" >> {}\n", witness.display());
    let hooks = [
        "applypatch-msg",
        "commit-msg",
        "fsmonitor",
        "post-checkout",
        "post-commit",
        "post-index-change",
        "post-merge",
        "post-rewrite",
        "pre-auto-gc",
        "pre-commit",
        "pre-merge-commit",
        "prepare-commit-msg",
        "reference-transaction",
    ];
    let program = |name: &str| {
        let path = fixture.repo.join(".git/hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let paths: Vec<String> = hooks.iter().map(|name| program(name)).collect();
    for setting in [
        "core.fsmonitor",
        "diff.external",
        "gpg.program",
        "core.editor",
        "sequence.editor",
        "core.pager",
        "core.askPass",
        "core.sshCommand",
        "credential.helper",
    ] {
        fixture.git(&["config", setting, &paths[2]]);
    }
    fixture.git(&["config", "commit.gpgSign", "true"]);
    let _ = fs::remove_file(&witness);

    // What the user's own configuration names does run.
    let signer = fixture.repo.with_file_name("signer");
    let text = "#!/bin/sh\ncat > /dev/null\necho signature\necho '\n[GNUPG:] SIG_CREATED ' >&2\n";
    fs::write(&signer, text).unwrap();
    fs::set_permissions(&signer, fs::Permissions::from_mode(0o755)).unwrap();
    let global = fixture.repo.with_file_name("gitconfig");
    fs::write(&global, format!("[gpg]\n\tprogram = {}\n", signer.display())).unwrap();
    let config = fixture.config().environment("GIT_CONFIG_GLOBAL", global);
    let provider = GitWorktrees::open(config).await.unwrap();
    begin(&provider, None).await.unwrap();
    let (worktree, tip) = work(&provider, "a", &[("a", "a")]).await;
    merged(merge(&provider, "a", &tip).await);
    worktree.release(Release::Done).await.unwrap();
    let worktree = provider.acquire(request("b", 1)).await.unwrap();
    write(worktree.path(), "b", "b");
    worktree.release(Release::Retry).await.unwrap();
    for task in ["c", "d"] {
        let worktree = provider.acquire(shared(task, "e")).await.unwrap();
        write(worktree.path(), task, task);
        worktree.seal(&message(task)).await.unwrap();
        worktree.release(Release::Keep).await.unwrap();
    }
    assert!(matches!(finish(&provider).await, Delivery::Target { .. }));
    provider.gc(GcRequest::default()).await.unwrap();
    let signed = fixture.git(&["cat-file", "commit", "main"]);
    assert!(signed.contains("gpgsig signature"), "{signed}");
    let ran = fs::read_to_string(&witness).unwrap_or_default();
    assert_eq!(ran, "");
    // They would have run.
    crate::support::git(
        &fixture.repo,
        &["-c", "commit.gpgSign=false", "commit", "--quiet", "--allow-empty", "-m", "x"],
    );
    assert!(fs::read_to_string(&witness).unwrap().contains("pre-commit"));
}

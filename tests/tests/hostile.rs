//! Agents that try to have the orchestrator run something, or to lead it elsewhere. Each trick is
//! played by an agent in a real run; programs that it plants write down whether they were run by
//! anybody but an agent.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use orch_tests::{Outcome, Plan, TestRepo, is_run};

/// What is done by a shell in the worktree, where `$EVIL` is a program, `$C` and `$G` the common and the
/// worktree's own git folder, `$T` the worktree and `$ORCH_REPO` the user's checkout.
struct Trick {
    name: &'static str,
    line: &'static str,
    /// What the report has to name; empty where nothing is held.
    named: &'static str,
}

const fn trick(name: &'static str, line: &'static str, named: &'static str) -> Trick {
    Trick { name, line, named }
}

/// A repository whose agents know a program that leaves a trace.
struct Trap {
    repo: TestRepo,
    evil: PathBuf,
    trace: PathBuf,
}

impl Trap {
    fn new() -> Self {
        let repo = TestRepo::new();
        let (evil, trace) = (repo.beside("evil"), repo.beside("trace"));
        let text = format!(
            "#!/bin/sh\n[ -n \"$ORCH_TASK_ID\" ] || echo \"$0 $*\" >> '{}'\nexec cat\n",
            trace.display()
        );
        fs::write(&evil, text).unwrap();
        fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
        Self { repo, evil, trace }
    }

    fn line(&self, trick: &str) -> String {
        let folders = "C=$(cd \"$(git rev-parse --git-common-dir)\" && pwd -P); \
                       G=$(cd \"$(git rev-parse --git-dir)\" && pwd -P); T=$ORCH_WORKTREE";
        format!("set -e; EVIL='{}'; {folders}; echo work > work.txt; {trick}", self.evil.display())
    }

    fn play(&self, trick: &str) -> Outcome {
        self.repo.start(&Plan::new().task("bad", |t| t.shell(&self.line(trick)))).wait()
    }

    fn traces(&self) -> String {
        fs::read_to_string(&self.trace).unwrap_or_default()
    }

    #[track_caller]
    fn assert_played(&self, trick: &Trick) -> Outcome {
        let before = self.repo.checkout();
        let outcome = self.play(trick.line);
        let report = outcome.report();
        assert_eq!(self.traces(), "", "{}: something was run\n{outcome}", trick.name);
        if trick.named.is_empty() {
            assert_eq!(report.status_of("bad"), "merged", "{}\n{outcome}", trick.name);
            return outcome;
        }
        assert_eq!(report.status_of("bad"), "failed", "{}\n{outcome}", trick.name);
        let error = report.error_of("bad");
        assert!(error.contains(trick.named), "{}: {error}\n{outcome}", trick.name);
        let failed = outcome.events.iter().find(|event| event["change"] == "failed");
        assert_eq!(failed.unwrap()["failure"]["class"], "tampered", "{}", trick.name);
        let warned = outcome.events.iter().any(|event| {
            let message = event["message"].as_str().unwrap_or_default();
            is_run(event, "warning") && message.contains(trick.named)
        });
        assert!(warned, "{}: no event\n{outcome}", trick.name);
        assert_eq!(self.repo.checkout(), before, "{}: the user's checkout", trick.name);
        outcome
    }
}

#[track_caller]
fn play_all(tricks: &[Trick]) {
    for trick in tricks {
        Trap::new().assert_played(trick);
    }
}

#[test]
fn settings_that_name_programs_are_neither_used_nor_kept_quiet() {
    play_all(&[
        trick("fsmonitor", "git config core.fsmonitor \"$EVIL\"", "core.fsmonitor"),
        trick(
            "clean and smudge",
            "git config filter.x.clean \"$EVIL\"; git config filter.x.smudge \"$EVIL\"; \
             echo '* filter=x' > .gitattributes",
            "filter.x.clean",
        ),
        trick(
            "long-running filter",
            "git config filter.x.process \"$EVIL\"; git config filter.x.required true; \
             echo '* filter=x' > .gitattributes",
            "filter.x.process",
        ),
        trick(
            "diff and merge drivers",
            "git config diff.external \"$EVIL\"; git config diff.x.textconv \"$EVIL\"; \
             git config diff.x.command \"$EVIL\"; git config merge.x.driver \"$EVIL\"; \
             echo '* diff=x merge=x' > .gitattributes",
            "merge.x.driver",
        ),
        trick(
            "an included file",
            "printf '[core]\\n\\tfsmonitor = %s\\n' \"$EVIL\" > \"$C/more\"; \
             git config include.path more",
            "include.path",
        ),
        trick(
            "settings of the worktree",
            "git config extensions.worktreeConfig true; \
             git config --worktree core.fsmonitor \"$EVIL\"",
            "core.fsmonitor",
        ),
        trick(
            "a remote that is a program",
            "git config remote.origin.url \"ext::$EVIL\"; git config remote.origin.promisor true",
            "remote.origin.url",
        ),
        trick(
            "programs of people",
            "git config core.editor \"$EVIL\"; git config alias.st \"!$EVIL\"; \
             git config gpg.program \"$EVIL\"; git config commit.gpgSign true; \
             git config core.sshCommand \"$EVIL\"; git config credential.helper \"!$EVIL\"",
            "alias.st",
        ),
    ]);
}

#[test]
fn a_configuration_that_git_cannot_read_stops_the_task_alone() {
    let trap = Trap::new();
    let tip = trap.repo.head();
    let outcome = trap.play("cp \"$C/config\" \"$C/../../config\"; echo '[core' >> \"$C/config\"");
    let report = outcome.report();
    assert_eq!(report.status_of("bad"), "failed", "{outcome}");
    assert!(report.error_of("bad").contains("git can't read it"), "{outcome}");
    fs::copy(trap.repo.beside("config"), trap.repo.path().join(".git/config")).unwrap();
    assert_eq!(trap.repo.head(), tip);
}

#[test]
fn hooks_are_neither_run_nor_kept_quiet() {
    let all = "for hook in post-checkout pre-commit commit-msg post-commit reference-transaction \
               post-index-change post-merge post-rewrite pre-auto-gc; do \
               cp \"$EVIL\" \"$C/hooks/$hook\"; done";
    play_all(&[
        trick("hooks", &format!("mkdir -p \"$C/hooks\"; {all}").leak()[..], "hooks/pre-commit"),
        trick(
            "hooks elsewhere",
            "mkdir h; cp \"$EVIL\" h/post-checkout; cp \"$EVIL\" h/reference-transaction; \
             git config core.hooksPath \"$PWD/h\"",
            "core.hookspath",
        ),
        trick(
            "a hook that is a link",
            "mkdir -p \"$C/hooks\"; ln -s \"$EVIL\" \"$C/hooks/pre-commit\"",
            "hooks/pre-commit",
        ),
    ]);
}

#[test]
fn a_worktree_that_leads_elsewhere_is_left_alone() {
    let hostile = "git init --quiet \"$C/../../hostile\"; H=$(cd \"$C/../../hostile/.git\" && pwd -P); \
                   git --git-dir=\"$H\" config core.fsmonitor \"$EVIL\"";
    let with = |line: &str| -> &'static str { format!("{hostile}; {line}").leak() };
    play_all(&[
        trick("another git folder", with("echo \"gitdir: $H\" > .git"), ".git"),
        trick("a repository of its own", "rm .git; git init --quiet .", ".git"),
        trick("no git file", "rm .git", ".git"),
        trick("a zero in the git file", "printf 'gitdir: x\\0y\\n' > .git", ".git"),
        trick("another common folder", with("echo \"$H\" > \"$G/commondir\""), "commondir"),
        trick("another folder", "echo \"$ORCH_REPO/.git\" > \"$G/gitdir\"", "gitdir"),
        trick(
            "the user's checkout in its place",
            "cd /; mv \"$T\" \"$T.moved\"; ln -s \"$ORCH_REPO\" \"$T\"",
            "bad",
        ),
        trick(
            "a link above it",
            "cd /; R=$(dirname \"$T\"); mv \"$R\" \"$R-moved\"; ln -s \"$R-moved\" \"$R\"",
            "symbolic link",
        ),
    ]);
}

#[test]
fn a_worktree_of_the_pool_that_leads_elsewhere_is_not_lent_again() {
    for trick in [
        trick("a repository of its own", "rm .git; git init --quiet .", ".git"),
        trick("another folder", "echo \"$ORCH_REPO/.git\" > \"$G/gitdir\"", "gitdir"),
        trick("another place", "echo \"$ORCH_REPO\" > \"$G/orch-place\"", "bad"),
        trick(
            "the user's checkout in its place",
            "S=$(pwd -P); cd /; mv \"$S\" \"$S.moved\"; ln -s \"$ORCH_REPO\" \"$S\"",
            "bad",
        ),
        trick(
            "a hook for the next task",
            "mkdir h; git config core.hooksPath \"$PWD/h\"",
            "hookspath",
        ),
        trick(
            "settings for the next task",
            "git config extensions.worktreeConfig true; git config --worktree core.fsmonitor \"$EVIL\"",
            "core.fsmonitor",
        ),
    ] {
        let trap = Trap::new();
        trap.repo.configure("grace = \"500ms\"\nworktree_kind = \"pool\"\n");
        trap.assert_played(&trick);
        for task in ["next", "last"] {
            let plan = Plan::new().task(task, |t| t.script(format!("write {task}.txt 1")));
            let outcome = trap.repo.start(&plan).wait();
            assert_eq!(outcome.report().status_of(task), "merged", "{}\n{outcome}", trick.name);
            assert_eq!(trap.repo.read(&format!("{task}.txt")), "1\n", "{}", trick.name);
        }
        trap.repo.orch(["gc"]).run().assert_code(0);
        assert_eq!(trap.traces(), "", "{}", trick.name);
        assert_eq!(trap.repo.git(["status", "--porcelain"]), "", "{}", trick.name);
    }
}

#[test]
fn history_and_objects_from_elsewhere_are_reported() {
    play_all(&[
        trick(
            "borrowed objects",
            "git init --quiet --bare \"$C/../../other\"; \
             echo \"$C/../../other/objects\" > \"$C/objects/info/alternates\"",
            "alternates",
        ),
        trick("grafts", "git rev-parse HEAD > \"$C/info/grafts\"", "grafts"),
        trick("a shallow boundary", "git rev-parse HEAD > \"$C/shallow\"", "shallow"),
        trick(
            "a replaced commit",
            "git commit --quiet --allow-empty -m other; git replace HEAD HEAD^",
            "refs/replace",
        ),
        trick("attributes", "echo '* text' > \"$C/info/attributes\"", "info/attributes"),
        trick(
            "the engine's own settings",
            "for c in \"$C\"/orch-git/*/config; do git config --file \"$c\" core.fsmonitor \"$EVIL\"; \
             done",
            "orch-git",
        ),
    ]);
}

#[test]
fn what_tools_write_by_themselves_is_no_offence() {
    play_all(&[
        trick(
            "a tracking branch, another remote, sparse checkouts",
            "git init --quiet --bare \"$C/../../remote\"; git remote add fork \"$C/../../remote\"; \
             git add work.txt; git commit --quiet -m work; \
             git push --quiet -u fork HEAD:work; git config user.nickname x; \
             git config extensions.worktreeConfig true; echo ignored >> \"$C/info/exclude\"",
            "",
        ),
        trick("examples of hooks", "cp \"$EVIL\" \"$C/hooks/pre-commit.sample\"", ""),
    ]);
}

#[test]
fn repositories_inside_a_worktree_run_nothing() {
    let inner = "git init --quiet sub; echo y > sub/y; git -C sub add y; \
                 git -C sub -c user.name=x -c user.email=x@x commit --quiet -m x; \
                 git -C sub config core.fsmonitor \"$EVIL\"; \
                 git -C sub config filter.x.clean \"$EVIL\"; \
                 git -C sub config diff.external \"$EVIL\"; \
                 mkdir -p sub/.git/hooks; cp \"$EVIL\" sub/.git/hooks/post-index-change; \
                 echo '* filter=x' > sub/.gitattributes; echo z > sub/y; \
                 git -c protocol.file.allow=always add sub 2>/dev/null";
    let trap = Trap::new();
    for line in [inner, &format!("{inner}; git commit --quiet -m sub; echo z > sub/z")] {
        let outcome = trap.play(line);
        assert_eq!(trap.traces(), "", "{outcome}");
        assert_eq!(outcome.report().status_of("bad"), "failed", "{outcome}");
        assert!(outcome.report().error_of("bad").contains("sub"), "{outcome}");
    }
    let modules = "printf '[submodule \"s\"]\\n\\tpath = s\\n\\turl = -u%s\\n\\tupdate = !%s\\n' \
                   \"$EVIL\" \"$EVIL\" > .gitmodules; \
                   printf '[submodule \"t\"]\\n\\tpath = t\\n\\turl = ext::%s\\n' \"$EVIL\" >> .gitmodules";
    let trap = Trap::new();
    trap.repo.configure("grace = \"1s\"\nworktree_submodules = \"yes\"\n");
    let plan = Plan::new()
        .task("bad", |t| t.shell(&trap.line(modules)))
        .task("next", |t| t.shell("echo next > next.txt").needs(["bad"]));
    let outcome = trap.repo.run(&plan);
    assert_eq!(trap.traces(), "", "{outcome}");
    // Names of submodules that the commit does not have hold nobody up.
    for task in ["bad", "next"] {
        assert_eq!(outcome.report().status_of(task), "merged", "{task}\n{outcome}");
    }
}

#[test]
fn the_programs_would_have_run() {
    let trap = Trap::new();
    trap.play(
        "mkdir -p \"$C/hooks\"; cp \"$EVIL\" \"$C/hooks/pre-commit\"; \
               git config core.fsmonitor \"$EVIL\"; git config filter.x.clean \"$EVIL\"",
    );
    assert_eq!(trap.traces(), "");
    trap.repo.write(".gitattributes", "*.dat filter=x\n");
    trap.repo.write("some.dat", "x\n");
    trap.repo.commit_all("as a person would");
    let traces = trap.traces();
    assert!(traces.contains("pre-commit") && traces.contains("/evil"), "{traces}");
}

#[test]
fn every_task_is_held_while_the_repository_is_not_as_it_was() {
    let trap = Trap::new();
    let repo = &trap.repo;
    let (begun, go) = (repo.signal("begun"), repo.signal("go"));
    let plan = Plan::new()
        .task("bystander", |t| {
            t.script(format!("touch {begun}; wait-for {go}; write bystander.txt 1"))
        })
        .task("bad", |t| {
            let wait = format!("while ! [ -e {begun} ]; do sleep 0.02; done");
            t.shell(&trap.line(&format!("{wait}; git config core.hooksPath /tmp/x; : > {go}")))
        })
        .task("later", |t| t.script("write later.txt 1").after(["bystander"]));
    let outcome = repo.run(&plan);
    let report = outcome.report();
    for task in ["bystander", "bad", "later"] {
        assert_eq!(report.status_of(task), "failed", "{task}\n{outcome}");
        assert!(report.error_of(task).contains("core.hookspath"), "{task}\n{outcome}");
    }
    assert!(outcome.text().contains("another task"), "{outcome}");
    // Put right, and all goes on.
    repo.git(["config", "--unset", "core.hooksPath"]);
    let again = repo.run(&Plan::new().task("later", |t| t.script("write later.txt 1")));
    assert_eq!(again.report().status_of("later"), "merged", "{again}");
}

#[test]
fn a_killed_orchestrator_compares_with_what_the_attempt_began_with() {
    let trap = Trap::new();
    let repo = &trap.repo;
    let (begun, go) = (repo.signal("begun"), repo.signal("go"));
    let plan = Plan::new()
        .task("bad", |t| t.script(format!("touch {begun}; wait-for {go}; write work.txt 1")));
    let mut run = repo.start(&plan);
    run.wait_for_change("bad", "started");
    run.wait_for(&begun);
    run.kill();
    drop(run);
    repo.git(["config", "core.fsmonitor", &trap.evil.to_string_lossy()]);
    go.raise();
    let outcome = repo.orch(["resume"]).with_report().run();
    assert_eq!(trap.traces(), "", "{outcome}");
    let report = outcome.report();
    assert_eq!(report.status_of("bad"), "failed", "{outcome}");
    assert!(report.error_of("bad").contains("core.fsmonitor"), "{outcome}");
}

#[test]
fn odd_names_of_branches_do_no_harm() {
    for target in
        ["-x", "--upload-pack=evil", "ünïcödé/ветка", "a\u{3000}b", "x;touch${IFS}y", "a'b"]
    {
        let repo = TestRepo::new();
        let tip = repo.head();
        // `git branch` would take no name that begins with a dash.
        repo.git(["update-ref", &format!("refs/heads/{target}"), &tip]);
        let plan = Plan::new().set("target", target).task("a", |t| t.script("write a.txt 1"));
        let outcome = repo.run(&plan);
        let moved = repo.git(["rev-parse", &format!("refs/heads/{target}")]) != tip;
        let valid = Command::new("git")
            .args(["check-ref-format", "--branch", target])
            .output()
            .unwrap()
            .status
            .success();
        assert_eq!(moved, valid, "{target}\n{outcome}");
        assert_eq!(outcome.code == Some(0), valid, "{target}\n{outcome}");
        assert!(!repo.path().join("y").exists() && !Path::new("y").exists(), "{target}");
    }
}

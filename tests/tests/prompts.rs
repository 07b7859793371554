//! What agents are told: templates, skills, front matter, and `orch prompt`.

use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt};

use orch_tests::{Plan, RunningOrch, TestRepo};

/// A script like codex, which keeps what it is told as `<task>.<attempt>.told` beside the repository, then
/// does `work`.
fn codex(repo: &TestRepo, work: &str) -> String {
    let path = repo.beside("codex");
    let script = format!(
        r#"#!/bin/sh
case "$*" in *--version*) echo codex-cli 0.169.0; exit;; esac
cat > {folder}/$ORCH_TASK_ID.$ORCH_ATTEMPT.told
echo '{{"type":"thread.started","thread_id":"th-1"}}'
{work}
printf '{{"type":"item.completed","item":{{"id":"i","type":"agent_message","text":"%s is there"}}}}\n' "$ORCH_TASK_ID"
echo '{{"type":"turn.completed","usage":{{"input_tokens":12,"cached_input_tokens":0,"output_tokens":3}}}}'
"#,
        folder = path.parent().expect("a folder").display(),
    );
    fs::write(&path, script).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be changed");
    path.to_str().expect("text").to_owned()
}

fn told(repo: &TestRepo, attempt: &str) -> String {
    fs::read_to_string(repo.beside(&format!("{attempt}.told"))).expect("it was told something")
}

fn start<'r>(repo: &'r TestRepo, plan: &str) -> RunningOrch<'r> {
    let file = repo.plan_file(plan);
    repo.orch([OsStr::new("run"), file.as_os_str(), OsStr::new("--json")]).with_report().spawn()
}

/// What `orch prompt` prints, and nothing else.
fn shown(repo: &TestRepo, arguments: &[&str]) -> String {
    let outcome = repo.orch(["prompt"]).args(arguments).run();
    outcome.assert_code(0);
    outcome.stdout.clone()
}

#[test]
fn what_is_shown_before_is_what_the_agent_gets() {
    let repo = TestRepo::new();
    let coder = codex(&repo, "echo \"$ORCH_TASK_ID\" > \"$ORCH_TASK_ID.sql\"");
    repo.write(".agents/skills/style/SKILL.md", "---\nname: style\n---\nBe brief.\n");
    repo.write(
        "prompts/login.md",
        "---\ntitle: Log people in\nskills: [style, more]\n---\n\nDo it.\n",
    );
    repo.commit_all("prompts");
    let plan = format!(
        "version = 1\n[defaults]\nagent = \"coder\"\n[texts]\nmore = \"And kind.\"\n\
         [agents.coder]\nkind = \"codex\"\ncommand = ['{coder}']\n\
         [[task]]\nid = \"schema\"\ntitle = \"The tables\"\nprompt = \"Make tables.\"\n\
         [[task]]\nid = \"login\"\nneeds = [\"schema\"]\nprompt_file = \"prompts/login.md\"\n\
         locks = [\"gate\"]\nretries = 1\nverify = [\"echo not yet; test $ORCH_ATTEMPT = 2\"]\n"
    );
    repo.orch(["lock", "acquire", "gate"]).run().assert_code(0);
    let mut run = start(&repo, &plan);
    run.wait_for_change("schema", "merged");
    let first = shown(&repo, &["login"]);
    repo.orch(["lock", "release", "gate"]).run().assert_code(0);
    run.wait_for_change("login", "retry");
    assert_eq!(told(&repo, "login.1"), first);
    // Before its second attempt or in it: what is shown is the same.
    let second = shown(&repo, &["login"]);
    run.wait().assert_code(0);
    assert_eq!(told(&repo, "login.2"), second);
    assert_eq!(shown(&repo, &["login"]), second);
    assert_eq!(shown(&repo, &["login", "--attempt", "1"]), first);
    let never = repo.orch(["prompt", "login", "--attempt", "3"]).run();
    never.assert_code(2).assert_stderr(&["attempt 3 of task login", "orch show login"]);

    assert!(
        first.starts_with("Be brief.\n\nAnd kind.\n\n# Task `login`: Log people in\n\nDo it.\n")
    );
    for part in [
        "### `schema`: The tables\n\nMerged as ",
        "- files: `schema.sql`\n",
        "```text\nschema is there\n```",
        "a git worktree of your own on the branch `orch/",
        "- You hold until the end of this attempt: `gate`.\n",
        "- `echo not yet; test $ORCH_ATTEMPT = 2`\n",
    ] {
        assert!(first.contains(part), "{part}\n{first}");
    }
    assert!(second.starts_with("The last attempt at this task has failed (verification): "));
    for part in ["not yet\n", "refs/orch/preserved/", "- files: `login.sql`\n"] {
        assert!(second.contains(part), "{part}\n{second}");
    }
    assert!(!second.contains("Do it."), "the session knows its task\n{second}");
}

#[test]
fn a_plan_that_has_not_been_started_shows_its_prompts() {
    let repo = TestRepo::new();
    repo.write("brief.md", "{{ task }} ({{ expects }}): {{ prompt }}\n");
    let plan = Plan::new()
        .agent("any", &[])
        .task("a", |t| t.prompt("any", "{{ task }}").set("template", "brief.md").needs(["b"]))
        .task("b", |t| t.prompt("any", "as it is").set("template", "none"))
        .task("c", |t| t.prompt("any", "all").set("template", "default").needs(["b"]))
        .task("d", |t| t.shell("true"));
    let file = repo.plan_file(&plan.to_string());
    let file = file.to_str().expect("text");
    assert_eq!(shown(&repo, &["a", "--plan", file]), "a (any): {{ task }}\n");
    assert_eq!(shown(&repo, &["b", "--plan", file]), "as it is");
    let all = shown(&repo, &["c", "--plan", file]);
    assert!(all.starts_with("# Task `c`\n\nall\n\n## What this task builds on\n"), "{all}");
    assert!(all.contains("It has not been done yet.") && all.contains("/run/c`"), "{all}");
    let refused = |task: &str, why| {
        repo.orch(["prompt", task, "--plan", file]).run().assert_code(2).assert_stderr(&[why]);
    };
    refused("d", "task d runs a command: it has no prompt");
    refused("e", "there is no task e");
    assert!(!repo.path().join(".orch/current").exists(), "nothing was begun");
}

#[test]
fn mistakes_are_told_before_anything_starts() {
    let repo = TestRepo::new();
    repo.write("bad.md", "one\n{{ titel }}\n");
    repo.write("front.md", "---\nagnet: any\n---\nDo it.\n");
    std::os::unix::fs::symlink("/etc/passwd", repo.path().join("outside.md")).expect("a link");
    for (key, value, expected) in [
        ("template", "bad.md", ["template bad.md:2: there is no `titel`", "there are action"]),
        ("template", "gone.md", ["there is no file gone.md", "write it, or correct its path"]),
        ("template", "outside.md", ["outside.md can't be read", "leads out of the repository"]),
        ("prompt_file", "front.md", ["front.md:2: unknown key `agnet`", "did you mean `agent`?"]),
    ] {
        let plan = Plan::new().agent("any", &[]).task("a", |t| {
            let t = t.set("agent", "any").set(key, value);
            if key == "prompt_file" { t } else { t.set("prompt", "x") }
        });
        let outcome = repo.run(&plan);
        outcome.assert_code(2).assert_stderr(&expected);
    }
    assert!(!repo.path().join(".orch/current").exists(), "nothing was begun");
}

#[test]
fn what_agents_make_of_prompts_and_templates_changes_nothing_of_a_run() {
    let repo = TestRepo::new();
    repo.write("prompts/b.md", "---\nagent: any\nskills: [style.md]\n---\nwrite b.txt first\n");
    repo.write("prompts/t.md", "{% for skill in skills %}{{ skill.text }}{% endfor %}{{ prompt }}");
    repo.write("style.md", "write style.txt first\n");
    let overwrite = format!(
        "for f in prompts/b.md prompts/t.md style.md; do echo 'exit 9' > {}/$f; done",
        repo.path().display()
    );
    let plan = Plan::new().agent("any", &[]).task("a", |t| t.shell(&overwrite)).task("b", |t| {
        t.set("prompt_file", "prompts/b.md")
            .set("template", "prompts/t.md")
            .lock("gate")
            .needs(["a"])
    });
    repo.orch(["lock", "acquire", "gate"]).run().assert_code(0);
    let mut run = repo.start(&plan);
    run.wait_for_change("a", "merged");
    run.interrupt();
    run.wait().assert_code(130);
    assert_eq!(repo.read("prompts/b.md"), "exit 9\n");
    repo.orch(["lock", "release", "gate"]).run().assert_code(0);
    repo.orch(["resume"]).run().assert_code(0);
    assert_eq!(repo.show("main", "b.txt"), "first\n");
    assert_eq!(repo.show("main", "style.txt"), "first\n");
}

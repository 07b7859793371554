//! The fake agent itself: each statement does what its help says.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use orch_tests::{TestRepo, binary, process_is_alive, until};
use rustix::process::{Pid, Signal, kill_process};

fn command(folder: &Path, script: &str) -> Command {
    let mut command = Command::new(binary::fake_agent());
    command
        .arg(script)
        .current_dir(folder)
        .env("ORCH_TASK_ID", "a")
        .env("ORCH_ATTEMPT", "2")
        .stdin(Stdio::null());
    command
}

fn run(folder: &Path, script: &str) -> Output {
    command(folder, script).output().unwrap()
}

#[track_caller]
fn ok(folder: &Path, script: &str) -> String {
    let output = run(folder, script);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

#[test]
fn files_are_written_read_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let script = "write d/a.txt one; append d/a.txt two; conflict c.txt; cat d/a.txt; rm d/a.txt; \
                  touch t; env ORCH_ATTEMPT e.txt";
    assert_eq!(ok(folder.path(), script), "one\ntwo\n");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!((read("c.txt"), read("t"), read("e.txt")), ("a\n".into(), "".into(), "2\n".into()));
    assert!(!folder.path().join("d/a.txt").exists());
    let failed = run(folder.path(), "cat d/a.txt; touch after");
    assert_eq!(failed.status.code(), Some(70));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("can't read d/a.txt"), "{failed:?}");
    assert!(!folder.path().join("after").exists(), "the script went on after a failure");
}

#[test]
fn commits_are_real() {
    let repo = TestRepo::new();
    ok(repo.path(), "write a.txt hello; commit add a; detach-head; write b.txt x; commit aside");
    assert_eq!(repo.log_subjects("main"), ["add a", "the beginning"]);
    assert_eq!(repo.log_subjects("HEAD")[0], "aside");
    assert_eq!(repo.show("main", "a.txt"), "hello\n");
    let failed = run(repo.path(), "commit nothing to commit");
    assert_eq!(failed.status.code(), Some(70), "{failed:?}");
}

#[test]
fn the_prompt_comes_by_argument_file_or_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt");
    fs::write(&file, "say from a file").unwrap();
    let output =
        Command::new(binary::fake_agent()).arg("--script-file").arg(&file).output().unwrap();
    assert_eq!(output.stdout, b"from a file\n");
    let mut child = Command::new(binary::fake_agent())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"say from\nsay a pipe\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"from\na pipe\n");
    assert!(ok(folder.path(), "--help").contains("fork-grandchild SECONDS"));
}

#[test]
fn wrong_scripts_end_with_64_and_do_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), "touch t; jump high");
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "fake-agent: statement 2, `jump high`: there is no `jump`; see --help\n");
    assert!(!folder.path().join("t").exists());
    assert_eq!(run(folder.path(), "--nonsense").status.code(), Some(64));
}

#[test]
fn it_fails_in_the_attempts_that_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), "fail-times 2; touch t").status.code(), Some(1));
    assert_eq!(run(folder.path(), "fail-times 1; exit 7").status.code(), Some(7));
}

#[test]
fn its_output_is_as_long_as_it_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let flood = ok(folder.path(), "flood 100001");
    assert_eq!(flood.len(), 100_001);
    assert_eq!(flood.lines().next().map(str::len), Some(99));
    assert_eq!(ok(folder.path(), "flood-lines 3"), "line 1\nline 2\nline 3\n");
    let long = ok(folder.path(), "long-line 20000");
    assert_eq!((long.len(), long.lines().count()), (20_000, 1));
    let bytes = run(folder.path(), "invalid-utf8").stdout;
    assert!(std::str::from_utf8(&bytes).is_err());
}

#[test]
fn each_attempt_leaves_one_line_in_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record");
    for _ in 0..2 {
        ok(folder.path(), &format!("record {}", file.display()));
    }
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0][..2], ["a", "2"]);
    assert_ne!(lines[0][2], lines[1][2], "two processes have two ids");
}

fn spawn(repo: &TestRepo, script: &str) -> Child {
    command(repo.path(), script).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn sigterm_is_ignored_on_request_only() {
    let repo = TestRepo::new();
    let (ready, go) = (repo.signal("ready"), repo.signal("go"));
    for (statement, survives) in [("ignore-term; ", true), ("", false)] {
        let _ = fs::remove_file(ready.path());
        let _ = fs::remove_file(go.path());
        let mut child = spawn(&repo, &format!("{statement}touch {ready}; wait-for {go}"));
        ready.wait();
        kill_process(pid(child.id()), Signal::TERM).unwrap();
        if survives {
            go.raise();
        }
        assert_eq!(child.wait().unwrap().success(), survives, "{statement}");
    }
}

/// The session of a process. Read from `/proc`, for it is 0 where the session's leader is outside
/// of a container, which `getsid` of rustix takes for a fault.
fn session_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(3).unwrap().parse().unwrap()
}

#[test]
fn processes_are_left_behind_where_they_should_be() {
    let repo = TestRepo::new();
    for (statement, own_session, holds_output) in [
        ("fork-grandchild", false, false),
        ("setsid-grandchild", true, false),
        ("hold-stdout", false, true),
    ] {
        let (file, go) = (repo.signal(statement), repo.signal(&format!("{statement}-go")));
        let script = format!("{statement} 60 {file}; wait-for {go}; say done");
        let mut child = spawn(&repo, &script);
        let left: u32 = file.text().parse().unwrap();
        assert_eq!(session_of(left) == left, own_session, "{statement}");
        go.raise();
        assert!(child.wait().unwrap().success(), "{statement}");
        assert!(process_is_alive(left), "{statement}");
        let mut stdout = child.stdout.take().unwrap();
        let mut text = [0; 5];
        stdout.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"done\n");
        if holds_output {
            // The pipe ends only with the process that holds it.
            kill_process(pid(left), Signal::KILL).unwrap();
        }
        assert_eq!(stdout.read(&mut text).unwrap(), 0, "{statement}");
        if !holds_output {
            assert!(process_is_alive(left), "{statement}");
            kill_process(pid(left), Signal::KILL).unwrap();
        }
        until("the end of the process", || (!process_is_alive(left)).then_some(()));
    }
}

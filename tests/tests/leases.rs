//! Leases of real processes: values of pools, `orch lock`, deadlocks, and what a killed holder leaves.

use std::{
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use orch_tests::{Interval, Plan, TestRepo, binary, intervals, is_run, until};

/// A line of a script that calls `orch lock`.
fn lock(arguments: &str) -> String {
    format!("{} lock {arguments}", binary::orch().display())
}

/// A script of the shell that runs beside the test, in the repository; killed when it is dropped, alone: what
/// it waits for would be left, so it becomes that by `exec`.
struct Script(Child);

impl Script {
    fn start(repo: &TestRepo, lines: &[String]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &lines.join("\n")]).current_dir(repo.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(repo.isolated(command).spawn().expect("a shell"))
    }

    fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("a child");
    }

    fn code(&mut self) -> Option<i32> {
        self.0.wait().expect("a child").code()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sixteen_tasks_never_share_one_of_eight_ports() {
    let repo = TestRepo::new();
    let ports = repo.beside("ports");
    std::fs::create_dir(&ports).expect("a folder");
    let dir = ports.display();
    let mut plan = Plan::new();
    for number in 0..16 {
        let work = format!(
            "set -e; test \"$PORT\" = \"$PORT_1\"; mkdir {dir}/$PORT_1; mkdir {dir}/$PORT_2; \
             sleep 0.05; echo $PORT_1 $PORT_2 >> {dir}/log"
        );
        let verify = format!("rmdir {dir}/$PORT_1 {dir}/$PORT_2");
        plan = plan.task(format!("t{number}"), |t| {
            t.pool_lock("ports", "3000-3007", 2, "PORT")
                .set("isolation", "none")
                .shell(&work)
                .verify([verify.as_str()])
        });
    }
    let outcome = repo.orch_run(&plan).args(["--json", "-j", "16"]).run();
    outcome.assert_code(0);
    let depth = Interval::depth(intervals(&outcome.events).values().flatten());
    assert!(depth <= 4, "{depth} tasks with two of eight ports each");
    let log = std::fs::read_to_string(ports.join("log")).expect("what they were given");
    assert_eq!(log.lines().count(), 16, "{log}");
    for port in log.split_whitespace() {
        assert!((3000..=3007).contains(&port.parse().expect("a number")), "{log}");
    }
}

#[test]
fn a_deadlock_made_by_hand_is_reported_and_broken_within_a_second() {
    let repo = TestRepo::new();
    let (one, two) = (repo.signal("one"), repo.signal("two"));
    let script =
        |own: &str, other: &str, mine: &orch_tests::Signal, theirs: &orch_tests::Signal| {
            Script::start(
                &repo,
                &[
                    format!("{} || exit 90", lock(&format!("acquire {own}"))),
                    format!("touch {mine}; while ! test -e {theirs}; do sleep 0.01; done"),
                    lock(&format!("acquire {other} --timeout 60s")),
                    // Its end frees what it holds.
                    "exit $?".into(),
                ],
            )
        };
    let mut scripts = [script("x", "y", &one, &two), script("y", "x", &two, &one)];
    until("both hold one", || (one.is_raised() && two.is_raised()).then_some(()));
    let begin = Instant::now();
    let mut codes = scripts.each_mut().map(Script::code);
    let took = begin.elapsed();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(5)], "one is refused, and the other gets its lock");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let list = repo.orch(["lock", "list"]).run();
    list.assert_code(0).assert_stdout(&["no lock is held", "Deadlock broken", "waits for `x`"]);
    let list = repo.orch(["lock", "list", "--json"]).run().json();
    let cycle = &list["locks"]["deadlocks"][0]["cycle"];
    assert_eq!(cycle.as_array().map(Vec::len), Some(2), "{list:#}");
}

#[test]
fn a_deadlock_of_agents_is_a_warning_and_the_victim_can_try_again() {
    let repo = TestRepo::new();
    let (one, two) = (repo.signal("one"), repo.signal("two"));
    let work = |own: &str, other: &str, mine: &orch_tests::Signal, theirs: &orch_tests::Signal| {
        [
            format!("{} || exit 90", lock(&format!("acquire {own}"))),
            format!("touch {mine}; while ! test -e {theirs}; do sleep 0.01; done"),
            format!("{} && exit 0", lock(&format!("acquire {other}"))),
            "test $? = 5 || exit 91".into(),
            lock(&format!("release {own} || exit 92")),
            lock(&format!("acquire {other} || exit 93")),
            lock(&format!("acquire {own}")),
        ]
        .join("\n")
    };
    let plan = Plan::new()
        .task("first", |t| t.shell(&work("x", "y", &one, &two)).set("priority", 1))
        .task("second", |t| t.shell(&work("y", "x", &two, &one)));
    let outcome = repo.orch_run(&plan).args(["--json", "-j", "2"]).run();
    outcome.assert_code(0);
    let warnings: Vec<&str> = outcome
        .events
        .iter()
        .filter(|event| is_run(event, "warning"))
        .filter_map(|event| event["message"].as_str())
        .collect();
    let [warning] = warnings[..] else { panic!("{warnings:?}\n{outcome}") };
    assert!(warning.starts_with("deadlock: task "), "{warning}");
    assert!(warning.contains("the request of task second of run"), "{warning}");
    repo.orch(["status"]).run().assert_stdout(&["Deadlock broken", "task second"]);
    repo.orch(["lock", "list"]).run().assert_stdout(&["no lock is held"]);
}

#[test]
fn what_an_agent_took_is_freed_when_its_attempt_ends() {
    let repo = TestRepo::new();
    let take = lock("acquire db --timeout 0s");
    let list = format!("{} | grep 'db .*task holder'", lock("list"));
    let plan = Plan::new()
        .task("holder", |t| t.shell(&take).verify([list.as_str()]))
        .task("next", |t| t.shell(&take).after(["holder"]))
        .task("third", |t| t.shell(&format!("{take} && {}", lock("release db"))).after(["next"]));
    repo.orch_run(&plan).run().assert_code(0);
    let plan = Plan::new().task("planned", |t| {
        t.lock("db").shell(&format!("{take} && {}; {}", lock("release db"), lock("release db")))
    });
    let outcome = repo.orch_run(&plan).run();
    outcome.assert_code(1).assert_stdout(&["the plan gives `db` to task planned"]);
}

#[test]
fn a_killed_holder_frees_its_leases_at_once_and_a_live_one_keeps_them() {
    let repo = TestRepo::new();
    let held = repo.signal("held");
    let mut holder = Script::start(
        &repo,
        &[lock("acquire db"), format!("touch {held}"), "exec sleep 300".into()],
    );
    until("it is held", || held.is_raised().then_some(()));
    let try_it = || repo.orch(["lock", "acquire", "db", "--timeout", "0s", "--pid", "1"]).run();
    try_it().assert_code(4).assert_stderr(&["`db` was not free", "held by process"]);
    let waiter = repo.orch(["lock", "acquire", "db", "--timeout", "60s"]).spawn();
    until("somebody waits", || {
        repo.orch(["lock", "list"]).run().stdout.contains("waits: alone").then_some(())
    });
    let begin = Instant::now();
    holder.kill();
    waiter.wait().assert_code(0);
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    repo.orch(["lock", "release", "db"]).run().assert_code(0);
}

#[test]
fn a_lease_outlives_the_orchestrator_while_the_agent_lives() {
    let repo = TestRepo::new();
    let (held, go) = (repo.signal("held"), repo.signal("go"));
    let script = format!("touch {held}; wait-for {go}");
    let plan = Plan::new().task("holder", |t| t.lock("db").script(script));
    let mut run = repo.start(&plan);
    run.wait_for(&held);
    run.kill();
    assert_eq!(run.wait().code, None);
    let take = |timeout: &str| {
        repo.orch(["lock", "acquire", "db", "--pid", "1", "--timeout", timeout]).run()
    };
    take("0s").assert_code(4).assert_stderr(&["held by task holder"]);
    go.raise();
    take("60s").assert_code(0);
}

#[test]
fn repositories_that_share_a_folder_exclude_one_another() {
    let (one, two) = (TestRepo::new(), TestRepo::new());
    let shared = one.beside("shared-locks");
    for repo in [&one, &two] {
        repo.configure(&format!("lock_dir = \"{}\"\n", shared.display()));
    }
    let take = ["lock", "acquire", "db", "--timeout", "0s", "--pid", "1"];
    let plan = Plan::new().task("holder", |t| {
        let there = two.path().display();
        let other = lock(&format!("acquire db --timeout 0s --pid $$ -C {there}; test $? = 4"));
        t.lock("db").shell(&other)
    });
    one.orch_run(&plan).run().assert_code(0);
    one.orch(take).run().assert_code(0);
    two.orch(["lock", "list"]).run().assert_stdout(&["db", "alone"]);
    assert!(!two.path().join(".orch/locks").exists());
}

/// A folder that every user can reach, with a copy of `orch` in it.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("orch-users-").tempdir().expect("a folder");
        let shared = Self(folder);
        shared.mode("", 0o755);
        // That of the build may be in a folder that only one user can reach.
        std::fs::copy(binary::orch(), shared.path("orch")).expect("a copy");
        std::fs::create_dir(shared.path("locks")).expect("a folder");
        shared
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(name), mode).expect("it is ours");
    }

    /// `orch lock` as a user, with a umask that keeps others out: its exit code and what it said.
    fn lock(&self, (uid, gid): (u32, u32), arguments: &str) -> (Option<i32>, String) {
        let home = self.path(&format!("home-{uid}"));
        std::fs::create_dir_all(&home).expect("a folder");
        chown(&home, Some(uid), Some(gid)).expect("root may do that");
        let line = format!("umask 077; exec \"$0\" lock {arguments}");
        let output = Command::new("/bin/sh")
            .args(["-c", &line])
            .arg(self.path("orch"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &home)
            .env("ORCH_LOCK_DIR", self.path("locks"))
            .current_dir(&home)
            .uid(uid)
            .gid(gid)
            .output()
            .expect("a shell");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

const GROUP: u32 = 54_321;
const ANN: (u32, u32) = (54_001, GROUP);
const BOB: (u32, u32) = (54_002, GROUP);
const STRANGER: (u32, u32) = (54_003, 54_003);

#[test]
#[expect(clippy::print_stderr, reason = "a test that can't test anything says so")]
fn users_of_a_group_share_a_folder_of_locks() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can be several users");
    }
    let shared = Shared::new();
    // Each for a process of its own, which lives.
    let pid = |user| if user == ANN { 1 } else { std::process::id() };
    let acquire = |user, what: &str| {
        shared.lock(user, &format!("acquire {what} --pid {} --timeout 0s", pid(user)))
    };
    // Without preparation the first one who comes is told.
    let (code, said) = acquire(ANN, "db");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("chmod 2775"), "{said}");

    chown(shared.path("locks"), None, Some(GROUP)).expect("root may do that");
    shared.mode("locks", 0o2775);
    for (user, other) in [(ANN, BOB), (BOB, ANN)] {
        let (code, said) = acquire(user, "db");
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = acquire(other, "db");
        assert_eq!(code, Some(4), "{said}");
        let (code, said) = shared.lock(user, &format!("release db --pid {}", pid(user)));
        assert_eq!(code, Some(0), "{said}");
    }
    let pool = "ports --range 3000-3001";
    let values = [ANN, BOB].map(|user| acquire(user, pool));
    assert_eq!(values, [(Some(0), "3000\n".into()), (Some(0), "3001\n".into())]);
    assert_eq!(acquire(STRANGER, pool).0, Some(3), "no user of the group");
    let (code, list) = shared.lock(BOB, "list");
    assert_eq!(code, Some(0), "{list}");
    assert!(list.contains("ports"), "{list}");

    shared.mode("locks", 0o3775);
    let (code, said) = acquire(ANN, "more");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("chmod -t"), "{said}");
}

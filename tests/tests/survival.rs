//! Orchestrators and supervisors that are killed, and agents that go on.

use std::{collections::BTreeMap, fs, path::Path};

use orch_tests::{Plan, Signal, TestRepo, process_is_alive, until};
use rustix::process::{Pid, Signal as Kill, kill_process};

/// The lines that agents recorded: task, attempt, process.
fn recorded(record: &Signal) -> Vec<(String, u32, u32)> {
    let text = fs::read_to_string(record.path()).unwrap_or_default();
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [task, attempt, pid] = words[..] else { panic!("{line}") };
            (task.into(), attempt.parse().expect("a number"), pid.parse().expect("a pid"))
        })
        .collect()
}

fn all_recorded(record: &Signal, count: usize) -> Vec<(String, u32, u32)> {
    until("the agents' start", || Some(recorded(record)).filter(|lines| lines.len() == count))
}

/// The process that started this one.
fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is alive");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    line.trim().parse().expect("a pid")
}

fn kill(pid: u32) {
    send(pid, Kill::KILL);
}

fn send(pid: u32, signal: Kill) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("it is alive");
}

fn wait_for_end(pid: u32) {
    until(&format!("the end of process {pid}"), || (!process_is_alive(pid)).then_some(()));
}

/// The supervisor of the agents, which are no children of the orchestrator.
fn supervisor_of(agents: &[(String, u32, u32)]) -> u32 {
    let supervisor = parent(agents[0].2);
    let name = fs::read_to_string(format!("/proc/{supervisor}/cmdline")).expect("it is alive");
    assert!(name.starts_with("orch-supervisor\0"), "{name:?}");
    supervisor
}

fn log(repo: &TestRepo, run: &str, name: &str) -> String {
    let path = repo.path().join(".orch/runs").join(run).join("logs").join(name);
    fs::read_to_string(path).unwrap_or_default()
}

fn the_run(repo: &TestRepo) -> String {
    let mut runs = fs::read_dir(repo.path().join(".orch/runs")).expect("a run");
    runs.next().expect("a run").expect("a run").file_name().into_string().expect("a name")
}

fn no_leftovers(repo: &TestRepo) {
    assert!(repo.worktrees().is_empty(), "{:?}", repo.worktrees());
    let folder = repo.path().join(".orch/runs").join(the_run(repo));
    until("the end of the supervisor", || {
        (!Path::exists(&folder.join("supervisor.sock"))).then_some(())
    });
}

#[test]
fn agents_outlive_their_orchestrator_and_are_taken_up() {
    let repo = TestRepo::new();
    let record = repo.signal("record");
    let (early, late) = (repo.signal("early"), repo.signal("late"));
    let mut plan = Plan::new().set("max_concurrency", 10);
    for n in 0..10 {
        let go = if n < 5 { &early } else { &late };
        plan = plan.task(format!("t{n}"), |t| {
            t.script(format!(
                "say before; record {record}; wait-for {go}; say after; write {n}.txt {n}"
            ))
        });
    }
    plan = plan.task("last", |t| t.script("cat 0.txt; cat 9.txt").needs(["t0", "t9"]));
    let mut run = repo.start(&plan);
    let agents = all_recorded(&record, 10);
    let supervisor = supervisor_of(&agents);
    assert_ne!(supervisor, run.pid());
    run.next_event(|event| orch_tests::is_task(event, "t9", "started"));
    run.kill();
    let _ = run.wait();
    assert!(agents.iter().all(|(_, _, pid)| process_is_alive(*pid)));

    // Five end while nobody is there, five after the next orchestrator has come.
    early.raise();
    for (task, _, pid) in &agents {
        if task < &"t5".to_owned() {
            wait_for_end(*pid);
        }
    }
    let mut resumed = repo.orch(["resume", "--json"]).with_report().spawn();
    resumed.wait_for_change("t0", "merged");
    assert!(agents.iter().all(|(task, _, pid)| task < &"t5".to_owned() || process_is_alive(*pid)));
    late.raise();
    let outcome = resumed.wait();
    outcome.assert_code(0);

    assert_eq!(recorded(&record).len(), 10, "none was started again");
    let report = outcome.report();
    for (task, ..) in &agents {
        assert_eq!(report.task(task)["attempts"], 1);
        assert_eq!(log(&repo, &report.run_id(), &format!("{task}.1.log")), "before\nafter\n");
        assert_eq!(repo.show("main", &format!("{}.txt", &task[1..])), format!("{}\n", &task[1..]));
    }
    no_leftovers(&repo);
}

#[test]
fn a_time_limit_goes_on_from_its_beginning() {
    let repo = TestRepo::new();
    let record = repo.signal("record");
    let plan = Plan::new()
        .task("slow", |t| t.set("timeout", "1s").script(format!("record {record}; hang")));
    let mut run = repo.start(&plan);
    run.next_event(|event| orch_tests::is_task(event, "slow", "started"));
    run.kill();
    let _ = run.wait();
    let pid = all_recorded(&record, 1)[0].2;
    // The limit passes while nobody looks.
    let began = std::time::Instant::now();
    until("the time limit", || (began.elapsed().as_millis() > 1000).then_some(()));
    assert!(process_is_alive(pid), "only an orchestrator ends it");
    let outcome = repo.orch(["resume"]).with_report().run();
    outcome.assert_code(1);
    assert!(outcome.report().error_of("slow").contains("1s"), "{outcome}");
    assert!(!process_is_alive(pid));
}

#[test]
fn agents_that_were_frozen_go_on_when_they_are_taken_up() {
    let repo = TestRepo::new();
    let (begun, go) = (repo.signal("begun"), repo.signal("go"));
    let plan = Plan::new()
        .task("a", |t| t.script(format!("touch {begun}; wait-for {go}; write a.txt 1; commit a")));
    let mut run = repo.start(&plan);
    run.wait_for(&begun);
    repo.orch(["pause", "--freeze"]).run().assert_code(0);
    run.kill();
    let outcome = run.wait();
    assert_eq!(outcome.signal, Some(9), "{outcome}");
    go.raise();
    repo.orch(["resume"]).run().assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "1\n");
}

#[test]
fn the_attempts_of_a_killed_supervisor_are_repeated_and_not_charged() {
    let repo = TestRepo::new();
    let (record, go) = (repo.signal("record"), repo.signal("go"));
    let mut plan = Plan::new();
    for n in 0..3 {
        plan = plan.task(format!("t{n}"), |t| {
            t.script(format!("record {record}; wait-for {go}; write {n}.txt {n}"))
        });
    }
    let run = repo.start(&plan);
    let agents = all_recorded(&record, 3);
    kill(supervisor_of(&agents));
    for (_, _, pid) in &agents {
        wait_for_end(*pid);
    }
    all_recorded(&record, 6);
    go.raise();
    let outcome = run.wait();
    outcome.assert_code(0);
    let report = outcome.report();
    for n in 0..3 {
        assert_eq!(report.task(&format!("t{n}"))["attempts"], 2, "{outcome}");
    }
    no_leftovers(&repo);
}

/// A run whose orchestrator was killed, and whose only agent goes on until the signal is raised.
fn left_alone(repo: &TestRepo, go: &Signal) -> u32 {
    let record = repo.signal("record");
    let plan = Plan::new()
        .task("a", |t| t.script(format!("record {record}; wait-for {go}; write a.txt 1")));
    let run = repo.start(&plan);
    all_recorded(&record, 1);
    let pid = run.pid();
    run.kill();
    let _ = run.wait();
    pid
}

#[test]
fn whoever_finds_a_run_without_its_orchestrator_is_asked_on_a_terminal() {
    for (command, answer) in [("status", "y\n"), ("ps", "\n"), ("run", "yes\n")] {
        let repo = TestRepo::new();
        let go = repo.signal("go");
        left_alone(&repo, &go);
        go.raise();
        let other = Plan::new().task("b", |t| t.script("write b.txt 1"));
        let call = if command == "run" { repo.orch_run(&other) } else { repo.orch([command]) };
        let outcome = call.typed(answer).run();
        outcome.assert_code(0).assert_stdout(&["is gone", "Resume it now", "[Y/n]"]);
        assert_eq!(repo.show("main", "a.txt"), "1\n", "{command}: {outcome}");
        assert!(!repo.path().join("b.txt").exists(), "{command}: {outcome}");
    }
}

#[test]
fn a_run_without_its_orchestrator_is_left_where_nobody_wants_it() {
    let repo = TestRepo::new();
    let go = repo.signal("go");
    let pid = left_alone(&repo, &go);
    let cure = format!("orch resume {}", the_run(&repo));
    repo.orch(["status"]).typed("n\n").run().assert_code(0).assert_stdout(&["Resume it now"]);
    // Nobody sits there.
    let outcome = repo.orch(["status"]).run();
    outcome.assert_code(0).assert_stdout(&["is gone", "`orch resume`"]);
    assert!(!outcome.text().contains("[Y/n]"), "{outcome}");
    let gone = format!("its orchestrator (process {pid}) is gone");
    let outcome = repo.orch(["ps"]).run();
    outcome.assert_code(0).assert_stderr(&[&gone, &cure]);
    assert!(!outcome.text().contains("[Y/n]"), "{outcome}");
    let other = Plan::new().task("b", |t| t.script("write b.txt 1"));
    let outcome = repo.run(&other);
    outcome.assert_code(0).assert_stderr(&[&gone, &cure]);
    assert_eq!(repo.show("main", "b.txt"), "1\n");
    go.raise();
    repo.orch(["resume"]).run().assert_code(0);
    assert_eq!(repo.show("main", "a.txt"), "1\n");
    // One that has ended is told of by nobody.
    let outcome = repo.orch(["ps"]).run();
    assert!(!outcome.text().contains("is gone"), "{outcome}");
}

#[test]
fn a_supervisor_that_was_stopped_is_named_and_goes_on() {
    let repo = TestRepo::new();
    let (record, go) = (repo.signal("record"), repo.signal("go"));
    let plan = Plan::new()
        .task("a", |t| t.script(format!("record {record}; wait-for {go}; write a.txt 1")));
    let run = repo.start(&plan);
    let agents = all_recorded(&record, 1);
    let supervisor = supervisor_of(&agents);
    run.kill();
    let _ = run.wait();
    send(supervisor, Kill::STOP);
    let cure = format!("kill -CONT {supervisor}");
    repo.orch(["resume"]).run().assert_code(3).assert_stderr(&["does not answer", &cure]);
    send(supervisor, Kill::CONT);
    go.raise();
    repo.orch(["resume"]).run().assert_code(0);
    assert_eq!(recorded(&record).len(), 1, "it was not started again");
    no_leftovers(&repo);
}

#[test]
fn a_supervisor_that_is_stopped_in_a_run_is_named_and_goes_on() {
    let repo = TestRepo::new();
    let (record, go) = (repo.signal("record"), repo.signal("go"));
    let plan = Plan::new()
        .task("a", |t| t.script(format!("record {record}; wait-for {go}; write a.txt 1")));
    let run = repo.start(&plan);
    let supervisor = supervisor_of(&all_recorded(&record, 1));
    let journal = repo.path().join(".orch/runs").join(the_run(&repo)).join("journal");
    let says = |what: String| {
        until(&what, || fs::read_to_string(&journal).ok()?.contains(&what).then_some(()));
    };
    // The list of processes is written within a second.
    until("the list of processes", || {
        repo.orch(["ps"]).run().text().contains("running").then_some(())
    });
    send(supervisor, Kill::STOP);
    let cure = format!("kill -CONT {supervisor}");
    // A signal takes effect when the process is next looked at.
    until("the status", || repo.orch(["status"]).run().stdout.contains(&cure).then_some(()));
    says(cure.clone());
    go.raise();
    send(supervisor, Kill::CONT);
    says(format!("(process {supervisor}) answers again"));
    let outcome = run.wait();
    outcome.assert_code(0);
    assert!(outcome.text().contains(&cure), "{outcome}");
    assert_eq!(outcome.report().task("a")["attempts"], 1, "{outcome}");
    no_leftovers(&repo);
}

#[test]
fn where_both_are_killed_results_are_kept_and_the_rest_is_repeated() {
    let repo = TestRepo::new();
    let record = repo.signal("record");
    let (first, second) = (repo.signal("first"), repo.signal("second"));
    let plan = Plan::new()
        .task("ended", |t| t.script(format!("record {record}; wait-for {first}; write a.txt 1")))
        .task("running", |t| {
            t.script(format!("record {record}; wait-for {second}; write b.txt 2"))
        });
    let run = repo.start(&plan);
    let agents = all_recorded(&record, 2);
    let pids: BTreeMap<_, _> = agents.iter().map(|(task, _, pid)| (task.as_str(), *pid)).collect();
    let supervisor = supervisor_of(&agents);
    run.kill();
    let _ = run.wait();
    first.raise();
    wait_for_end(pids["ended"]);
    let folder = repo.path().join(".orch/runs").join(the_run(&repo));
    until("the written end", || {
        let text = fs::read_to_string(folder.join("supervisor.jsonl")).ok()?;
        text.contains("\"ended\":{").then_some(())
    });
    kill(supervisor);
    wait_for_end(supervisor);
    assert!(process_is_alive(pids["running"]));

    second.raise();
    let outcome = repo.orch(["resume"]).with_report().run();
    outcome.assert_code(0);
    assert_eq!(outcome.report().task("ended")["attempts"], 1, "{outcome}");
    assert_eq!(outcome.report().task("running")["attempts"], 2, "{outcome}");
    assert!(!process_is_alive(pids["running"]));
    no_leftovers(&repo);
}

#[test]
fn what_left_the_group_of_an_agent_is_ended_with_it() {
    let repo = TestRepo::new();
    let pid = repo.signal("pid");
    let plan = Plan::new()
        .task("parent", |t| t.script(format!("setsid-grandchild 1000 {pid}; write a.txt 1")));
    let outcome = repo.run(&plan);
    outcome.assert_code(0);
    let left = pid.text().trim().parse().expect("a pid");
    assert!(!process_is_alive(left), "{outcome}");
    assert!(outcome.text().contains("left behind"), "{outcome}");
    no_leftovers(&repo);
}

/// Starts a process that no one can attribute: in a session of its own, without its variables.
fn unknown(pid: &Signal) -> String {
    format!(
        "(env -i setsid sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000' \
         < /dev/null > /dev/null 2>&1 &); while ! [ -e {pid} ]; do sleep 0.01; done"
    )
}

fn pid_in(signal: &Signal) -> u32 {
    until("a pid", || signal.text().trim().parse().ok())
}

#[test]
fn what_left_its_group_and_cleared_its_environment_is_ended_by_the_control_group() {
    let repo = TestRepo::new();
    let Some(folder) = repo.control_groups() else { return };
    let pid = repo.signal("pid");
    let shell = format!("{}; echo 1 > a.txt", unknown(&pid));
    let outcome = repo.run(&Plan::new().task("parent", |t| t.shell(&shell)));
    outcome.assert_code(0);
    assert!(!process_is_alive(pid_in(&pid)), "{outcome}");
    assert!(outcome.text().contains("left behind"), "{outcome}");
    no_leftovers(&repo);
    let group = folder.join(format!("orch-{}", the_run(&repo)));
    until("the end of the control group", || (!group.exists()).then_some(()));
}

#[test]
fn a_successor_ends_what_a_killed_supervisor_had_in_its_control_group() {
    let repo = TestRepo::new();
    let Some(folder) = repo.control_groups() else { return };
    let (pid, parent, go) = (repo.signal("pid"), repo.signal("parent"), repo.signal("go"));
    let shell = format!(
        "if ! [ -e {pid} ]; then {}; echo $PPID > {parent}; fi; \
         while ! [ -e {go} ]; do sleep 0.05; done; echo 1 > a.txt",
        unknown(&pid)
    );
    let run = repo.start(&Plan::new().task("a", |t| t.shell(&shell)));
    let supervisor = pid_in(&parent);
    let unknown = pid_in(&pid);
    run.kill();
    let _ = run.wait();
    kill(supervisor);
    wait_for_end(supervisor);
    assert!(process_is_alive(unknown));
    go.raise();
    repo.orch(["resume"]).run().assert_code(0);
    assert!(!process_is_alive(unknown));
    no_leftovers(&repo);
    let group = folder.join(format!("orch-{}", the_run(&repo)));
    until("the end of the control group", || (!group.exists()).then_some(()));
}

/// It forks on and on, in sessions of its own too, ignores SIGTERM, leaves its output in the hands of
/// others and floods it.
const WORST: &str = "trap '' TERM; \
    setsid sh -c 'while :; do sleep 1000 & sleep 0.01; done' & \
    (while :; do (setsid sleep 1000 &); sleep 0.01; done) & \
    while :; do sleep 1000 & sleep 0.01; done & \
    exec yes a flood of output";

#[test]
fn the_worst_agent_is_ended_and_harms_no_other() {
    let repo = TestRepo::new();
    repo.configure("grace = \"300ms\"\n");
    let plan = Plan::new()
        .task("worst", |t| t.shell(WORST).set("timeout", "1s").set("max_output", "1MiB"))
        .task("beside", |t| t.script("sleep 0.5; write beside.txt 1"))
        .task("after", |t| t.script("write after.txt 1").needs(["beside"]));
    let outcome = repo.run(&plan);
    outcome.assert_code(1);
    let report = outcome.report();
    report.assert_statuses(&[("worst", "failed"), ("beside", "merged"), ("after", "merged")]);
    let log = log(&repo, &report.run_id(), "worst.1.log");
    assert!(log.contains("bytes of output cut here"), "the flood is cut");
    assert!(log.len() < (1 << 20) + 200, "{} bytes are kept", log.len());
    let mine = format!("ORCH_RUN_ID={}", report.run_id());
    let left: Vec<_> = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mine.as_bytes())
        })
        .filter(|pid| process_is_alive(*pid))
        .collect();
    assert!(left.is_empty(), "{left:?} are left");
    assert_eq!(repo.show("main", "after.txt"), "1\n");
}

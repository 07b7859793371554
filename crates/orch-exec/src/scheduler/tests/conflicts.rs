//! What conflicts lead to.

use orch_model::{EventKind, RunStatus};

use super::*;

fn settings(max: u32, waves: bool) -> RunSettings {
    use orch_model::plan::spec::Schedule;
    let schedule = if waves { Schedule::Waves } else { Schedule::Ready };
    RunSettings { schedule, ..slots(max) }
}

fn resolve(run: &mut Drive, task: &str) -> String {
    let mut state = run.scheduler.state().clone();
    let kinds = [
        EventKind::RunReopened { pid: 2 },
        EventKind::Task { task: id(task), change: orch_model::TaskChange::Resolved },
    ];
    for kind in kinds {
        let event = Event { seq: state.seq + 1, at: time(run.now), kind };
        state.apply(&event).expect("a legal event");
        run.events.push(event);
    }
    run.scheduler = Scheduler::new(Arc::clone(&run.plan), state, |_| None);
    run.tell(Input::Begin)
}

#[test]
fn a_task_that_waits_for_a_person_holds_up_what_needs_it_and_nothing_else() {
    let (mut run, _) = Drive::begin("a !manual\nb <a\nc ~a\nd", settings(1, false));
    assert_eq!(run.conflict("a"), "d");
    assert_eq!((run.state("b"), run.state("c")), ("blocked", "blocked"));
    assert_eq!(run.succeed("d"), "end");
    assert_eq!(run.scheduler.state().status, RunStatus::Conflicted);
    assert_eq!(run.reopen(), "end", "nobody resolved it");
    assert_eq!(resolve(&mut run, "a"), "adopt:a#1");
    let merged = run.end("a", UnitEnd::Merged(Merged::Nothing));
    assert_eq!(merged, "b");
    assert_eq!(run.succeed("b"), "c");
    assert_eq!(run.succeed("c"), "end");
    assert_eq!(run.scheduler.state().status, RunStatus::Succeeded);
}

#[test]
fn a_resolution_that_conflicts_again_waits_again() {
    let (mut run, _) = Drive::begin("a !manual", slots(1));
    assert_eq!(run.conflict("a"), "end");
    assert_eq!(resolve(&mut run, "a"), "adopt:a#1");
    assert_eq!(run.end("a", conflicted()), "end");
    assert_eq!(run.scheduler.state().status, RunStatus::Conflicted);
}

#[test]
fn a_cancelled_task_that_conflicts_is_not_run_again() {
    let (mut run, _) = Drive::begin("a r3 !retry", slots(1));
    run.verify("a");
    assert_eq!(run.cancel("a"), "cancel:a");
    assert_eq!(run.end("a", conflicted()), "end");
    assert_eq!(run.state("a"), "conflicted");
}

#[test]
fn a_wave_that_can_not_end_ends_the_run() {
    let text = "a !manual\nb <a\nc\nd <c\ne <d";
    let (mut run, first) = Drive::begin(text, settings(2, true));
    assert_eq!(first, "c a");
    run.conflict("a");
    assert_eq!(run.succeed("c"), "d");
    assert_eq!(run.succeed("d"), "end", "e is behind the wave of b, which waits");
    assert_eq!((run.state("b"), run.state("e")), ("blocked", "queued"));
    assert_eq!(resolve(&mut run, "a"), "adopt:a#1");
    assert_eq!(run.end("a", UnitEnd::Merged(Merged::Nothing)), "b");
    assert_eq!(run.succeed("b"), "e");
}

#[test]
fn a_run_on_hold_can_be_cancelled_and_a_conflict_stops_no_run_that_a_person_can_help() {
    let stop = RunSettings { on_failure: orch_model::plan::spec::OnFailure::Stop, ..slots(1) };
    let (mut run, _) = Drive::begin("a !manual\nb\nc <a", stop);
    assert_eq!(run.conflict("a"), "b");
    run.tell(Input::Cancel);
    assert_eq!(run.end("b", UnitEnd::Stopped(StopReason::Cancelled)), "end");
    assert_eq!(run.scheduler.state().status, RunStatus::Cancelled);
    assert_eq!((run.state("a"), run.state("c")), ("conflicted", "cancelled"));
}

#[test]
fn a_retry_on_the_new_base_is_not_charged_and_has_a_limit() {
    let (mut run, _) = Drive::begin("a !retry", slots(1));
    for attempt in 2..=5 {
        let said = run.conflict("a");
        let wake = said.strip_prefix("wake@").expect("a pause").parse().expect("a time");
        assert_eq!(run.tell_at(wake, Input::Tick), format!("a#{attempt}"));
    }
    assert_eq!(run.conflict("a"), "end");
    let task = &run.scheduler.state().tasks[0];
    assert_eq!((run.state("a"), task.charged, task.failures["conflict"]), ("conflicted", 0, 4));
    let last = task.last_failure.as_ref().expect("a failure");
    assert_eq!(last.conflict.as_ref().expect("what conflicted").files, ["x"]);
}

#[test]
fn a_merge_that_is_interrupted_is_repeated_and_not_the_work() {
    let (mut run, _) = Drive::begin("a", slots(1));
    run.verify("a");
    assert_eq!(run.tell(Input::Interrupt), "stop:a");
    assert_eq!(run.end("a", UnitEnd::Stopped(StopReason::Interrupted)), "end");
    assert_eq!(run.scheduler.state().status, RunStatus::Interrupted);
    assert_eq!((run.state("a"), run.reopen()), ("merging", "adopt:a#1".into()));
}

#[test]
fn a_conflict_is_foreseen_once_for_each_pair_and_list_of_files() {
    let (mut run, _) = Drive::begin("a\nb", slots(2));
    let tasks = [at(&run.plan, "a"), at(&run.plan, "b")];
    let seen = |run: &Drive| {
        let told = |event: &&Event| matches!(event.kind, EventKind::ConflictExpected { .. });
        run.events.iter().filter(told).count()
    };
    let told = [
        (vec![], 0),
        (vec!["f"], 1),
        (vec!["f"], 1),
        (vec!["f", "g"], 2),
        (vec![], 3),
        (vec![], 3),
        (vec!["f"], 4),
    ];
    for (files, count) in told {
        let files: Vec<String> = files.into_iter().map(str::to_owned).collect();
        run.tell(Input::ConflictExpected { tasks, files });
        assert_eq!(seen(&run), count);
    }
    assert_eq!(run.scheduler.state().expected_conflicts.len(), 1);
    run.succeed("a");
    run.tell(Input::ConflictExpected { tasks, files: vec!["late".into()] });
    assert_eq!(seen(&run), 4, "one of them has ended");
}

//! How tasks and runs end, and what follows.

use orch_model::{
    RunStatus, TaskState,
    event::{Delivery, RunSettings},
    outcome::{Failure, StopReason},
    plan::spec::OnFailure,
    state::SkipReason,
};

use crate::internal::Decision;

use super::{
    Command, Drive, Input, Scheduler, UnitEnd, UnitReport, agent_failed, at, begun, plan, slots,
    time,
};

fn stop_on_failure(max: u32) -> RunSettings {
    RunSettings { on_failure: OnFailure::Stop, ..slots(max) }
}

fn status(run: &Drive) -> RunStatus {
    run.scheduler.state().status
}

#[test]
fn a_failure_is_repeated_after_a_pause_that_grows() {
    let (mut run, _) = Drive::begin("a r2", slots(1));
    let wait = run.fail("a");
    let first: u64 = wait.strip_prefix("wake@").expect("a pause").parse().unwrap();
    assert!((50..=100).contains(&first), "{first}");
    assert_eq!(
        run.why("a"),
        format!("the next attempt at {} (ended with exit code 1)", time(first))
    );
    assert_eq!(run.tell_at(first - 1, Input::Tick), "");
    assert_eq!(run.tell_at(first, Input::Tick), "a#2");
    let wait = run.fail("a");
    let second: u64 = wait.strip_prefix("wake@").expect("a pause").parse().unwrap();
    assert!((100..=200).contains(&(second - first)), "{first} {second}");
    assert_eq!(run.tell_at(second, Input::Tick), "a#3");
    assert_eq!(run.fail("a"), "end");
    assert_eq!((run.state("a"), status(&run)), ("failed", RunStatus::Failed));
    assert_eq!(run.scheduler.state().tasks[0].charged, 3);
}

#[test]
fn what_can_not_end_otherwise_is_not_repeated() {
    let (mut run, _) = Drive::begin("a r2", slots(1));
    let failure = Failure::Spawn { message: "no such program".into() };
    assert!(!run.scheduler.will_retry(at(&run.plan, "a"), &failure));
    assert!(run.scheduler.will_retry(at(&run.plan, "a"), &agent_failed()));
    assert_eq!(run.end("a", UnitEnd::Failed(failure)), "end");
    assert_eq!(run.state("a"), "failed");
}

#[test]
fn what_the_task_can_not_help_has_a_budget_of_its_own() {
    let (mut run, _) = Drive::begin("a", slots(1));
    let failure = || Failure::Infrastructure { message: "git failed".into() };
    let bound = failure().policy().bound;
    for attempt in 1..bound {
        assert!(run.end("a", UnitEnd::Failed(failure())).starts_with("wake@"), "{attempt}");
        // The budget is that of the run, whoever carries it out.
        run.reopen();
        run.now += 60_000;
        assert_eq!(run.tell(Input::Tick), format!("a#{}", attempt + 1));
    }
    assert_eq!(run.end("a", UnitEnd::Failed(failure())), "end");
    let task = &run.scheduler.state().tasks[0];
    assert_eq!((run.state("a"), task.charged, task.attempts), ("failed", 0, bound));
}

#[test]
fn a_machine_that_is_short_of_something_gets_time() {
    let (mut run, _) = Drive::begin("a", slots(1));
    let failure = Failure::ResourceShortage { message: "memory".into() };
    let least = failure.policy().least_pause.as_millis();
    assert_eq!(run.end("a", UnitEnd::Failed(failure)), format!("wake@{least}"));
}

#[test]
fn a_timeout_is_repeated_too() {
    let (mut run, _) = Drive::begin("a r1", slots(1));
    let after = orch_model::Span::from_secs(1);
    run.report("a", UnitReport::Started(None));
    run.report("a", UnitReport::Stopping(StopReason::Timeout { after }));
    assert_eq!(run.state("a"), "stopping");
    assert!(run.end("a", UnitEnd::Failed(Failure::Timeout { after })).starts_with("wake@"));
    assert_eq!(run.state("a"), "backoff");
}

#[test]
fn what_needs_a_failed_task_is_skipped() {
    let (mut run, _) = Drive::begin("a\nb <a\nc <b\nd ~b", slots(1));
    assert_eq!(run.fail("a"), "d");
    let because = |task: &str| match &run.scheduler.state().task(at(&run.plan, task)).state {
        TaskState::Skipped { because: SkipReason::Dependency { task } } => task.to_string(),
        state => panic!("{state:?}"),
    };
    assert_eq!((because("b"), because("c")), ("a".into(), "b".into()));
}

#[test]
fn a_conflict_ends_a_task_like_a_failure() {
    let (mut run, _) = Drive::begin("a\nb <a", slots(1));
    assert_eq!(run.conflict("a"), "end");
    assert_eq!((run.state("a"), run.state("b")), ("conflicted", "skipped"));
}

#[test]
fn on_failure_stop_lets_what_runs_finish_and_skips_the_rest() {
    let (mut run, first) = Drive::begin("a\nb r1\nc\nd <b", stop_on_failure(2));
    assert_eq!(first, "b a");
    assert_eq!(run.fail("a"), "");
    assert_eq!(
        (run.state("c"), run.state("d"), run.state("b")),
        ("skipped", "skipped", "preparing")
    );
    assert_eq!(run.fail("b"), "end", "no attempt follows");
    assert_eq!((run.state("b"), status(&run)), ("failed", RunStatus::Failed));
}

#[test]
fn on_failure_stop_skips_who_finds_a_lock_taken_afterwards() {
    let (mut run, first) = Drive::begin("a\nb l:db\nc <b", stop_on_failure(2));
    assert_eq!(first, "b a");
    assert_eq!(run.fail("a"), "");
    assert_eq!(run.busy("b"), "end");
    assert_eq!((run.state("b"), run.state("c")), ("skipped", "skipped"));
}

#[test]
fn on_failure_stop_holds_after_a_resume() {
    let (mut run, _) = Drive::begin("a\nb\nc", stop_on_failure(2));
    run.tell(Input::Pause { freeze: false });
    run.fail("a");
    run.tell(Input::Interrupt);
    assert_eq!(run.end("b", UnitEnd::Stopped(StopReason::Interrupted)), "wake@0 end");
    assert_eq!(run.reopen(), "end");
    assert_eq!((run.state("b"), run.state("c")), ("skipped", "skipped"));
}

#[test]
fn results_are_delivered_before_the_end() {
    let plan = plan("a");
    let mut scheduler = Scheduler::new(plan.clone(), begun(&plan, slots(1), true), |_| None);
    let a = at(&plan, "a");
    scheduler.step(Input::Begin, time(0));
    let commands = scheduler.step(Input::CancelTask(a), time(1)).commands;
    assert!(matches!(commands.last(), Some(Command::Stop { .. })), "{commands:?}");
    let end = UnitReport::Ended(UnitEnd::Stopped(StopReason::Cancelled));
    let commands = scheduler.step(Input::Unit { task: a, report: end }, time(2)).commands;
    assert_eq!(commands.last(), Some(&Command::Deliver));
    assert_eq!(scheduler.step(Input::Tick, time(3)), Decision::default(), "once");
    let commands = scheduler.step(Input::Delivered(Delivery::Nothing), time(4)).commands;
    assert_eq!(commands.last(), Some(&Command::End));
    assert_eq!(scheduler.state().delivery, Some(Delivery::Nothing));
    let late = scheduler.step(Input::Warning("late".into()), time(5));
    assert_eq!(late, Decision::default(), "nothing follows");
}

#[test]
fn a_run_is_taken_up_where_it_stood() {
    let (mut run, first) = Drive::begin("a\nb r1\nc <a\nd <b\ne\nf <e", slots(3));
    assert_eq!(first, "a b e");
    run.succeed("a");
    run.fail("b");
    run.fail("e");
    assert_eq!((run.state("c"), run.state("f")), ("preparing", "skipped"));
    run.tell(Input::Interrupt);
    assert!(run.end("c", UnitEnd::Stopped(StopReason::Interrupted)).ends_with("end"));
    assert_eq!(status(&run), RunStatus::Interrupted);
    assert_eq!(run.tell(Input::CancelTask(at(&run.plan, "c"))), "", "it has ended");

    run.now = 10_000;
    assert!(run.reopen().ends_with(" b#2 c#2"), "the pause of b is over");
    assert_eq!(run.scheduler.state().tasks[2].charged, 0, "c is not charged");
    run.succeed("c");
    assert_eq!(run.succeed("b"), "d");
    assert_eq!(run.succeed("d"), "end");
    assert_eq!(status(&run), RunStatus::Failed);
}

#[test]
fn a_warning_changes_nothing_else() {
    let (mut run, _) = Drive::begin("a\nb", slots(1));
    let before = run.scheduler.state().tasks.clone();
    assert_eq!(run.tell(Input::Warning("disk is nearly full".into())), "");
    assert_eq!(run.report("a", UnitReport::Warning("left something".into())), "");
    assert_eq!(run.scheduler.state().tasks, before);
    assert_eq!(run.events.len() as u64, run.scheduler.state().seq);
}

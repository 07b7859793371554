//! Cancelling, interrupting, pausing; locks that others hold.

use orch_model::{
    RunStatus,
    event::RunSettings,
    outcome::{Failure, StopReason},
    plan::spec::OnFailure,
};

use super::{Drive, Input, UnitEnd, UnitReport, agent_failed, at, slots};

fn status(run: &Drive) -> RunStatus {
    run.scheduler.state().status
}

fn stopped(reason: StopReason) -> UnitEnd {
    UnitEnd::Stopped(reason)
}

#[test]
fn a_cancelled_task_ends_and_takes_with_it_what_needs_it() {
    let (mut run, _) = Drive::begin("a r3\nb <a\nc\nd <c", slots(1));
    assert_eq!(run.cancel("c"), "", "it waited");
    assert_eq!((run.state("c"), run.state("d")), ("cancelled", "skipped"));
    run.report("a", UnitReport::Started(None));
    assert_eq!(run.cancel("a"), "cancel:a");
    assert_eq!(run.state("a"), "stopping");
    assert_eq!(run.cancel("a"), "", "once is enough");
    assert_eq!(run.scheduler.stop_reason(at(&run.plan, "a")), Some(StopReason::Cancelled));
    // It happened to fail in the same moment.
    assert!(!run.scheduler.will_retry(at(&run.plan, "a"), &agent_failed()));
    assert_eq!(run.end("a", UnitEnd::Failed(agent_failed())), "end");
    assert_eq!(
        (run.state("a"), run.state("b"), status(&run)),
        ("cancelled", "skipped", RunStatus::Failed)
    );
}

#[test]
fn a_task_that_times_out_can_be_cancelled() {
    let (mut run, _) = Drive::begin("a r3", slots(1));
    let after = orch_model::Span::from_secs(1);
    run.report("a", UnitReport::Started(None));
    run.report("a", UnitReport::Stopping(StopReason::Timeout { after }));
    assert_eq!(run.cancel("a"), "cancel:a");
    assert!(!run.scheduler.will_retry(at(&run.plan, "a"), &Failure::Timeout { after }));
    assert_eq!(run.end("a", UnitEnd::Failed(Failure::Timeout { after })), "end");
    assert_eq!(run.state("a"), "cancelled");
}

#[test]
fn a_timeout_stays_one_when_the_run_is_interrupted() {
    let (mut run, _) = Drive::begin("a", slots(1));
    let after = orch_model::Span::from_secs(1);
    run.report("a", UnitReport::Started(None));
    run.report("a", UnitReport::Stopping(StopReason::Timeout { after }));
    assert_eq!(run.tell(Input::Interrupt), "stop:a");
    assert_eq!(run.end("a", UnitEnd::Failed(Failure::Timeout { after })), "end");
    assert_eq!(run.state("a"), "failed");
}

#[test]
fn a_merge_that_is_interrupted_is_not_skipped_where_a_failure_stops_the_run() {
    let mut settings = slots(3);
    settings.on_failure = OnFailure::Stop;
    let (mut run, _) = Drive::begin("a\nb\nc", settings);
    run.verify("a");
    run.fail("b");
    run.tell(Input::Interrupt);
    run.end("a", stopped(StopReason::Interrupted));
    assert_eq!(run.end("c", stopped(StopReason::Interrupted)), "wake@0 end");
    assert_eq!((run.state("a"), run.state("c")), ("merging", "skipped"));
}

#[test]
fn a_merge_that_is_done_or_failed_tells_how_it_ended() {
    let (mut run, _) = Drive::begin("a r3\nb r3", slots(2));
    run.verify("a");
    run.verify("b");
    // They are told, for they may wait in the merge queue.
    assert_eq!(run.cancel("a"), "cancel:a");
    assert_eq!(run.cancel("b"), "cancel:b");
    assert_eq!((run.state("a"), run.state("b")), ("merging", "merging"));
    assert_eq!(run.end("a", UnitEnd::Merged(orch_model::state::Merged::Nothing)), "");
    let failure = Failure::Infrastructure { message: "git failed".into() };
    assert_eq!(run.end("b", UnitEnd::Failed(failure)), "end", "it is not tried again");
    assert_eq!((run.state("a"), run.state("b")), ("merged", "cancelled"));
}

#[test]
fn reports_under_way_when_a_task_is_stopped_are_passed_over() {
    let (mut run, _) = Drive::begin("a", slots(1));
    run.cancel("a");
    for report in [
        UnitReport::Started(None),
        UnitReport::AgentEnded {
            exit: orch_model::outcome::ExitStatus::Code(0),
            usage: None,
            model: None,
        },
        UnitReport::Verified { commit: None },
    ] {
        assert_eq!(run.report("a", report), "");
        assert_eq!(run.state("a"), "stopping");
    }
    assert_eq!(run.end("a", stopped(StopReason::Cancelled)), "end");
}

#[test]
fn everything_is_cancelled() {
    let (mut run, first) = Drive::begin("a r1\nb\nc\nd l:db", slots(3));
    assert_eq!(first, "a b c");
    run.verify("b");
    run.fail("a");
    run.tell(Input::Tick);
    assert_eq!(run.tell(Input::Cancel), "cancel:b cancel:c cancel:d");
    assert_eq!(run.tell(Input::Cancel), "");
    assert_eq!(run.tell(Input::Interrupt), "", "too late for that");
    assert_eq!(run.tell(Input::Pause { freeze: true }), "");
    assert_eq!(
        (run.state("a"), run.state("b"), run.state("d")),
        ("cancelled", "merging", "queued")
    );
    run.end("c", stopped(StopReason::Cancelled));
    assert_eq!(run.end("b", UnitEnd::Merged(orch_model::state::Merged::Nothing)), "");
    assert_eq!(run.busy("d"), "end");
    assert_eq!(
        (run.state("b"), run.state("d"), status(&run)),
        ("merged", "cancelled", RunStatus::Cancelled)
    );
}

#[test]
fn a_run_whose_last_merges_came_through_succeeded() {
    let (mut run, _) = Drive::begin("a", slots(1));
    run.verify("a");
    run.tell(Input::Cancel);
    assert_eq!(run.end("a", UnitEnd::Merged(orch_model::state::Merged::Nothing)), "end");
    assert_eq!(status(&run), RunStatus::Succeeded);
}

#[test]
fn an_interrupted_run_can_be_cancelled() {
    let (mut run, _) = Drive::begin("a\nb l:db\nc <a", slots(2));
    run.report("a", UnitReport::Started(None));
    assert_eq!(run.tell(Input::Interrupt), "stop:a stop:b");
    assert_eq!(run.tell(Input::Interrupt), "");
    assert_eq!(run.why("c"), "nothing: the run is ending");
    assert_eq!(run.tell(Input::Cancel), "cancel:a cancel:b");
    assert_eq!(run.end("a", stopped(StopReason::Interrupted)), "");
    assert_eq!(run.busy("b"), "end");
    assert_eq!(
        (run.state("a"), run.state("b"), status(&run)),
        ("cancelled", "cancelled", RunStatus::Cancelled)
    );
}

#[test]
fn an_interruption_does_not_bring_a_cancelled_task_back() {
    let (mut run, first) = Drive::begin("a l:db\nb", slots(2));
    assert_eq!(first, "a b");
    assert_eq!(run.cancel("a"), "cancel:a");
    assert_eq!(run.tell(Input::Interrupt), "stop:b");
    run.busy("a");
    assert_eq!(run.state("a"), "cancelled");
    assert!(run.end("b", stopped(StopReason::Interrupted)).ends_with("end"));
    assert_eq!(status(&run), RunStatus::Interrupted);
}

#[test]
fn a_task_that_waits_for_its_locks_is_stopped_when_it_has_them() {
    let (mut run, _) = Drive::begin("a l:db", slots(1));
    assert_eq!(run.cancel("a"), "cancel:a");
    assert_eq!(run.state("a"), "queued");
    assert_eq!(run.report("a", UnitReport::Leased), "");
    assert_eq!(run.state("a"), "stopping");
    assert_eq!(run.end("a", stopped(StopReason::Cancelled)), "end");
    assert_eq!(run.state("a"), "cancelled");
}

#[test]
fn an_interrupted_wait_for_locks_leaves_the_task_queued() {
    let (mut run, _) = Drive::begin("a l:db", slots(1));
    assert_eq!(run.tell(Input::Interrupt), "stop:a");
    assert_eq!(run.busy("a"), "end");
    assert_eq!((run.state("a"), status(&run)), ("queued", RunStatus::Interrupted));
    assert_eq!(run.reopen(), "a");
}

#[test]
fn locks_that_can_not_be_looked_at_are_a_failed_attempt() {
    let (mut run, _) = Drive::begin("a l:db r1", slots(1));
    let failure = Failure::Infrastructure { message: "disk is full".into() };
    assert!(run.end("a", UnitEnd::Failed(failure)).starts_with("wake@"));
    assert_eq!((run.state("a"), run.scheduler.state().tasks[0].attempts), ("backoff", 1));
}

#[test]
fn a_lock_that_a_stranger_holds_takes_no_slot() {
    let (mut run, first) = Drive::begin("a p0 l:db\nb\nc <a", slots(1));
    assert_eq!(first, "a");
    assert_eq!(run.busy("a"), "await:a b");
    assert_eq!(run.why("a"), "lock db, held by a stranger");
    let a = at(&run.plan, "a");
    assert_eq!(run.tell(Input::LockReleased { task: a }), "");
    assert_eq!(run.tell(Input::LockReleased { task: a }), "", "a repeated message does no harm");
    assert_eq!(run.why("a"), "a free slot");
    assert_eq!(run.succeed("b"), "a", "it was no attempt");
    assert_eq!(run.tell(Input::LockReleased { task: a }), "");
    assert_eq!(run.succeed("a"), "c");
}

#[test]
fn who_waits_for_a_stranger_can_be_cancelled() {
    let (mut run, _) = Drive::begin("a l:db\nb", slots(1));
    run.busy("a");
    assert_eq!(run.cancel("a"), "");
    let a = at(&run.plan, "a");
    assert_eq!(run.tell(Input::LockReleased { task: a }), "");
    assert_eq!(run.succeed("b"), "end");
    assert_eq!(run.state("a"), "cancelled");
}

#[test]
fn a_pause_lets_what_runs_finish() {
    let (mut run, _) = Drive::begin("a\nb\nc <a", slots(1));
    assert_eq!(run.tell(Input::Resume), "", "it was not paused");
    assert_eq!(run.tell(Input::Pause { freeze: false }), "");
    assert_eq!(run.succeed("a"), "");
    assert_eq!(run.why("b"), "`orch resume`: the run is paused");
    assert_eq!(run.tell(Input::Resume), "b");
    assert_eq!(run.succeed("b"), "c");
}

#[test]
fn a_freeze_stops_processes_until_the_run_goes_on() {
    let (mut run, _) = Drive::begin("a", slots(1));
    assert_eq!(run.tell(Input::Pause { freeze: true }), "freeze:true");
    assert_eq!(status(&run), RunStatus::Frozen);
    assert_eq!(run.tell(Input::Pause { freeze: false }), "freeze:false", "now it is only paused");
    assert_eq!(run.tell(Input::Pause { freeze: true }), "freeze:true");
    assert_eq!(run.tell(Input::Resume), "freeze:false");
    assert_eq!(status(&run), RunStatus::Running);
    run.tell(Input::Pause { freeze: true });
    assert_eq!(run.tell(Input::Interrupt), "freeze:false stop:a");
    assert_eq!(run.tell(Input::Cancel), "cancel:a");
}

#[test]
fn a_release_that_nobody_waits_for_starts_nothing_twice() {
    let (mut run, first) = Drive::begin("a l:db:shared\nb <a", slots(2));
    assert_eq!(first, "a");
    let a = at(&run.plan, "a");
    assert_eq!(run.tell(Input::LockReleased { task: a }), "", "it holds a slot already");
    assert_eq!(run.succeed("a"), "b");
}

#[test]
fn what_is_promised_of_a_stopped_attempt_holds_after_a_restart_too() {
    // It is being stopped as the orchestrator dies; the next one takes it up, and it fails meanwhile.
    let (mut run, _) = Drive::begin("a", slots(1));
    run.report("a", UnitReport::Started(None));
    assert_eq!(run.tell(Input::Interrupt), "stop:a");
    let a = at(&run.plan, "a");
    assert!(run.scheduler.will_retry(a, &agent_failed()), "it has not failed, it was stopped");
    assert_eq!(run.reopen(), "adopt:a#1");
    assert!(run.scheduler.will_retry(a, &agent_failed()));
    assert!(run.end("a", UnitEnd::Failed(agent_failed())).ends_with("a#2"));
}

#[test]
fn a_stopped_attempt_that_was_taken_up_does_not_begin_anew_after_a_failure() {
    let settings = RunSettings { on_failure: OnFailure::Stop, ..slots(2) };
    let (mut run, _) = Drive::begin("a\nb", settings);
    run.report("a", UnitReport::Started(None));
    assert_eq!(run.tell(Input::Interrupt), "stop:a stop:b");
    assert!(run.end("b", stopped(StopReason::Interrupted)).starts_with("wake@"));
    assert_eq!(run.reopen(), "adopt:a#1 b#2");
    run.report("b", UnitReport::Started(None));
    assert_eq!(run.end("b", UnitEnd::Failed(agent_failed())), "");
    let a = at(&run.plan, "a");
    assert!(!run.scheduler.will_retry(a, &agent_failed()));
    // Nobody would start it: the run would never end.
    assert!(run.end("a", stopped(StopReason::Interrupted)).ends_with("end"));
    assert_eq!((run.state("a"), status(&run)), ("skipped", RunStatus::Failed));
}

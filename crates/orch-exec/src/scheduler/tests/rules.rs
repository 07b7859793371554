//! When a task starts.

use std::time::Duration;

use orch_model::{RunState, Span, event::RunSettings, plan::spec::Schedule};

use super::{Drive, Scheduler, at, begun, plan, slots, time};
use crate::internal::Input;

fn waves(max: u32, max_per_wave: Option<u32>, delay: u64) -> RunSettings {
    RunSettings {
        schedule: Schedule::Waves,
        max_per_wave,
        wave_delay: Span(Duration::from_millis(delay)),
        ..slots(max)
    }
}

#[test]
fn a_task_starts_the_moment_its_last_dependency_is_merged() {
    let (mut run, first) = Drive::begin("a\nb\nc <a <b\nd <c ~b", slots(4));
    assert_eq!(first, "a b");
    assert_eq!(run.why("c"), "a, b");
    assert_eq!(run.succeed("a"), "");
    assert_eq!(run.why("c"), "b");
    assert_eq!(run.succeed("b"), "c");
    assert_eq!(run.succeed("c"), "d");
    assert_eq!(run.succeed("d"), "end");
    let progress = run.scheduler.progress(time(0));
    assert!((progress.percent_complete() - 100.0).abs() < f64::EPSILON);
    assert_eq!((progress.counts.merged, progress.current_wave, progress.waves), (4, 3, 3));
}

#[test]
fn a_soft_dependency_must_have_ended_only() {
    let (mut run, first) = Drive::begin("a\nb ~a\nc <a", slots(4));
    assert_eq!(first, "a");
    assert_eq!(run.fail("a"), "b");
    assert_eq!(run.state("c"), "skipped");
}

#[test]
fn slots_go_to_the_highest_priority_then_to_the_longest_chain() {
    let (mut run, first) =
        Drive::begin("low p4\nshort =1s\nlong =9s\nhigh p0\nlast <short p0 =1s", slots(2));
    assert_eq!(first, "high long");
    assert_eq!(run.why("short"), "a free slot");
    assert_eq!(run.succeed("high"), "short");
    assert_eq!(run.succeed("short"), "last");
    assert_eq!(run.succeed("long"), "low");
}

#[test]
fn exclusive_and_shared_locks() {
    let (mut run, first) =
        Drive::begin("w l:db\nr1 l:db:shared\nr2 l:db:shared\nw2 l:db\nfree", slots(9));
    assert_eq!(first, "w free");
    assert_eq!(run.why("r1"), "lock db, held by w");
    assert_eq!(run.succeed("w"), "r1 r2", "shared holders run together");
    assert_eq!(run.why("w2"), "lock db, held by r1");
    assert_eq!(run.succeed("r1"), "");
    assert_eq!(run.succeed("r2"), "w2");
}

#[test]
fn counted_locks() {
    let (mut run, first) =
        Drive::begin("a l:port:2/3\nb l:port:2/3\nc l:port:1/3\nd l:port:1/3", slots(9));
    assert_eq!(first, "a c");
    assert_eq!(run.why("d"), "lock port, held by a");
    assert_eq!(run.succeed("c"), "d");
    assert_eq!(run.succeed("a"), "b");
}

#[test]
fn claimed_files_and_shared_worktrees() {
    let (mut run, first) =
        Drive::begin("a f:src/**\nb f:src/x.rs\nc f:docs/*\nepic e\nd @@e\ne @@e\nf @e", slots(9));
    assert_eq!(first, "a c d f");
    assert_eq!(run.why("b"), "a, which writes the same files");
    assert_eq!(run.why("e"), "d, which uses the epic's worktree");
    assert_eq!(run.succeed("d"), "e");
    assert_eq!(run.succeed("a"), "b");
}

#[test]
fn an_epic_waits_for_all_of_another() {
    let (mut run, first) =
        Drive::begin("epic base\nepic top base\na @base\nb @base\nc @top\nd @top", slots(9));
    assert_eq!(first, "a b");
    assert_eq!(run.succeed("a"), "");
    assert_eq!(run.succeed("b"), "c d");
}

#[test]
fn a_wave_waits_for_the_whole_wave_before_it_and_its_pause() {
    let (mut run, first) = Drive::begin("a\nb\nc <a", waves(9, None, 50));
    assert_eq!(first, "a b");
    assert_eq!(run.succeed("a"), "", "c is ready, and its wave is not");
    assert_eq!(run.why("c"), "wave 2 to begin");
    assert_eq!(run.scheduler.progress(time(0)).current_wave, 1);
    run.now = 10;
    assert_eq!(run.succeed("b"), "wake@60");
    assert_eq!(run.why("c"), "wave 2 to begin");
    assert_eq!(run.tell_at(59, Input::Tick), "wake@60");
    assert_eq!(run.tell_at(60, Input::Tick), "c");
}

#[test]
fn waves_are_split() {
    let (mut run, first) = Drive::begin("a\nb\nc", waves(9, Some(2), 0));
    assert_eq!(first, "a b");
    assert_eq!(run.fail("a"), "");
    assert_eq!(run.succeed("b"), "c", "a failed task ends its wave too");
}

#[test]
fn the_time_to_the_end_follows_what_is_known() {
    let (mut run, _) = Drive::begin("a\nb <a\nc <b =8s", slots(2));
    let eta = |run: &Drive| run.scheduler.progress(time(run.now)).eta;
    assert_eq!(eta(&run), Some(Duration::from_secs(24)), "unknown ones take what is known");
    run.now = 3_000;
    assert_eq!(eta(&run), Some(Duration::from_secs(21)));
    run.now = 4_000;
    run.succeed("a");
    assert_eq!(eta(&run), Some(Duration::from_secs(12)), "now the mean of what ended counts");

    let (run, _) = Drive::begin("a", slots(1));
    assert_eq!(eta(&run), None);
}

#[test]
fn a_record_of_an_earlier_run_sets_the_order() {
    let plan = plan("a\nb");
    let state: RunState = begun(&plan, slots(1), false);
    let b = at(&plan, "b");
    let mut scheduler = Scheduler::new(plan, state, |task| {
        Some(Duration::from_secs(if task == b { 9 } else { 1 }))
    });
    assert_eq!(scheduler.progress(time(0)).eta, Some(Duration::from_secs(10)));
    scheduler.step(Input::Begin, time(0));
    assert_eq!(scheduler.progress(time(0)).running[0].task.as_str(), "b");
}

#[test]
fn a_wait_for_many_names_a_few() {
    let tasks: String = (0..150).map(|n| format!("t{n} @base\n")).collect();
    let (run, _) = Drive::begin(&format!("epic base\nepic top base\n{tasks}last @top"), slots(1));
    assert_eq!(run.why("last"), "t0, t1, t2, t3, t4 and 95 more");
}

#[test]
fn what_runs_is_told_with_its_attempt() {
    let (mut run, _) = Drive::begin("a r1\nb", slots(2));
    run.fail("a");
    run.tell_at(500, Input::Tick);
    let progress = run.scheduler.progress(time(500));
    let told: Vec<_> =
        progress.running.iter().map(|r| (r.task.as_str(), r.state.as_str(), r.attempt)).collect();
    assert_eq!(
        told,
        [("b", "preparing", 1), ("a", "preparing", 2)],
        "those that began first in front"
    );
    assert_eq!(progress.running[1].since, time(500));
}

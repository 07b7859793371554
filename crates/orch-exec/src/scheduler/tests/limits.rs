//! Rate limits: breakers, and how many tasks run at a time.

use std::time::Duration;

use orch_model::outcome::Failure;

use super::{Drive, EventKind, Input, UnitEnd, UnitReport, agent_failed, slots, time};

fn limited(reset: Option<u64>) -> UnitEnd {
    let reset = reset.map(time);
    UnitEnd::Failed(Failure::RateLimit { reset, message: "slow down".into() })
}

/// How many tasks may run at a time.
fn limit(run: &Drive) -> u32 {
    run.scheduler.progress(time(run.now)).max_concurrency
}

fn reasons(run: &Drive) -> Vec<(u32, &str)> {
    run.events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::ConcurrencyChanged { limit, reason } => Some((*limit, reason.as_str())),
            _ => None,
        })
        .collect()
}

#[test]
fn limits_of_tasks_started_together_count_once_and_each_later_one_again() {
    let (mut run, first) = Drive::begin("a\nb\nc\nd\ne\nf\ng\nh", slots(8));
    assert_eq!(first, "a b c d e f g h");
    run.now = 10;
    for task in ["a", "b", "c"] {
        run.end(task, limited(Some(100)));
    }
    assert_eq!(limit(&run), 4, "they were started together");
    for task in ["d", "e", "f", "g", "h"] {
        run.end(task, limited(Some(100)));
    }
    assert_eq!(limit(&run), 4);

    // One task tries, and is limited again; and again. Who was told wrongly once waits for longer.
    for (attempt, moment, expected) in [(2, 100, 2), (3, 10_110, 1), (4, 30_120, 1)] {
        assert_eq!(run.tell_at(moment, Input::Tick), format!("a#{attempt}"));
        run.now += 10;
        run.end("a", limited(Some(run.now + 100)));
        assert_eq!(limit(&run), expected);
    }
    let reason = "agent: rate limited: slow down";
    assert_eq!(reasons(&run), [(4, reason), (2, reason), (1, reason)]);
}

#[test]
fn it_comes_back_one_by_one() {
    let tasks: String = (0..20).map(|n| format!("t{n}\n")).collect();
    let (mut run, _) = Drive::begin(&format!("first p0\n{tasks}"), slots(2));
    run.now = 10;
    run.end("first", limited(Some(50)));
    assert_eq!(limit(&run), 1);
    let slowdown = run.scheduler.progress(time(10)).slowdown.expect("it is slowed down");
    assert_eq!((slowdown.at, &*slowdown.reason), (time(10), "agent: rate limited: slow down"));
    run.succeed("t0");
    assert_eq!(limit(&run), 2, "after as many successes as there are slots");
    assert_eq!(run.scheduler.progress(time(10)).slowdown, None);
    assert_eq!(reasons(&run)[1], (2, "1 agents succeeded in a row"));
}

#[test]
fn a_resumed_run_does_not_take_old_limits_for_news() {
    let (mut run, _) = Drive::begin("a\nb\nc\nd", slots(4));
    for task in ["a", "b"] {
        run.report(task, UnitReport::Started(None));
    }
    run.now = 10;
    run.end("c", limited(Some(100)));
    assert_eq!(limit(&run), 2);
    run.now = 20;
    assert!(run.reopen().contains("adopt:a#1"));
    run.end("a", limited(Some(100)));
    assert_eq!(limit(&run), 2, "it was started before");
}

#[test]
fn breakers_are_by_kind_and_others_go_on() {
    let (mut run, first) = Drive::begin("a\nb\nc $other\nd $make\ne $make", slots(3));
    assert_eq!(first, "a b c");
    run.now = 10;
    run.end("a", limited(Some(1_000)));
    assert_eq!(limit(&run), 1);
    assert!(run.end("b", limited(Some(2_000))).ends_with("wake@2000"), "c holds the slot");
    assert!(run.why("a").starts_with("agent until"), "{}", run.why("a"));
    run.succeed("c");
    assert_eq!((run.state("d"), run.state("e")), ("preparing", "preparing"));
    // What runs nothing but common programs is limited alone.
    run.end("d", limited(Some(1_000)));
    assert_eq!((run.state("d"), run.state("e")), ("queued", "preparing"));
    let keys: Vec<_> = run.scheduler.state().breakers.keys().cloned().collect();
    assert_eq!(keys, ["agent", "task d"]);
}

#[test]
fn a_machine_that_is_short_of_something_runs_fewer() {
    let (mut run, _) = Drive::begin("a\nb\nc\nd", slots(4));
    run.now = 10;
    let failure = Failure::ResourceShortage { message: "memory".into() };
    let least = failure.policy().least_pause;
    assert_eq!(least, Duration::from_secs(5));
    run.end("a", UnitEnd::Failed(failure));
    assert_eq!(reasons(&run), [(2, "agent: the machine has too little: memory")]);
    assert!(run.scheduler.state().breakers.is_empty());
}

#[test]
fn after_a_restart_nobody_tries_beside_the_one_that_did() {
    let (mut run, first) = Drive::begin("a\nb\nc r1", slots(4));
    assert_eq!(first, "a b c");
    run.now = 10;
    run.end("a", limited(Some(100)));
    run.succeed("b");
    assert_eq!(run.tell_at(100, Input::Tick), "a#2", "it tries");
    // Which of the two tried is not recorded.
    assert!(run.reopen().contains("adopt:a#2 adopt:c#1"));
    run.report("c", UnitReport::Started(None));
    run.end("c", UnitEnd::Failed(agent_failed()));
    assert_eq!(run.tell_at(5_000, Input::Tick), "");
    assert!(run.why("c").starts_with("agent until"), "{}", run.why("c"));
    run.succeed("a");
    assert_eq!(run.state("c"), "preparing");
    assert!(run.scheduler.state().breakers.is_empty());
}

#[test]
fn an_answer_closes_a_breaker_before_the_task_has_ended() {
    let (mut run, first) = Drive::begin("a\nb\nc", slots(2));
    assert_eq!(first, "a b");
    run.now = 10;
    run.end("a", limited(Some(100)));
    // It was answered before the limit, perhaps.
    run.report("b", UnitReport::Answered);
    assert_eq!(run.scheduler.state().breakers.len(), 1);
    run.succeed("b");
    assert_eq!(run.tell_at(100, Input::Tick), "a#2");
    run.report("a", UnitReport::Started(None));
    run.report("a", UnitReport::Answered);
    assert!(run.scheduler.state().breakers.is_empty());
    assert_eq!(run.state("c"), "preparing", "the others need not wait for its end");
}

#[test]
fn a_breaker_that_is_kept_open_was_opened_once() {
    let (mut run, _) = Drive::begin("a\nb\nc\nd", slots(4));
    run.now = 10;
    for (task, reset) in [("a", 100), ("b", 110), ("c", 120)] {
        run.end(task, limited(Some(reset)));
    }
    let breaker = run.scheduler.state().breakers["agent"].clone();
    assert_eq!((breaker.opened, breaker.until), (1, time(120)));
    // What the service does not say is guessed, and the guess grows.
    run.succeed("d");
    for (moment, attempt) in [(120, 2), (20_120, 3), (60_120, 4)] {
        assert_eq!(run.tell_at(moment, Input::Tick), format!("a#{attempt}"), "{moment}");
        run.end("a", limited(None));
    }
}

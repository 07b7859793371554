//! Who is given a task whose first agent can't do it.

use std::sync::Arc;

use orch_model::{
    outcome::Failure,
    plan::{spec::Models, template::Placeholder},
    ports::{ModelChoice, ModelRequest, ModelSelector},
};

use super::{
    Choosing, Drive, EventKind, Input, PlanSpec, Scheduler, UnitEnd, UnitReport, agent_failed, at,
    begun, plan, slots, time,
};

fn limited(reset: u64) -> UnitEnd {
    UnitEnd::Failed(Failure::RateLimit { reset: Some(time(reset)), message: "slow down".into() })
}

fn quota(reset: u64) -> UnitEnd {
    UnitEnd::Failed(Failure::Quota { reset: Some(time(reset)), message: "all used".into() })
}

fn not_logged_in() -> UnitEnd {
    UnitEnd::Failed(Failure::Authentication { message: "log in".into() })
}

impl Drive {
    /// Who was given the last attempt at a task, and why.
    fn by(&self, task: &str) -> String {
        let choice = self.scheduler.chosen(at(&self.plan, task)).expect("somebody was chosen");
        format!("{choice}: {}", choice.reason)
    }

    fn charged(&self, task: &str) -> u32 {
        self.scheduler.state().task(at(&self.plan, task)).charged
    }

    fn closed(&self) -> Vec<&str> {
        let closed = self.events.iter().filter_map(|event| match &event.kind {
            EventKind::BreakerClosed { key } => Some(key.as_str()),
            _ => None,
        });
        closed.collect()
    }
}

#[test]
fn a_limited_agent_is_stood_in_for_at_once_and_charges_nothing() {
    let (mut run, first) = Drive::begin("a ?one,two\nb ?one,two\nc ?one", slots(2));
    assert_eq!(first, "a b");
    assert_eq!(run.by("a"), "one: named by the task");
    run.now = 10;
    // One slot less, which is that of the other one.
    assert_eq!(run.end("a", limited(1000)), "wake@10 wake@1000");
    assert_eq!((run.state("a"), run.charged("a")), ("queued", 0));
    assert_eq!(run.end("b", limited(1000)), "wake@10 wake@1000 a#2");
    assert_eq!(
        run.by("a"),
        "two: fallback; one waits for one until 1970-01-01T00:16:41.000Z (rate limited: slow down)"
    );
    run.succeed("a");
    assert!(run.by("b").starts_with("two: "), "{}", run.by("b"));
    assert_eq!(run.state("b"), "preparing");
    assert!(run.why("c").starts_with("one until"), "{}", run.why("c"));
    assert_eq!(run.charged("b"), 0);
}

#[test]
fn who_is_limited_is_tried_by_one_task_while_others_go_elsewhere() {
    let text = "a ?one,two\nb ?one,two\nc ?one,two\nd ?one,two";
    let (mut run, _) = Drive::begin(text, slots(4));
    run.now = 10;
    run.end("a", limited(100));
    for task in ["b", "c", "d"] {
        run.end(task, limited(100));
    }
    assert!(run.by("a").starts_with("two: "), "{}", run.by("a"));
    assert!(run.by("b").starts_with("two: "), "{}", run.by("b"));
    // Two at a time are left. When the first is half open, one task tries it.
    run.now = 100;
    run.succeed("a");
    assert_eq!(run.by("c"), "one: named by the task");
    run.succeed("b");
    assert!(run.by("d").starts_with("two: fallback; one waits for one until"), "{}", run.by("d"));
    run.succeed("c");
    assert_eq!(run.closed(), ["one"]);
    assert_eq!(run.succeed("d"), "end");
}

#[test]
fn a_task_waits_where_all_are_held_up_and_says_why() {
    let (mut run, _) = Drive::begin("a ?one,gone,two", slots(1));
    run.now = 10;
    assert_eq!(run.end("a", limited(1000)), "wake@10 wake@1000 a#2");
    assert!(run.by("a").contains("; gone: there is no such program"), "{}", run.by("a"));
    assert_eq!(run.end("a", quota(500)), "wake@10 wake@1000 wake@500");
    assert_eq!(
        run.why("a"),
        "one of its agents: one waits for one until 1970-01-01T00:16:41.000Z (rate limited: slow down); \
         gone: there is no such program; \
         two waits for two until 1970-01-01T00:16:40.500Z (quota used up: all used)"
    );
    assert_eq!(run.tell_at(500, Input::Tick), "wake@1000 a#3");
    assert!(run.by("a").starts_with("two: fallback"), "{}", run.by("a"));
    assert_eq!(run.charged("a"), 0);
}

#[test]
fn who_is_not_logged_in_is_not_asked_again_and_the_next_one_is() {
    let (mut run, _) = Drive::begin("a ?one,two,gone\nb ?one", slots(1));
    run.report("a", UnitReport::Started(None));
    assert_eq!(run.end("a", not_logged_in()), "wake@0 a#2");
    assert_eq!(run.by("a"), "two: fallback; one: not logged in: log in");
    assert_eq!(run.charged("a"), 0, "that is not its fault");
    // Nobody is left.
    run.report("a", UnitReport::Started(None));
    assert_eq!(run.end("a", not_logged_in()), "b");
    assert_eq!((run.state("a"), run.charged("a")), ("failed", 1));
    // That is told of each task: another one may ask with another account.
    assert_eq!(run.by("b"), "one: named by the task");
    assert_eq!(run.end("b", not_logged_in()), "end");
}

#[test]
fn what_a_task_is_given_up_for_is_known_after_a_resume() {
    let (mut run, _) = Drive::begin("a ?one,two r1", slots(1));
    run.end("a", UnitEnd::Failed(Failure::Spawn { message: "no program".into() }));
    run.report("a", UnitReport::Started(None));
    assert_eq!(run.reopen(), "adopt:a#2");
    assert_eq!(run.by("a"), "two: fallback; one: could not be started: no program");
    run.now = 10;
    assert_eq!(run.end("a", limited(100)), "wake@10 wake@100", "`two` is limited, not `one`");
    assert!(run.why("a").contains("two waits for two until"), "{}", run.why("a"));
    assert_eq!(run.tell_at(100, Input::Tick), "a#3");
    assert!(run.by("a").starts_with("two: fallback; one: could not be started"), "{}", run.by("a"));
    run.end("a", UnitEnd::Failed(agent_failed()));
    assert_eq!((run.state("a"), run.charged("a")), ("backoff", 1));
}

#[test]
fn a_verification_that_cant_be_started_is_no_fault_of_the_agent() {
    let (mut run, _) = Drive::begin("a ?one,two", slots(1));
    run.verify("a");
    run.end("a", UnitEnd::Failed(Failure::Spawn { message: "no make".into() }));
    assert_eq!(run.state("a"), "failed");
}

#[test]
fn where_nobody_is_left_the_first_one_is_asked_and_fails() {
    let (run, first) = Drive::begin("a ?gone\nb ?gone,gone2", slots(2));
    assert_eq!(first, "a b");
    assert_eq!(run.by("a"), "gone: named by the task");
    assert_eq!(run.by("b"), "gone2: fallback; gone: there is no such program");
}

#[test]
fn a_locked_task_is_given_to_who_was_chosen_for_it() {
    let (mut run, _) = Drive::begin("a ?one,two l:db\nb ?one", slots(2));
    run.end("b", limited(1000));
    run.report("a", UnitReport::Leased);
    let by = &run.scheduler.state().task(at(&run.plan, "a")).by;
    assert_eq!(by.as_ref().expect("it is recorded").agent.as_str(), "one");
}

/// Chooses a model by the number of the attempt.
#[derive(Debug)]
struct ByAttempt;

impl ModelSelector for ByAttempt {
    fn name(&self) -> &str {
        "by attempt"
    }

    fn select(&self, request: &ModelRequest<'_>) -> Option<ModelChoice> {
        Some(ModelChoice {
            model: format!("m{}", request.attempt),
            confidence: 50,
            reason: format!("{} of {}", request.attempt, request.agent),
            estimated_micro_usd: None,
        })
    }
}

#[test]
fn a_model_is_chosen_only_where_none_is_named() {
    let (run, _) = Drive::begin("a ?one,two\nb ?one %big", slots(2));
    assert_eq!(run.by("a"), "one: named by the task", "it is off where no models are offered");
    let mut spec: PlanSpec = (**run.plan.spec()).clone();
    for agent in spec.agents.values_mut() {
        let models = Models { small: Some("s".into()), large: Some("l".into()), medium: None };
        agent.models = Some(models);
        agent.command.push(format!("{{{}}}", Placeholder::Model.name()));
    }
    let plan = Arc::new(spec.validate().expect("a valid plan"));
    let chosen = |choosing| {
        let state = begun(&plan, slots(2), false);
        let mut scheduler = Scheduler::new(Arc::clone(&plan), state, |_| None).choosing(choosing);
        scheduler.step(Input::Begin, time(0));
        ["a", "b"].map(|task| {
            let choice = scheduler.chosen(at(&plan, task)).expect("somebody was chosen");
            format!("{choice}: {}", choice.reason)
        })
    };
    let stock = chosen(Choosing::default());
    assert_eq!(
        stock,
        [
            "one (s): named by the task; model s: complexity 0 of 100",
            "one (big): named by the task"
        ]
    );
    let own = chosen(Choosing { selector: Arc::new(ByAttempt), ..Choosing::default() });
    assert_eq!(
        own,
        ["one (m1): named by the task; model m1: 1 of one", "one (big): named by the task"]
    );
}

#[test]
fn a_limit_of_a_chosen_model_concerns_that_model() {
    let plan = plan("a ?one\nb ?one");
    let choosing = Choosing { selector: Arc::new(ByAttempt), ..Choosing::default() };
    let state = begun(&plan, slots(1), false);
    let mut scheduler = Scheduler::new(Arc::clone(&plan), state, |_| None).choosing(choosing);
    scheduler.step(Input::Begin, time(0));
    let (a, b) = (at(&plan, "a"), at(&plan, "b"));
    let input = Input::Unit { task: a, report: UnitReport::Ended(limited(1000)) };
    scheduler.step(input, time(10));
    let keys: Vec<_> = scheduler.state().breakers.keys().map(String::as_str).collect();
    assert_eq!(keys, ["one (m1)"]);
    // Its next attempt would be with another model; the first attempt of the other task would not.
    assert_eq!(scheduler.chosen(a).map(ToString::to_string).as_deref(), Some("one (m2)"));
    assert_eq!(scheduler.chosen(b), None);
}

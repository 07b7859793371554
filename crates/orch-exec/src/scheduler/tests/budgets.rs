//! Budgets: what may start, what is ended, where a run stops and how it goes on.

use std::collections::BTreeMap;

use orch_model::{
    AgentName, BudgetChange, BudgetScope, Money, RunStatus, TaskState,
    plan::spec::{AgentKind, AgentSpec, OnBudget},
    spending::Estimate,
    usage::Usage,
};

use super::*;

/// Tasks `t1`, `t2` and so on, each an agent's (`a`, or `b` in epic `e` where the line says so), under
/// budgets such as `1.00` and `epic:e=5tokens`.
fn budgeted(tasks: &[&str], budgets: &[&str], max: u32, on_budget: OnBudget) -> Drive {
    begin(tasks, budgets, max, on_budget, None)
}

pub(super) fn begin(
    tasks: &[&str],
    budgets: &[&str],
    max: u32,
    on_budget: OnBudget,
    recorded: Option<&str>,
) -> Drive {
    let mut spec = PlanSpec::new();
    let epic = EpicId::new("e").expect("an id");
    spec.epics.push(EpicSpec::new(epic.clone()));
    for name in ["a", "b"] {
        let agent =
            AgentSpec { command: vec!["agent".into()], ..AgentSpec::new(AgentKind::Command) };
        spec.agents.insert(AgentName::new(name).expect("a name"), agent);
    }
    for (number, words) in tasks.iter().enumerate() {
        let mut task = TaskSpec::new(id(&format!("t{}", number + 1)));
        task.retries = Some(0);
        for word in words.split_whitespace() {
            match word.split_at(1) {
                ("$", command) => task.run = Some(CommandLine::Shell(command.into())),
                ("@", _) => task.epic = Some(epic.clone()),
                ("<", needed) => task.needs.push(id(needed)),
                _ => task.agent = Some(AgentName::new(word).expect("a name")),
            }
        }
        if task.run.is_none() {
            task.prompt = Some("work".into());
        }
        spec.tasks.push(task);
    }
    let plan = Arc::new(spec.validate().expect("a valid plan"));
    let budgets: BTreeMap<_, _> = budgets
        .iter()
        .map(|text| change(text))
        .map(|change| (change.scope, change.budget))
        .collect();
    let settings = RunSettings { budgets, on_budget, ..slots(max) };
    let started = run_started(&plan, settings, false);
    let state = RunState::begin(&started).expect("a first event");
    let usd = recorded.map(|text| text.parse().expect("an amount"));
    let scheduler = Scheduler::new(Arc::clone(&plan), state, |_| None)
        .with_estimates(|_| Some(Estimate { usd, tokens: None }));
    Drive { plan, scheduler, events: vec![started], now: 0 }
}

pub(super) fn change(text: &str) -> BudgetChange {
    text.parse().expect("a budget")
}

pub(super) fn cents(cents: u64) -> Usage {
    Usage { input_tokens: 8, output_tokens: 2, cost_micro_usd: cents * 10_000, ..Usage::default() }
}

const fn unpriced(tokens: u64) -> Usage {
    Usage {
        input_tokens: 0,
        cached_input_tokens: 0,
        output_tokens: tokens,
        reasoning_tokens: 0,
        cost_micro_usd: 0,
        unpriced_tokens: tokens,
    }
}

impl Drive {
    pub(super) fn begun(&mut self, task: &str) {
        self.report(task, UnitReport::Started(None));
    }

    pub(super) fn used(&mut self, task: &str, usage: Usage) -> String {
        self.report(task, UnitReport::Used(usage))
    }

    /// A task's agent ends well after using this, and its work is merged.
    fn done(&mut self, task: &str, usage: Option<Usage>) -> String {
        self.begun(task);
        self.finished(task, usage)
    }

    pub(super) fn finished(&mut self, task: &str, usage: Option<Usage>) -> String {
        let ended = UnitReport::AgentEnded { exit: ExitStatus::Code(0), usage, model: None };
        let first = self.report(task, ended);
        self.report(task, UnitReport::Verified { commit: None });
        let second = self.end(task, UnitEnd::Merged(Merged::Nothing));
        format!("{first} {second}").trim().to_owned()
    }

    pub(super) fn stopped(&mut self, task: &str) -> String {
        let scope = BudgetScope::Run;
        self.end(task, UnitEnd::Stopped(StopReason::Budget { scope }))
    }

    pub(super) fn status(&self) -> RunStatus {
        self.scheduler.state().status
    }

    pub(super) fn spent(&self) -> Money {
        let spent = self.scheduler.state().tasks.iter().map(|task| task.used().cost_micro_usd);
        Money(spent.sum())
    }

    fn stops(&self) -> Vec<String> {
        self.scheduler.state().budget_stops.iter().map(ToString::to_string).collect()
    }

    /// The budgets that were reached, of the whole run.
    fn reached(&self) -> usize {
        let reached = |event: &&Event| matches!(event.kind, EventKind::BudgetReached { .. });
        self.events.iter().filter(reached).count()
    }
}

#[test]
fn the_first_attempt_shows_what_one_costs_and_then_only_what_fits_is_started() {
    let mut run = budgeted(&["a"; 8], &["1.00"], 4, OnBudget::Pause);
    assert_eq!(run.tell(Input::Begin), "t1", "nobody knows what one costs");
    assert_eq!(run.why("t2"), "the first attempt of a to show what one costs");
    // $0.30 are spent; three would make it $1.20.
    assert_eq!(run.done("t1", Some(cents(30))), "t2 t3");
    assert_eq!(
        run.why("t4"),
        "room in the budget of the run: $0.90 of $1.00 is taken, and it takes about $0.30"
    );
    // One that is cheaper than expected leaves room, but not enough.
    assert_eq!(run.done("t2", Some(cents(25))), "");
    assert_eq!(run.status(), RunStatus::Running, "t3 may be cheaper still");
    assert_eq!(run.done("t3", Some(cents(30))), "end");
    assert_eq!((run.status(), run.spent().to_string()), (RunStatus::OutOfBudget, "$0.85".into()));
    assert_eq!(
        run.stops(),
        [
            "the budget of the run has no room for another attempt: $0.85 of $1.00 is spent, and one takes \
          about $0.30"
        ]
    );
}

#[test]
fn what_earlier_runs_took_is_expected_until_this_one_knows() {
    let mut run = begin(&["a"; 8], &["1.00"], 8, OnBudget::Pause, Some("0.20"));
    assert_eq!(run.tell(Input::Begin), "t1 t2 t3 t4 t5");
    assert_eq!(run.done("t1", Some(cents(40))), "", "they are dearer now");
    assert_eq!(
        run.why("t6"),
        "room in the budget of the run: $2.00 of $1.00 is taken, and it takes about $0.40"
    );
}

#[test]
fn agents_that_bring_a_budget_to_its_limit_are_ended_and_the_run_goes_on_with_more() {
    let mut run = begin(&["a"; 3], &["1.00"], 2, OnBudget::Pause, Some("0.50"));
    assert_eq!(run.tell(Input::Begin), "t1 t2");
    run.begun("t1");
    run.begun("t2");
    assert_eq!(run.used("t1", cents(60)), "");
    assert_eq!(run.used("t2", cents(30)), "");
    assert_eq!(run.used("t1", cents(75)), "stop:t1 stop:t2", "the last answer");
    assert_eq!(run.status(), RunStatus::Paused);
    assert_eq!(run.stops(), ["the budget of the run is used up: $1.05 of $1.00 is spent"]);
    // t2 ended well before it was told; t1 did not.
    assert_eq!(run.finished("t2", Some(cents(30))), "");
    run.report("t1", UnitReport::Stopping(StopReason::Budget { scope: BudgetScope::Run }));
    let ended =
        UnitReport::AgentEnded { exit: ExitStatus::Code(0), usage: Some(cents(76)), model: None };
    run.report("t1", ended);
    assert!(run.stopped("t1").ends_with("end"));
    assert_eq!((run.status(), run.spent().to_string()), (RunStatus::OutOfBudget, "$1.06".into()));
    let t1 = run.scheduler.state().task(at(&run.plan, "t1")).clone();
    assert_eq!((t1.charged, t1.failures["budget"]), (0, 1), "the task can't help it");
    assert!(matches!(t1.state, TaskState::Queued));

    // Without more it stops where it stood, and spends nothing.
    assert!(run.reopen().ends_with("end"));
    assert_eq!((run.status(), run.spent().to_string()), (RunStatus::OutOfBudget, "$1.06".into()));
    // With more it goes on.
    let mut state = run.scheduler.state().clone();
    for kind in
        [EventKind::RunReopened { pid: 3 }, EventKind::BudgetChanged { change: change("2.00") }]
    {
        let event = Event { seq: state.seq + 1, at: time(0), kind };
        state.apply(&event).expect("a legal event");
        run.events.push(event);
    }
    run.scheduler = Scheduler::new(Arc::clone(&run.plan), state, |_| None);
    // What an attempt of this run took: $0.76, of which one fits.
    assert_eq!(run.tell(Input::Begin), "t1#2");
    assert_eq!(run.done("t1", Some(cents(10))), "t3");
    assert_eq!(run.done("t3", Some(cents(20))), "end");
    assert_eq!(run.status(), RunStatus::Succeeded);
}

#[test]
fn a_run_that_pauses_goes_on_at_once_when_it_is_given_more() {
    let mut run = begin(&["a"; 3], &["0.50"], 1, OnBudget::Pause, Some("0.10"));
    assert_eq!(run.tell(Input::Begin), "t1");
    run.begun("t1");
    assert_eq!(run.used("t1", cents(50)), "stop:t1");
    assert_eq!(run.status(), RunStatus::Paused);
    run.tell(Input::SetBudgets(vec![change("5")]));
    assert_eq!((run.stops().len(), run.status()), (0, RunStatus::Paused));
    run.tell(Input::Resume);
    assert_eq!(run.finished("t1", Some(cents(50))), "t2", "its last words were good ones");
}

#[test]
fn at_a_limit_that_stops_the_rest_is_skipped_and_what_works_fails() {
    let mut run = budgeted(&["a", "a <t1", "a", "$make"], &["1.00"], 3, OnBudget::Stop);
    assert_eq!(run.tell(Input::Begin), "t1 t4", "a command costs nothing");
    run.begun("t1");
    assert_eq!(run.used("t1", cents(120)), "stop:t1");
    assert_eq!((run.state("t2"), run.state("t3")), ("skipped", "skipped"));
    assert_eq!(run.status(), RunStatus::Running);
    assert_eq!(run.stopped("t1"), "");
    assert_eq!(run.state("t1"), "failed");
    assert_eq!(run.done("t4", None), "end");
    assert_eq!((run.status(), run.state("t4")), (RunStatus::Failed, "merged"));
}

#[test]
fn a_budget_of_a_part_holds_only_that_part() {
    let tasks = ["a @", "a @", "b", "b"];
    let mut run = begin(&tasks, &["epic:e=0.40"], 4, OnBudget::Pause, Some("0.30"));
    assert_eq!(run.tell(Input::Begin), "t1 t3 t4");
    assert_eq!(run.done("t1", Some(cents(30))), "");
    assert_eq!(run.stops().len(), 1);
    assert_eq!(run.status(), RunStatus::Running, "the others go on");
    run.done("t3", Some(cents(90)));
    assert_eq!(run.done("t4", Some(cents(90))), "end");
    assert_eq!(run.status(), RunStatus::OutOfBudget);

    let mut run =
        begin(&["a", "b", "a"], &["agent:a=0.30", "task:t2=0.10"], 1, OnBudget::Stop, Some("0.2"));
    assert_eq!(run.tell(Input::Begin), "t1");
    assert!(!run.scheduler.budget_is_gone(&AgentName::new("a").expect("a name")));
    assert_eq!(run.done("t1", Some(cents(20))), "t2", "t3 has no room");
    assert!(run.scheduler.budget_is_gone(&AgentName::new("a").expect("a name")));
    assert_eq!(run.state("t3"), "skipped");
    run.begun("t2");
    assert_eq!(run.used("t2", cents(10)), "stop:t2", "by its own budget");
    let scope = BudgetScope::Task(id("t2"));
    assert_eq!(run.end("t2", UnitEnd::Stopped(StopReason::Budget { scope })), "end");
    assert_eq!((run.state("t2"), run.status()), ("failed", RunStatus::Failed));
}

#[test]
fn attempts_and_tokens_are_limited_too() {
    let mut run = budgeted(&["a", "$make", "a"], &["2 attempts"], 3, OnBudget::Pause);
    assert_eq!(run.tell(Input::Begin), "t1 t2", "commands make attempts as well");
    assert_eq!(run.done("t1", None), "");
    assert_eq!(
        run.stops(),
        ["the budget of the run is used up: 2 attempts of 2 attempts is spent"]
    );
    assert_eq!(run.done("t2", None), "end");
    assert_eq!(run.status(), RunStatus::OutOfBudget);

    let mut run = budgeted(&["a"; 4], &["25 tokens"], 3, OnBudget::Pause);
    assert_eq!(run.tell(Input::Begin), "t1");
    assert_eq!(run.done("t1", Some(unpriced(10))), "t2", "tokens need no price");
    assert_eq!(run.done("t2", Some(unpriced(10))), "end");
    assert_eq!(
        run.stops(),
        [
            "the budget of the run has no room for another attempt: 20 tokens of 25 tokens is spent, and \
          one takes about 10 tokens"
        ]
    );
}

#[test]
fn an_unknown_cost_is_not_zero() {
    let mut run = budgeted(&["a"; 3], &["1.00"], 2, OnBudget::Pause);
    assert_eq!(run.tell(Input::Begin), "t1");
    run.begun("t1");
    assert_eq!(run.used("t1", unpriced(1200)), "", "what is at work goes on");
    assert_eq!(run.status(), RunStatus::Paused);
    let said = "the budget of the run ($1.00) can't be kept: a has used 1,200 tokens whose price nobody \
                knows; besides, $0.00 is spent";
    assert_eq!(run.stops(), [said]);
    assert_eq!(run.finished("t1", Some(unpriced(1500))), "end");
    assert_eq!((run.status(), run.reached()), (RunStatus::OutOfBudget, 1));
    // Whoever goes on has read it.
    assert_eq!(run.reopen(), "t2 t3");
    assert_eq!(run.stops(), [""; 0]);
    run.done("t2", Some(unpriced(9)));
    assert_eq!(run.done("t3", Some(cents(3))), "end");
    assert_eq!(run.status(), RunStatus::Succeeded);

    // Where it is that of a part, the rest goes on.
    let mut run = budgeted(&["a @", "a @", "b"], &["epic:e=1.00"], 1, OnBudget::Pause);
    assert_eq!(run.tell(Input::Begin), "t1");
    assert_eq!(run.done("t1", Some(unpriced(5))), "t3");
    assert_eq!(run.why("t2"), "`orch resume`: the budget of epic e can't count a");
    assert_eq!(run.done("t3", None), "end");
    assert_eq!((run.status(), run.reached()), (RunStatus::OutOfBudget, 1));
    assert_eq!(run.reopen(), "t2");

    // An agent that tells nothing is no better, and one that fails at once proves nothing.
    let mut run = budgeted(&["a"; 3], &["1.00"], 2, OnBudget::Pause);
    assert_eq!(run.tell(Input::Begin), "t1");
    assert_eq!(run.fail("t1"), "t2");
    assert_eq!(run.done("t2", None), "end");
    assert_eq!(
        run.stops(),
        [
            "the budget of the run ($1.00) can't be kept: a does not tell what it costs; besides, $0.00 is spent"
        ]
    );
}

#[test]
fn what_a_killed_orchestrator_knew_is_known_again() {
    let mut run = begin(&["a"; 4], &["1.00"], 2, OnBudget::Pause, Some("0.30"));
    assert_eq!(run.tell(Input::Begin), "t1 t2");
    run.done("t1", Some(cents(45)));
    run.begun("t2");
    assert_eq!(run.used("t2", cents(20)), "");
    // t3 was started beside it? $0.45 + $0.45 expected + $0.45 do not fit.
    assert_eq!(run.state("t3"), "queued");
    assert_eq!(run.reopen(), "adopt:t2#1");
    assert_eq!(run.used("t2", cents(55)), "stop:t2");
    assert_eq!(run.spent().to_string(), "$1.00");
    assert!(run.stopped("t2").ends_with("end"));
    assert_eq!(run.status(), RunStatus::OutOfBudget);
}

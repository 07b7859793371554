//! Budgets, with agents that tell what they use while they work.

use std::time::Duration;

use orch_exec::{
    model::{
        AgentName, BudgetScope, EventKind, Money, Report, RunStatus, TaskChange,
        plan::spec::{AgentKind, AgentSpec, Isolation, PlanSpec, TaskSpec},
        usage::Usage,
    },
    testing::{Step, TestEngine},
};

use crate::common::{id, soon, states};

fn cents(cents: u64) -> Usage {
    Usage { output_tokens: 10, cost_micro_usd: cents * 10_000, ..Usage::default() }
}

fn plan(tasks: &[&str], budget: &str) -> PlanSpec {
    let coder = AgentName::new("coder").unwrap();
    let mut spec = PlanSpec::new();
    let agent = AgentSpec { command: vec!["coder".into()], ..AgentSpec::new(AgentKind::Command) };
    spec.agents.insert(coder.clone(), agent);
    spec.run.budget = Some(budget.parse().unwrap());
    for name in tasks {
        let mut task = TaskSpec::new(id(name));
        task.prompt = Some("work".into());
        task.agent = Some(coder.clone());
        task.isolation = Some(Isolation::None);
        task.retries = Some(0);
        spec.tasks.push(task);
    }
    spec
}

fn spent(report: &Report) -> String {
    Money(report.usage.cost_micro_usd).to_string()
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_crosses_the_limit_is_ended_and_one_that_is_done_then_is_not() {
    let engine = TestEngine::new();
    let hour = Duration::from_secs(3600);
    // The first tells what it used as it ends; the second goes on for an hour.
    engine.runner.script("a", [Step::Tell(cents(60), Duration::from_millis(300), 0)]);
    engine.runner.script("b", [Step::Tell(cents(60), hour, 0), Step::Use(cents(5), 0)]);
    engine.runner.script("c", [Step::Use(cents(5), 0)]);
    let orchestrator = engine.orchestrator().await.unwrap();
    let plan = plan(&["a", "b", "c"], "1.00").validate().unwrap();
    let run = orchestrator.start(plan).await.unwrap();
    let begin = tokio::time::Instant::now();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::OutOfBudget);
    assert_eq!(states(&report), "a merged, b queued, c queued");
    // a showed what one takes: b, which takes as much, was not started.
    assert_eq!(spent(&report), "$0.60");
    assert!(begin.elapsed() < Duration::from_secs(60));

    // With room for one of $0.60 it goes on, and b crosses the limit.
    let resumed = orchestrator.resume_with(run.id(), vec!["1.20".parse().unwrap()]).await.unwrap();
    let report = soon(resumed.wait()).await.unwrap();
    assert_eq!((report.status, spent(&report)), (RunStatus::OutOfBudget, "$1.20".into()));
    assert_eq!(states(&report), "a merged, b queued, c queued");
    assert_eq!(engine.runner.running(), 0);
    let b = &report.tasks[1];
    assert_eq!((b.attempts, b.error.as_deref()), (1, None));
    let stop = &report.budget_stops[0];
    assert_eq!(stop.to_string(), "the budget of the run is used up: $1.20 of $1.20 is spent");

    // The attempt that was ended isn't charged: the task has another, without retries.
    let resumed = orchestrator.resume_with(run.id(), vec!["5".parse().unwrap()]).await.unwrap();
    let mut events = resumed.events();
    let report = soon(resumed.wait()).await.unwrap();
    assert_eq!((report.status, spent(&report)), (RunStatus::Succeeded, "$1.30".into()));
    let mut ended = 0;
    while let Some(event) = events.next().await.unwrap() {
        if let EventKind::Task { change: TaskChange::Stopping { .. }, .. } = event.kind {
            ended += 1;
        }
    }
    assert_eq!(ended, 1, "only b was ended");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_brings_the_budget_to_its_limit_with_its_last_answer_has_done_its_work() {
    let engine = TestEngine::new();
    engine.runner.script("a", [Step::Tell(cents(100), Duration::from_millis(300), 0)]);
    let orchestrator = engine.orchestrator().await.unwrap();
    let run = orchestrator.start(plan(&["a"], "1.00").validate().unwrap()).await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!((report.status, spent(&report)), (RunStatus::Succeeded, "$1.00".into()));
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_nothing_that_there_is_is_refused() {
    let mut engine = TestEngine::new();
    engine.config.budgets = vec!["epic:x=1".parse().unwrap()];
    let orchestrator = engine.orchestrator().await.unwrap();
    let error = orchestrator.start(plan(&["a"], "1").validate().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "--budget epic:x: there is no such epic in the plan");

    engine.config.budgets = vec!["task:a=0.10".parse().unwrap()];
    engine.runner.script("a", [Step::Tell(cents(10), Duration::from_secs(60), 0)]);
    let orchestrator = engine.orchestrator().await.unwrap();
    let run = orchestrator.start(plan(&["a"], "1").validate().unwrap()).await.unwrap();
    let report = soon(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::OutOfBudget);
    assert_eq!(report.budget_stops[0].scope, BudgetScope::Task(id("a")));
}

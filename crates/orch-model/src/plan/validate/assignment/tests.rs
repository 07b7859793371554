//! Which agents and models a task gets.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    id::{AgentName, EpicId, TaskId},
    plan::{
        AgentOrigin, PlanSpec, ValidPlan,
        spec::{AgentKind, AgentSpec, EpicSpec, Models, TaskSpec},
    },
};

fn name(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

fn names(names: &[&str]) -> Option<Vec<AgentName>> {
    Some(names.iter().copied().map(name).collect())
}

/// A plan with agents `NAME=KIND`, or `NAME=KIND/MODEL`, an epic `e` and a task in it.
fn plan(agents: &[&str], title: &str, prompt: &str) -> PlanSpec {
    let mut spec = PlanSpec::new();
    for agent in agents {
        let (agent, kind) = agent.split_once('=').unwrap_or((agent, "codex"));
        let (kind, model) = kind.split_once('/').map_or((kind, None), |(k, m)| (k, Some(m)));
        let kind = AgentKind::ALL.into_iter().find(|one| one.name() == kind).unwrap();
        let agent_spec = AgentSpec { model: model.map(Into::into), ..AgentSpec::new(kind) };
        spec.agents.insert(name(agent), agent_spec);
    }
    spec.epics.push(EpicSpec::new(EpicId::new("e").unwrap()));
    let mut task = TaskSpec::new(TaskId::new("a").unwrap());
    task.title = Some(title.into());
    task.prompt = Some(prompt.into());
    task.epic = Some(EpicId::new("e").unwrap());
    spec.tasks.push(task);
    spec
}

/// Who may be given the task.
fn candidates(spec: PlanSpec) -> Vec<String> {
    let plan = ValidPlan::new(spec).unwrap();
    plan.tasks()[0].candidates().map(|candidate| candidate.to_string()).collect()
}

fn origin(spec: PlanSpec) -> (String, String) {
    let plan = ValidPlan::new(spec).unwrap();
    let task = &plan.tasks()[0];
    let agent = task.candidates().next().unwrap().agent;
    (agent.to_string(), task.assignment.as_ref().unwrap().origin.to_string())
}

#[track_caller]
fn check(spec: PlanSpec, expected: &[&str]) {
    let said = ValidPlan::new(spec).expect_err("the plan has a mistake").to_string();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_task_comes_before_its_epic_and_that_before_the_defaults() {
    let mut spec = plan(&["a", "b", "c", "test-automator"], "Test it", "x");
    let said = |spec: &PlanSpec| origin(spec.clone());
    let pair = |agent: &str, why: &str| (agent.to_owned(), why.to_owned());
    assert_eq!(said(&spec), pair("test-automator", "`test` in its title"));
    spec.defaults.agent = Some(name("c"));
    assert_eq!(said(&spec), pair("c", "named by `[defaults]`"));
    spec.epics[0].agent = Some(name("b"));
    assert_eq!(said(&spec), pair("b", "named by its epic"));
    spec.tasks[0].agent = Some(name("a"));
    assert_eq!(said(&spec), pair("a", "named by the task"));

    let only = plan(&["x"], "Test it", "x");
    assert_eq!(said(&only), pair("x", "the only agent of the plan"));
    let mut second = plan(&["backend-architect", "x"], "Tests of the API, coverage", "x");
    assert_eq!(said(&second), pair("backend-architect", "`API` in its title"));
    let kind = |spec: PlanSpec| {
        let plan = ValidPlan::new(spec).unwrap();
        plan.tasks()[0].assignment.as_ref().unwrap().kind.clone()
    };
    assert_eq!(kind(second.clone()), Some(name("test-automator")));
    second.detect = BTreeMap::from([(name("x"), vec!["coverage".into(), "of".into()])]);
    assert_eq!(said(&second), pair("x", "`coverage`, `of` in its title"));
}

#[test]
fn fallbacks_and_models_come_from_the_nearest_place() {
    let mut spec = plan(&["a=codex/o", "b=codex", "c=claude/s", "d=claude"], "", "x");
    spec.defaults.agent = Some(name("b"));
    spec.defaults.fallback_agents = names(&["a", "c", "d"]);
    assert_eq!(candidates(spec.clone()), ["b", "a (o)", "c (s)", "d"]);
    spec.defaults.model = Some("m".into());
    assert_eq!(candidates(spec.clone()), ["b (m)", "a (o)", "c (s)", "d"], "d is of another kind");
    spec.epics[0].fallback_agents = names(&["d"]);
    spec.epics[0].model = Some("e".into());
    assert_eq!(candidates(spec.clone()), ["b (e)", "d"]);
    spec.epics[0].agent = Some(name("c"));
    assert_eq!(candidates(spec.clone()), ["c (e)", "d (e)"]);
    spec.tasks[0].model = Some("t".into());
    assert_eq!(candidates(spec.clone()), ["c (t)", "d (t)"]);
    spec.tasks[0].fallback_agents = Some(Vec::new());
    assert_eq!(candidates(spec.clone()), ["c (t)"]);
    spec.tasks[0].model = None;
    spec.tasks[0].agent = Some(name("b"));
    assert_eq!(candidates(spec.clone()), ["b (m)"], "what the epic names is for its own agent");
    let models = Models { small: Some("s".into()), ..Models::default() };
    spec.agents.get_mut(&name("b")).unwrap().models = Some(models);
    assert_eq!(candidates(spec), ["b"], "it is to be chosen");
}

#[test]
fn mistakes_have_a_place_and_a_cure() {
    let mut spec = plan(&["one", "two"], "", "x");
    spec.defaults.fallback_agents = names(&["tow"]);
    spec.epics[0].agent = Some(name("one"));
    spec.epics[0].fallback_agents = names(&["one"]);
    spec.epics[0].model = Some(" ".into());
    spec.tasks[0].fallback_agents = names(&["two", "one", "two"]);
    spec.detect.insert(name("three"), vec!["x".into()]);
    spec.detect.insert(name("two"), vec!["*".into()]);
    spec.detect.insert(name("backend-architect"), Vec::new());
    let two = spec.agents.get_mut(&name("two")).unwrap();
    two.model = Some("m".into());
    two.models = Some(Models::default());
    check(
        spec,
        &[
            "defaults.fallback_agents[0]: there is no agent `tow` (did you mean `two`?)",
            "agents.two.models: `models` has no effect next to `model` (remove one of them)",
            "agents.two.models: there is no model to choose from (give `small`, `medium` or `large`)",
            "detect.three: there is no agent `three` (add `[agents.three]` with its `command`)",
            "detect.two[0]: there is no word in `*` (write words, as `API` or `data base`; `*` stands for letters)",
            "epic[0].model: the model is empty (write one, or remove `model`)",
            "epic[0].fallback_agents[0]: agent `one` can't stand in for itself (remove it from `fallback_agents`)",
            "task[0].fallback_agents[2]: `two` is named twice (remove one of them)",
            "task[0].fallback_agents[1]: agent `one` can't stand in for itself (remove it from `fallback_agents`)",
        ],
    );
    let mut spec = plan(&["one", "two"], "Test the API", "x");
    check(
        spec.clone(),
        &[
            "task[0].id: task `a` has a prompt and no agent (add `agent = \"NAME\"` to the task or to `[defaults]`, or `[agents.test-automator]`, for which `test` in its title speaks)",
        ],
    );
    let task = &mut spec.tasks[0];
    task.prompt = None;
    task.critical = true;
    task.fallback_agents = Some(Vec::new());
    *task = task.clone().run("x");
    check(
        spec,
        &[
            "task[0].fallback_agents: `fallback_agents` has no effect next to `run` (remove `fallback_agents`, or give a `prompt` in place of `run`)",
            "task[0].critical: `critical` has no effect next to `run` (remove `critical`, or give a `prompt` in place of `run`)",
        ],
    );
}

fn agent() -> impl Strategy<Value = Option<usize>> {
    proptest::option::of(0_usize..4)
}

fn list() -> impl Strategy<Value = Option<Vec<usize>>> {
    let some = proptest::sample::subsequence(vec![0_usize, 1, 2, 3], 0..=4);
    proptest::option::of(some.prop_shuffle())
}

proptest! {
    /// Whatever is written where: what is named wins, nobody comes twice, and a plan says the same each time.
    #[test]
    fn what_is_named_wins(
        (task, epic, defaults) in (agent(), agent(), agent()),
        (of_task, of_epic, of_defaults) in (list(), list(), list()),
        (task_model, epic_model, default_model) in any::<(bool, bool, bool)>(),
        prompt in "(api|ui|test|sql|auth|the|x| ){0,8}x",
    ) {
        let all = ["test-automator=codex/t", "backend-architect=claude", "c=codex", "d=claude/d"];
        let plain: Vec<_> = all.iter().map(|agent| agent.split_once('=').unwrap().0).collect();
        let one = |at: Option<usize>| at.map(|at| name(plain[at]));
        let some = |list: Option<Vec<usize>>| {
            list.map(|list| list.into_iter().map(|at| name(plain[at])).collect::<Vec<_>>())
        };
        let mut spec = plan(&all, "", &prompt);
        spec.tasks[0].agent = one(task);
        spec.epics[0].agent = one(epic);
        spec.defaults.agent = one(defaults);
        spec.tasks[0].fallback_agents = some(of_task);
        spec.epics[0].fallback_agents = some(of_epic);
        spec.defaults.fallback_agents = some(of_defaults);
        spec.tasks[0].model = task_model.then(|| "task".into());
        spec.epics[0].model = epic_model.then(|| "epic".into());
        spec.defaults.model = default_model.then(|| "default".into());
        let Ok(valid) = ValidPlan::new(spec.clone()) else { return Ok(()) };
        let again = ValidPlan::new(spec.clone()).unwrap();
        prop_assert_eq!(valid.tasks(), again.tasks());
        let candidates: Vec<_> = valid.tasks()[0].candidates().collect();
        let first = candidates.first().expect("an agent");
        let named = spec.tasks[0].agent.clone().or(spec.epics[0].agent.clone()).or(spec.defaults.agent.clone());
        let assignment = valid.tasks()[0].assignment.as_ref().unwrap();
        match named {
            Some(named) => prop_assert_eq!(&first.agent, &named),
            None => prop_assert!(matches!(&assignment.origin, AgentOrigin::Detected(found) if found.agent == first.agent)),
        }
        if task_model {
            prop_assert_eq!(first.model.as_deref(), Some("task"));
        }
        for (at, one) in candidates.iter().enumerate() {
            prop_assert!(candidates[..at].iter().all(|other| other.agent != one.agent));
        }
    }
}

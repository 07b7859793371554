//! Plans that were built by code.

use std::time::Duration;

use super::*;
use crate::{
    id::{AgentName, LockName},
    plan::{
        Agent, LockClaim, LockMode, Pool, PoolValues, Prompt, Work,
        spec::{AgentKind, AgentSpec, AgentStdin, EpicSpec, LockSpec, McpServer, PoolSpec},
    },
};

fn task_id(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

fn epic_id(id: &str) -> EpicId {
    EpicId::new(id).unwrap()
}

/// `a < b c` is a task that needs two; `a ~ b` is one that comes after; `a @ e` belongs to an epic;
/// `e: f` is an epic that needs another.
fn plan(lines: &str) -> PlanSpec {
    let mut spec = PlanSpec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some((id, needs)) = line.split_once(':') {
            let needs = needs.split_whitespace().map(epic_id).collect();
            spec.epics.push(EpicSpec { needs, ..EpicSpec::new(epic_id(id)) });
            continue;
        }
        let mut words = line.split_whitespace();
        let mut task = TaskSpec::new(task_id(words.next().unwrap())).run("x");
        let mut mode = "";
        for word in words {
            match (word, mode) {
                ("<" | "~" | "@", _) => mode = word,
                (id, "<") => task.needs.push(task_id(id)),
                (id, "~") => task.after.push(task_id(id)),
                (id, _) => task.epic = Some(epic_id(id)),
            }
        }
        spec.tasks.push(task);
    }
    spec
}

#[track_caller]
fn check_plan(spec: PlanSpec, expected: &[&str]) {
    let said = ValidPlan::new(spec).expect_err("the plan has a mistake").to_string();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[track_caller]
fn check_cycles(lines: &str, expected: &[&str]) {
    let problems = match ValidPlan::new(plan(lines)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0,
    };
    let said: Vec<_> = problems
        .iter()
        .map(|problem| {
            let cycle = problem.message.trim_start_matches("cycle of dependencies: ");
            format!("{}: {cycle}", problem.path)
        })
        .collect();
    assert_eq!(said, expected);
}

#[test]
fn cycles_are_printed_as_a_way_around() {
    check_cycles("a < b\nb ~ a", &["task[0].needs[0]: a -> b -> a"]);
    check_cycles("a < b\nb < c d\nc < a\nd < b", &["task[1].needs[1]: b -> d -> b"]);
    check_cycles(
        "z < y\ny < z\na < b\nb < a\nq < z",
        &["task[0].needs[0]: z -> y -> z", "task[2].needs[0]: a -> b -> a"],
    );
    check_cycles("a < b c\nb < d\nc < d\nd", &[]);
}

#[test]
fn cycles_lead_through_epics() {
    check_cycles(
        "infra:\nauth: infra\na @ auth\nb < a @ infra",
        &["task[0].epic: a -> epic infra -> b -> a"],
    );
    check_cycles(
        "e: f\nf: g\ng: e\na",
        &["epic[0].needs[0]: epic e -> epic f -> epic g -> epic e"],
    );
    // An epic without tasks hands the wait on.
    check_cycles(
        "e: f\nf: g\ng:\na @ e\nb < a @ g",
        &["task[0].epic: a -> epic f -> epic g -> b -> a"],
    );
    check_cycles("e:\na @ e\nb < a @ e", &[]);
}

#[test]
fn the_related_places_go_around_the_cycle() {
    let spec = plan("infra:\nauth: infra\na @ auth\nb < a @ infra");
    let (plan, findings) = check(spec, &NoText);
    assert!(plan.is_none());
    let places: Vec<_> =
        findings[0].related.iter().map(|(path, why)| format!("{path}: {why}")).collect();
    assert_eq!(findings[0].label.as_deref(), Some("`a` is a task of epic `auth`"));
    assert_eq!(
        places,
        [
            "epic[1].needs[0]: epic `auth` waits for epic `infra`",
            "task[1].epic: `b` is a task of epic `infra`",
            "task[1].needs[0]: `b` waits for `a`",
        ]
    );
}

#[test]
fn a_long_chain_neither_takes_long_nor_exhausts_the_stack() {
    let mut spec = PlanSpec::new();
    for task in 0..50_000_u32 {
        let mut next = TaskSpec::new(task_id(&format!("t{task}"))).run("x");
        next.needs.extend(task.checked_sub(1).map(|before| task_id(&format!("t{before}"))));
        spec.tasks.push(next);
    }
    let mut looped = spec.clone();
    assert_eq!(ValidPlan::new(spec).unwrap().tasks().len(), 50_000);
    looped.tasks[0].needs.push(task_id("t49999"));
    assert_eq!(ValidPlan::new(looped).unwrap_err().len(), 1);
}

#[test]
fn defaults_are_applied() {
    let bare = ValidPlan::new(plan("a")).unwrap();
    let task = bare.task(bare.index_of(&task_id("a")).unwrap());
    assert_eq!(task.timeout, Duration::from_secs(3600));
    assert_eq!((task.retries, task.priority, task.max_output), (0, 2, ByteSize(64 << 20)));
    assert_eq!((task.verify.len(), task.env.len(), task.name()), (0, 0, "a"));

    let mut spec = plan("a < c ~ b c\nb\nc @ e\ne:");
    spec.defaults.timeout = Some(Span::from_secs(5));
    spec.defaults.retries = Some(3);
    spec.defaults.verify = Some(vec![CommandLine::Shell("test".into())]);
    spec.defaults.env = [("A".into(), "1".into()), ("B".into(), "2".into())].into();
    spec.defaults.max_output = Some(ByteSize(1));
    spec.tasks[1].retries = Some(0);
    spec.tasks[1].verify = Some(Vec::new());
    spec.tasks[1].env = [("B".into(), "3".into())].into();
    let plan = ValidPlan::new(spec).unwrap();
    let [a, b, c] = plan.tasks() else { panic!("three tasks") };
    assert_eq!((a.timeout, a.retries, a.verify.len()), (Duration::from_secs(5), 3, 1));
    assert_eq!((b.retries, b.verify.len(), b.max_output), (0, 0, ByteSize(1)));
    assert_eq!(b.env.values().collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(
        (a.needs.as_slice(), a.after.as_slice()),
        ([TaskIndex(2)].as_slice(), [TaskIndex(1)].as_slice())
    );
    assert_eq!(c.epic, Some(EpicIndex(0)));
    assert_eq!(plan.epics()[0].tasks, [TaskIndex(2)]);
    assert_eq!(plan.indices().len(), 3);
}

#[test]
fn prompts_find_their_agent_and_model() {
    let agent = |command: &[&str], model: Option<&str>| AgentSpec {
        command: command.iter().map(|argument| (*argument).to_owned()).collect(),
        model: model.map(Into::into),
        ..AgentSpec::new(AgentKind::Command)
    };
    let name = |name: &str| AgentName::new(name).unwrap();
    let mut spec = PlanSpec::new();
    spec.agents.insert(name("one"), agent(&["one", "{prompt}", "{model}"], Some("small")));
    spec.agents.insert(name("two"), agent(&["two"], None));
    spec.defaults.agent = Some(name("two"));
    spec.defaults.model = Some("fallback".into());
    for (id, agent, model) in
        [("a", None, None), ("b", Some("one"), None), ("c", Some("one"), Some("big"))]
    {
        let mut task = TaskSpec::new(task_id(id));
        task.prompt = Some("do it".into());
        task.agent = agent.map(name);
        task.model = model.map(Into::into);
        spec.tasks.push(task);
    }
    let plan = ValidPlan::new(spec.clone()).unwrap();
    let expected = [("two", "fallback"), ("one", "small"), ("one", "big")];
    for (task, (agent, model)) in plan.tasks().iter().zip(expected) {
        let prompt = Prompt::Text("do it".into());
        assert_eq!(
            task.work,
            Work::Prompt { agent: name(agent), prompt, model: Some(model.into()) }
        );
    }
    let stdin =
        |plan: &ValidPlan, of: &str| plan.agents().get(&name(of)).map(|agent: &Agent| agent.stdin);
    assert_eq!(stdin(&plan, "one"), Some(AgentStdin::Null));
    assert_eq!(stdin(&plan, "two"), Some(AgentStdin::Prompt));

    spec.defaults.model = None;
    spec.agents.insert(name("one"), agent(&["one", "{prompt}", "{model}"], None));
    spec.tasks[2].model = None;
    let why = "add `model` to the task, to `[agents.one]` or to `[defaults]`";
    let expected = format!(
        "task[1].agent: task `b` has no model for agent `one` (nor has 1 more task) ({why})"
    );
    check_plan(spec.clone(), &[&expected]);
    let extra = TaskSpec { id: task_id("d"), ..spec.tasks[2].clone() };
    spec.tasks.push(extra);
    check_plan(spec.clone(), &[&expected.replace("has 1 more task)", "have 2 more tasks)")]);

    spec.agents.clear();
    spec.defaults.agent = None;
    spec.tasks.truncate(1);
    check_plan(
        spec.clone(),
        &[
            "task[0].id: task `a` has a prompt and no agent (add `[agents.NAME]` with its `command`, and `agent = \"NAME\"` to the task)",
        ],
    );
    spec.agents.insert(name("two"), agent(&["two\0"], Some(" ")));
    spec.tasks[0].prompt = Some("\0".into());
    check_plan(
        spec,
        &[
            "agents.two.command[0]: the argument contains a NUL character (remove it: no program can be given one)",
            "agents.two.model: the model is empty (write one, or remove `model`)",
            "task[0].prompt: the prompt contains a NUL character (remove it: no program can be given one)",
        ],
    );
}

#[test]
fn locks_are_sorted_and_their_amounts_checked() {
    let lock = |name: &str, shared, counted| LockSpec {
        name: LockName::new(name).unwrap(),
        shared,
        counted,
        pool: None,
    };
    let mut spec = plan("a\nb");
    spec.tasks[0].locks =
        vec![lock("z", false, None), lock("s", true, None), lock("c", false, Some((1, 2)))];
    spec.tasks[1].locks = vec![lock("c", false, Some((2, 2))), lock("s", false, None)];
    let plan = ValidPlan::new(spec.clone()).unwrap();
    let claim = |name: &str, mode| LockClaim::new(LockName::new(name).unwrap(), mode);
    assert_eq!(
        plan.tasks()[0].locks,
        [
            claim("c", LockMode::Counted { count: 1, of: 2 }),
            claim("s", LockMode::Shared),
            claim("z", LockMode::Exclusive),
        ]
    );
    spec.tasks[0].locks.push(lock("n", true, Some((0, 3))));
    spec.tasks[1].locks.push(lock("n", false, Some((1, 4))));
    check_plan(
        spec,
        &[
            "task[0].locks[3]: 0 units of 3 can't be held (`count` must be at least 1 and at most `of`)",
            "task[0].locks[3]: a lock is either `shared` or counted, not both (leave out `shared`, or `count` and `of`)",
            "task[1].locks[2]: `n` is a counted lock of 4, and elsewhere a counted lock of 3 (count it in the same way in every task)",
        ],
    );
}

#[test]
fn pools_are_checked_with_a_cure() {
    let list = |values: &[&str]| PoolValues::List(values.iter().map(ToString::to_string).collect());
    let range = |text: &str| PoolValues::Range(text.parse().unwrap());
    let lock = |name: &str, values: PoolValues, count, env: Option<&str>| {
        let pool = Pool { values, env: env.map(Into::into) };
        LockSpec {
            pool: Some(PoolSpec { pool, count }),
            ..LockSpec::new(LockName::new(name).unwrap())
        }
    };
    let mut spec = plan("a\nb");
    spec.tasks[0].locks = vec![lock("ports", range("1-4"), 2, Some("PORT"))];
    spec.tasks[1].locks = vec![lock("ports", range("1-4"), 4, Some("OTHER"))];
    let valid = ValidPlan::new(spec.clone()).unwrap();
    let claim = &valid.tasks()[0].locks[0];
    assert_eq!(claim.mode, LockMode::Counted { count: 2, of: 4 });
    assert_eq!(claim.pool.as_ref().unwrap().values, range("1-4"));

    spec.defaults.env.insert("SET".into(), "1".into());
    spec.tasks[0].locks = vec![
        lock("ports", range("1-4"), 5, Some("PORT")),
        lock("none", list(&[]), 1, None),
        lock("zero", list(&["a"]), 0, Some("A=B")),
        lock("twice", list(&["a", "b", "a"]), 1, Some("ORCH_X")),
        lock("nul", list(&["\0"]), 1, Some("PORT_2")),
        lock("set", list(&["a"]), 1, Some("SET")),
    ];
    spec.tasks[1].locks = vec![
        lock("ports", range("1-5"), 1, Some("P")),
        LockSpec::new(LockName::new("set").unwrap()),
    ];
    check_plan(
        spec,
        &[
            "task[0].locks[0]: 5 values of 4 can't be held (`count` must be at least 1 and at most the pool's size)",
            "task[0].locks[1]: the pool has no values (write for example `values = [\"a\", \"b\"]`)",
            "task[0].locks[2]: 0 values of 1 can't be held (`count` must be at least 1 and at most the pool's size)",
            "task[0].locks[2]: the name of a variable can't contain '=' (write for example `env = \"PORT\"`)",
            "task[0].locks[3]: the value \"a\" is in the pool twice (keep one of the two)",
            "task[0].locks[3]: `ORCH_X` is reserved: orch sets the variables `ORCH_...` itself (choose another name)",
            "task[0].locks[4]: the value \"\\0\" contains a NUL character (remove it: no program can be given one)",
            "task[0].locks[4]: `PORT_2` is given by the pool `nul` and by the pool `ports` (choose another name for one of them)",
            "task[0].locks[5]: `SET` is given by the pool `set` and by `env` (choose another name for one of them)",
            "task[1].locks[0]: `ports` is a pool of 1-5, and elsewhere a pool of 1-4 (give it the same values in every task, or use two pools)",
            "task[1].locks[1]: `set` is a plain lock, and elsewhere a pool of a (count it in the same way in every task)",
        ],
    );
}

#[test]
fn a_plan_without_tasks_or_with_a_strange_version_is_refused() {
    let mut spec = PlanSpec::new();
    spec.version = 7;
    spec.defaults.env.insert("A".into(), "\0".into());
    check_plan(
        spec,
        &[
            "version: this is a plan of version 7; this orch reads version 1 (update orch)",
            "the plan has no task (add a `[[task]]` with an `id` and a `run`)",
            "defaults.env.A: the value of `A` contains a NUL character (remove it: no program can be given one)",
        ],
    );
}

#[test]
fn what_merging_is_told_must_have_an_effect() {
    let mut spec = plan("a");
    spec.merge.batch = Some(0);
    spec.merge.timeout = Some(Span::from_secs(1));
    check_plan(
        spec.clone(),
        &[
            "merge.batch: `batch` is 0: nothing could be merged (write 1 or more, or leave it out)",
            "merge.batch: `batch` has no effect where nothing verifies the merged result (write `verify`, or remove `batch`)",
            "merge.timeout: `timeout` has no effect where nothing verifies the merged result (write `verify`, or remove `timeout`)",
        ],
    );
    spec.merge.batch = Some(3);
    spec.merge.verify = vec![CommandLine::Shell("make test".into())];
    let plan = ValidPlan::new(spec).unwrap();
    let merging = plan.merging();
    assert_eq!(
        (merging.batch, merging.timeout, merging.verify.len()),
        (3, Duration::from_secs(1), 1)
    );
}

#[test]
fn servers_of_tools_are_programs_or_at_urls() {
    let server = |command: &[&str], url: Option<&str>, env: &[&str]| McpServer {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        url: url.map(str::to_owned),
        env: env.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect(),
    };
    let with = |kind, name: &str, server: McpServer| {
        let mut spec = plan("a");
        let mut agent = AgentSpec::new(kind);
        agent.command = vec!["x".into()];
        agent.mcp.insert(name.into(), server);
        spec.agents.insert(AgentName::new("coder").unwrap(), agent);
        spec
    };
    for kind in [AgentKind::Claude, AgentKind::Acp] {
        for good in [server(&["tools", "-x"], None, &["A"]), server(&[], Some("http://h/mcp"), &[])]
        {
            let valid = ValidPlan::new(with(kind, "tools-1", good.clone())).unwrap();
            assert_eq!(valid.agents().values().next().unwrap().mcp["tools-1"], good);
        }
    }
    let problem = |kind, name, server| {
        let problems = ValidPlan::new(with(kind, name, server)).expect_err("a mistake").0;
        problems.iter().map(|it| format!("{}: {}", it.path, it.message)).collect::<Vec<_>>()
    };
    let codex = AgentKind::Codex;
    let at = |rest: &str| vec![format!("agents.coder.mcp{rest}")];
    assert_eq!(problem(codex, "a", server(&[], None, &[])), at(".a: server `a` is nowhere"));
    assert_eq!(
        problem(codex, "a", server(&["x"], Some("http://h"), &[])),
        at(".a: server `a` is a program and at a URL")
    );
    assert_eq!(
        problem(codex, "a", server(&[], Some("h:80"), &[])),
        at(".a.url: `h:80` is no URL of a server")
    );
    assert_eq!(
        problem(codex, "a", server(&[], Some("https://h"), &["A"])),
        at(".a.env: nothing is started that could have this")
    );
    assert_eq!(
        problem(codex, "a b", server(&["x"], None, &[])),
        at(".\"a b\": `a b` is no name of a server")
    );
    assert_eq!(
        problem(AgentKind::Command, "a", server(&["x"], None, &[])),
        at(": an agent of kind `command` can't be told of servers")
    );
}

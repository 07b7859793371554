//! What the engine tells runners of agents.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use orch_exec::{
    ParallelOrchestrator,
    model::{
        PlanSpec, RunStatus,
        plan::spec::{AgentKind, AgentSpec, CommandLine, EpicSpec, Isolation, TaskSpec},
        ports::{AdoptRequest, Adopted, AgentRequest, AgentRunner, RunnerError, RunningAgent},
        prompt::PromptTemplate,
    },
    testing::{ScriptedRunner, Step, TestEngine},
};

use crate::common::{soon, task};

/// Keeps what agents are started with.
#[derive(Debug, Clone, Default)]
struct Recording {
    inner: ScriptedRunner,
    requests: Arc<Mutex<Vec<AgentRequest>>>,
}

#[async_trait]
impl AgentRunner for Recording {
    fn name(&self) -> &str {
        "recording"
    }

    async fn start(&self, request: AgentRequest) -> Result<Box<dyn RunningAgent>, RunnerError> {
        self.requests.lock().unwrap().push(request.clone());
        self.inner.start(request).await
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<Adopted, RunnerError> {
        self.inner.adopt(request).await
    }
}

fn prompt(id: &str, text: &str) -> TaskSpec {
    TaskSpec {
        run: None,
        prompt: Some(text.into()),
        agent: Some("coder".parse().unwrap()),
        isolation: Some(Isolation::None),
        ..TaskSpec::new(id.parse().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_with_a_prompt_are_described_and_commands_are_not() {
    let parts = TestEngine::new();
    let runner = Recording::default();
    let engine = ParallelOrchestrator::builder("/nowhere")
        .config(parts.config.clone())
        .runner(Arc::new(runner.clone()))
        .store(Arc::new(parts.store.clone()))
        .locks(Arc::new(parts.locks.clone()))
        .build()
        .await
        .unwrap();
    runner.inner.script("login", [Step::Say("no such table".into(), 3), Step::Exit(0)]);

    let mut plan = PlanSpec::new().task(task("schema"));
    plan.agents.insert("coder".parse().unwrap(), AgentSpec::new(AgentKind::Codex));
    plan.texts.insert("style".into(), "Be brief.\n".into());
    plan.texts.insert("brief".into(), "{{ prompt }}".into());
    plan.epics.push(EpicSpec {
        title: Some("People".into()),
        template: Some("brief".into()),
        ..EpicSpec::new("auth".parse().unwrap())
    });
    plan.tasks.push(TaskSpec {
        epic: Some("auth".parse().unwrap()),
        needs: vec!["schema".parse().unwrap()],
        skills: vec!["style".into()],
        domain: Some("api".parse().unwrap()),
        retries: Some(1),
        verify: Some(vec![CommandLine::Shell("make test".into())]),
        ..prompt("login", "Log people in.")
    });
    let run = engine.start(plan.validate().unwrap()).await.unwrap();
    assert_eq!(soon(run.wait()).await.unwrap().status, RunStatus::Succeeded);

    let requests = runner.requests.lock().unwrap().clone();
    let (told, commands): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|request| request.context.is_some());
    assert_eq!(commands.len(), 2, "the first task, and the verification of the second");
    assert!(commands.iter().all(|request| request.agent.is_none()), "{commands:?}");
    let [first, second] = &told[..] else { panic!("{told:?}") };
    let context = first.context.as_ref().unwrap();
    assert_eq!((context.task.as_str(), context.attempt, &context.last), ("login", 1, &None));
    assert_eq!(context.prompt, "Log people in.");
    assert_eq!(context.skills[0].text, "Be brief.\n");
    assert_eq!(context.epic.as_ref().unwrap().title.as_deref(), Some("People"));
    assert_eq!(context.verify, ["make test"]);
    let PromptTemplate::Text(template) = &context.template else { panic!("{context:?}") };
    assert_eq!((template.name.as_str(), template.text.as_str()), ("brief", "{{ prompt }}"));
    let needed = &context.dependencies[..];
    assert_eq!((needed.len(), needed[0].is_merged, needed[0].attempt), (1, true, 1));
    assert_eq!((needed[0].task.as_str(), &needed[0].commit), ("schema", &None));
    let last = second.context.as_ref().unwrap().last.as_ref().unwrap();
    assert_eq!((last.attempt, last.class.as_str()), (1, "agent"));

    // Whoever makes nothing of that gives the agent a prompt that is whole.
    let orch_exec::model::plan::Work::Prompt { prompt, .. } = &first.work else { panic!() };
    let whole = orch_exec::model::plan::Prompt::Text("Be brief.\n\nLog people in.".into());
    assert_eq!(*prompt, whole);
}

use orch_model::{
    AgentName, PlanSpec, TaskId,
    plan::spec::{AgentKind, AgentSpec, TaskSpec},
};

use super::*;

fn id(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

fn prompt(name: &str, text: &str) -> TaskSpec {
    TaskSpec {
        prompt: Some(text.into()),
        agent: Some(AgentName::new("coder").unwrap()),
        ..TaskSpec::new(id(name))
    }
}

fn plan(tasks: impl IntoIterator<Item = TaskSpec>) -> ValidPlan {
    let mut spec = tasks.into_iter().fold(PlanSpec::new(), PlanSpec::task);
    let coder = AgentName::new("coder").unwrap();
    spec.agents.insert(coder, AgentSpec::new(AgentKind::Claude));
    spec.texts.insert("style".into(), "Be brief.\n".into());
    spec.texts.insert("login.md".into(), "Log people in.\n".into());
    spec.validate().unwrap()
}

fn facts<'a>(plan: &'a ValidPlan, run: &'a RunId, index: TaskIndex) -> Facts<'a> {
    Facts {
        plan,
        index,
        run,
        attempt: 1,
        repository: "/repo".into(),
        directory: "/repo".into(),
        branch: None,
        last: None,
    }
}

#[tokio::test]
async fn many_dependencies_are_cut_and_counted() {
    let names: Vec<String> = (0..MOST_DEPENDENCIES + 5).map(|n| format!("t{n}")).collect();
    let tasks = names.iter().map(|name| TaskSpec::new(id(name)).run("true"));
    let last =
        TaskSpec { needs: names.iter().map(|name| id(name)).collect(), ..prompt("last", "x") };
    let plan = plan(tasks.chain([last]));
    let (graph, run) = (Graph::new(&plan), RunId::new("r").unwrap());
    let index = plan.index_of(&id("last")).unwrap();
    let found = needed(&plan, &graph, None, index);
    assert_eq!(found.len(), MOST_DEPENDENCIES + 5);
    let dependencies = dependencies(&plan, &run, &found, None).await;
    let context = facts(&plan, &run, index).work(dependencies, found.len()).unwrap();
    assert_eq!((context.dependencies.len(), context.more_dependencies), (MOST_DEPENDENCIES, 5));
    assert!(context.dependencies.iter().all(|needed| !needed.is_merged));
    // A command is told nothing, and nothing is looked for.
    let command = plan.index_of(&id("t1")).unwrap();
    assert_eq!(needed(&plan, &graph, None, command), []);
    assert_eq!(facts(&plan, &run, command).work(Vec::new(), 0), None);
}

#[test]
fn a_prompt_without_a_template_is_whole() {
    let mut task = prompt("a", "");
    task.prompt = None;
    task.prompt_file = Some("login.md".into());
    task.skills = vec!["style".into()];
    let plan = plan([task]);
    let told = |conflict| match plain(&plan, &plan.tasks()[0], conflict) {
        Work::Prompt { prompt: Prompt::Text(text), .. } => text,
        work => panic!("{work:?}"),
    };
    assert_eq!(told(None), "Be brief.\n\nLog people in.\n");
    let conflict = after_conflict(Some("refs/orch/preserved/r/a/1"), "Files in conflict: f\n");
    let told = told(Some(&conflict));
    assert!(told.starts_with("Be brief.\n\nLog people in.\n\n\n---\nAn earlier attempt"), "{told}");
    assert!(
        told.contains("refs/orch/preserved/r/a/1") && told.ends_with("conflict: f\n"),
        "{told}"
    );
    let commit = CommitId::new("5d6e7f80123456789abcdef0123456789abcdef0");
    let text = resolution(&plan, &plan.tasks()[0], &commit, "Files in conflict: f\n");
    assert!(text.ends_with("\nThe task was:\n\nLog people in.\n\n"), "{text}");
}

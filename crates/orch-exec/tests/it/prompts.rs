//! How agents get their prompt.

use std::fs;

use orch_exec::model::{
    outcome::ExitStatus,
    plan::{Agent, Prompt, Work, spec::AgentStdin},
    ports::{AgentRequest, AgentRunner, RunnerError},
};

use crate::process::Bench;

const TEXT: &str = "Add a login.\n\"Quotes\", $HOME and {braces} stay as they are.\n";

fn request(bench: &Bench, prompt: Prompt, command: &[&str], stdin: AgentStdin) -> AgentRequest {
    let work = Work::Prompt { agent: "coder".parse().unwrap(), prompt, model: None };
    let agent = Agent {
        command: command.iter().map(|part| (*part).to_owned()).collect(),
        stdin,
        model: Some("large".into()),
        ..Agent::of_command(Vec::new())
    };
    AgentRequest { agent: Some(agent), ..bench.request(work) }
}

async fn says(bench: &Bench, request: AgentRequest) -> String {
    let agent = bench.runner.start(request).await.unwrap();
    let exit = agent.wait().await.unwrap();
    assert_eq!(exit.status, ExitStatus::Code(0), "{}", exit.output_tail);
    exit.output_tail
}

#[tokio::test]
async fn a_prompt_comes_in_every_way() {
    let bench = Bench::new();
    let text = || Prompt::Text(TEXT.into());
    let by_stdin = request(&bench, text(), &["cat"], AgentStdin::Prompt);
    assert_eq!(says(&bench, by_stdin).await, TEXT);
    let by_argument = request(&bench, text(), &["printf", "%s", "{prompt}"], AgentStdin::Null);
    assert_eq!(says(&bench, by_argument).await, TEXT);
    let by_file = request(&bench, text(), &["cat", "{prompt_file}"], AgentStdin::Null);
    assert_eq!(says(&bench, by_file).await, TEXT);
}

#[tokio::test]
async fn a_prompt_file_of_the_repository_is_read() {
    let bench = Bench::new();
    fs::create_dir(bench.path().join("prompts")).unwrap();
    fs::write(bench.path().join("prompts/login.md"), TEXT).unwrap();
    let file = || Prompt::File("prompts/login.md".into());
    for (command, stdin) in [
        (&["cat"][..], AgentStdin::Prompt),
        (&["cat", "{prompt_file}"], AgentStdin::Null),
        (&["printf", "%s", "{prompt}"], AgentStdin::Null),
    ] {
        assert_eq!(says(&bench, request(&bench, file(), command, stdin)).await, TEXT);
    }
    let missing = Prompt::File("prompts/gone.md".into());
    let error = bench
        .runner
        .start(request(&bench, missing, &["cat"], AgentStdin::Prompt))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("prompts/gone.md"), "{error}");
}

#[tokio::test]
async fn model_and_worktree_are_filled_in() {
    let bench = Bench::new();
    let command = ["echo", "--model={model}", "{worktree}"];
    let general = request(&bench, Prompt::Text(String::new()), &command, AgentStdin::Null);
    let folder = bench.path().display();
    assert_eq!(says(&bench, general.clone()).await, format!("--model=large {folder}\n"));
    let mut special = general.clone();
    let Work::Prompt { model, .. } = &mut special.work else { panic!() };
    *model = Some("small".into());
    assert_eq!(says(&bench, special).await, format!("--model=small {folder}\n"));
    let mut none = general;
    none.agent.as_mut().unwrap().model = None;
    assert_eq!(says(&bench, none).await, format!("--model= {folder}\n"));
}

#[tokio::test]
async fn a_prompt_without_an_agent_is_refused() {
    let bench = Bench::new();
    let mut request = request(&bench, Prompt::Text(String::new()), &["cat"], AgentStdin::Null);
    request.agent = None;
    let error = bench.runner.start(request).await.unwrap_err();
    assert!(matches!(error, RunnerError::Unsupported(_)), "{error}");
}

//! Agents through the adapters: scripts that behave as the agents do, run as real processes.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orch_agents::{
    AgentAdapters, AgentEvent, Record, UserHome, prompt::Knowledge, session::RunFolder,
};
use orch_exec::process::CommandRunner;
use orch_model::{
    ByteSize, RunId, TaskId,
    outcome::{AgentExit, ExitStatus, Failure},
    plan::{
        Agent, Prompt, Work,
        spec::{AgentKind, CommandLine},
    },
    ports::{
        AdoptRequest, Adopted, AgentNotice, AgentRequest, AgentRunner, Purpose, RunnerError,
        RunningAgent,
    },
    prompt::{LastAttempt, Made, PromptContext, PromptDependency, PromptTemplate, PromptText},
    state::Attempt,
};

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["state", "work", "user/.codex", "elsewhere"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("user/.codex/auth.json"), "the user's token").unwrap();
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn runner(&self) -> AgentAdapters {
        let processes = Arc::new(CommandRunner::new(self.path("state")));
        let user = UserHome::new(self.path("user"), [("USER", "dev")]);
        AgentAdapters::new(processes, self.path("state"), user)
    }

    /// An agent that is a script.
    fn agent(&self, kind: AgentKind, script: &str) -> Agent {
        let program = self.path("agent");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Agent { kind, ..Agent::of_command(vec![program.to_string_lossy().into_owned()]) }
    }

    fn request(&self, agent: Agent, attempt: Attempt) -> AgentRequest {
        AgentRequest {
            context: None,
            run: RunId::new("r").unwrap(),
            task: TaskId::new("a").unwrap(),
            attempt,
            purpose: Purpose::Work,
            work: Work::Prompt {
                agent: "coder".parse().unwrap(),
                prompt: Prompt::Text("do {it}".into()),
                model: Some("gpt-5".into()),
            },
            agent: Some(agent),
            directory: self.path("work"),
            repository: self.path("work"),
            env: BTreeMap::new(),
            silence_timeout: None,
            max_output: ByteSize(1 << 20),
            max_total_output: ByteSize(1 << 30),
        }
    }

    async fn run(&self, request: AgentRequest) -> AgentExit {
        self.runner().start(request).await.unwrap().wait().await.unwrap()
    }

    fn events(&self, attempt: Attempt) -> Vec<Record> {
        let path = self.path("state/runs/r/logs").join(format!("a.{attempt}.events.jsonl"));
        let text = fs::read_to_string(path).unwrap();
        let mut lines = text.lines();
        let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(header["v"], 1);
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.path("work").join(name)).unwrap()
    }
}

/// What is known of the task of a request.
fn context(request: &AgentRequest) -> PromptContext {
    PromptContext {
        directory: request.directory.clone(),
        attempt: request.attempt,
        ..PromptContext::new(request.run.clone(), request.task.clone(), "do {it}")
    }
}

fn last() -> LastAttempt {
    LastAttempt {
        attempt: 1,
        class: "verification".into(),
        message: "it did not compile".into(),
        conflict: None,
        output: None,
        reference: None,
        made: Made::default(),
        said: None,
        verification: None,
    }
}

fn transcript(agent: &str, case: &str) -> PathBuf {
    let name = format!("{agent}/{case}.jsonl");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name)
}

fn replay(agent: &str, case: &str, code: i32) -> String {
    format!("cat > prompt; cat {}; exit {code}", transcript(agent, case).display())
}

#[tokio::test]
async fn an_agent_is_called_in_a_home_of_its_own_and_its_stream_is_kept() {
    let bench = Bench::new();
    let script = format!(
        "cat > prompt; printf '%s\\n' \"$@\" > args; echo $HOME > home; echo $TMPDIR > tmp; \
         cat $CODEX_HOME/auth.json > seen; touch $TMPDIR/big; cat {}",
        transcript("codex", "success").display()
    );
    let mut agent = bench.agent(AgentKind::Codex, &script);
    agent.args = vec!["--in={worktree}".into()];
    let exit = bench.run(bench.request(agent, 1)).await;
    assert!(exit.is_success() && exit.is_done, "{exit:?}");
    assert_eq!(bench.said("prompt"), "do {it}");
    let args = bench.said("args");
    assert!(args.starts_with("exec\n--json\n"), "{args}");
    let work = bench.path("work");
    assert!(args.ends_with(&format!("-m\ngpt-5\n--in={}\n-\n", work.display())), "{args}");
    let home = PathBuf::from(bench.said("home").trim());
    assert_eq!(home, bench.path("state/runs/r/homes/a.1"));
    assert_eq!(bench.said("seen"), "the user's token");
    assert!(home.join(".codex/auth.json").is_symlink(), "it is linked, not copied");
    assert!(
        !Path::new(bench.said("tmp").trim()).exists(),
        "what is temporary goes with the attempt"
    );

    let events = bench.events(1);
    assert_eq!(events.len(), 7);
    assert!(matches!(events[6].event, AgentEvent::End { success: true, .. }));
    let usage = exit.usage.unwrap();
    assert_eq!(
        (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens),
        (3600, 600, 102)
    );
    // 3000 * 1.25 + 600 * 0.125 + 102 * 10 millionths.
    assert_eq!((usage.cost_micro_usd, usage.unpriced_tokens), (4845, 0));
}

#[tokio::test]
async fn the_stream_tells_of_success_and_not_the_exit_code() {
    for (kind, agent, case, code, expected) in [
        (AgentKind::Claude, "claude", "permission", 0, Some("needs_input")),
        (AgentKind::Claude, "claude", "sigint_run", 0, Some("agent")),
        (AgentKind::Claude, "claude", "rate_limit", 1, Some("rate_limit")),
        (AgentKind::Opencode, "opencode", "permission", 0, Some("needs_input")),
        (AgentKind::Gemini, "gemini", "success", 7, None),
        (AgentKind::Gemini, "gemini", "sigterm_run", 0, Some("agent")),
        (AgentKind::Codex, "codex", "success", 3, Some("agent")),
        (AgentKind::Codex, "codex", "unauthorized", 1, Some("authentication")),
    ] {
        let bench = Bench::new();
        let agent_spec = bench.agent(kind, &replay(agent, case, code));
        let exit = bench.run(bench.request(agent_spec, 1)).await;
        let found = exit.failure.as_ref().map(Failure::class);
        assert_eq!(found, expected, "{agent}/{case}: {exit:?}");
        assert_eq!(exit.is_success(), expected.is_none(), "{agent}/{case}");
        assert_eq!(exit.status, ExitStatus::Code(code), "{agent}/{case}");
    }
}

#[tokio::test]
async fn an_agent_that_prints_nothing_has_not_succeeded() {
    let bench = Bench::new();
    let exit = bench.run(bench.request(bench.agent(AgentKind::Claude, "cat > prompt"), 1)).await;
    let Some(Failure::Agent { output_tail, .. }) = &exit.failure else { panic!("{exit:?}") };
    assert!(output_tail.contains("never said that its turn is over"), "{output_tail}");
}

#[tokio::test]
async fn a_retry_goes_on_in_the_session() {
    let bench = Bench::new();
    let script = |case| {
        let transcript = transcript("codex", case);
        format!("cat > prompt; echo \"$@\" > args; echo $HOME > home; cat {}", transcript.display())
    };
    let first = bench.request(bench.agent(AgentKind::Codex, &script("success")), 1);
    bench.run(first).await;
    let home = bench.said("home");
    let mut second = bench.request(bench.agent(AgentKind::Codex, &script("success")), 2);
    let mut context = context(&second);
    context.last = Some(last());
    second.context = Some(Box::new(context));
    let logs = bench.path("state/runs/r/logs");
    fs::write(logs.join("a.1.verify-0.log"), "missing semicolon\n").unwrap();
    let shown = bench.runner().prompt(&second).unwrap();
    let exit = bench.run(second).await;
    assert!(bench.said("args").ends_with("resume 01a1fc61-d2bb-7890-b130-862becedac97 -\n"));
    let prompt = bench.said("prompt");
    assert!(
        prompt.contains("it did not compile") && prompt.contains("missing semicolon"),
        "{prompt}"
    );
    assert_eq!(prompt, shown, "what is shown before is what is sent");
    assert!(prompt.starts_with("The last attempt at this task has failed"), "{prompt}");
    assert!(!prompt.contains("do {it}"), "the session knows the task: {prompt}");
    assert_eq!(bench.said("home"), home, "the session is kept in the home");
    // The recorded counts are those of the whole thread, of which nothing was new.
    assert_eq!(exit.usage.unwrap().input_tokens, 0);

    let folder = RunFolder::new(&bench.path("state"), &RunId::new("r").unwrap());
    let (attempt, record) = folder.last(&TaskId::new("a").unwrap()).unwrap().unwrap();
    assert_eq!((attempt, record.began), (2, 1));
    assert!(record.attach().unwrap().contains("resume 01a1fc61"));
}

#[tokio::test]
async fn a_session_that_is_bound_to_another_folder_is_not_continued() {
    let bench = Bench::new();
    let script =
        format!("{}; echo \"$@\" > args", replay("claude", "success", 0).replace("; exit 0", ""));
    bench.run(bench.request(bench.agent(AgentKind::Claude, &script), 1)).await;
    let first = bench.said("args");
    assert!(first.contains("--session-id "), "{first}");
    let mut second = bench.request(bench.agent(AgentKind::Claude, &script), 2);
    second.directory = bench.path("elsewhere");
    bench.run(second).await;
    let args = fs::read_to_string(bench.path("elsewhere/args")).unwrap();
    assert!(args.contains("--session-id ") && args != first, "{args}");
    assert!(!bench.path("state/runs/r/homes/a.1").exists(), "nobody needs it any more");
    assert!(bench.path("state/runs/r/homes/a.2").exists());
}

/// As gemini does after a turn that was cut off.
#[tokio::test]
async fn a_session_that_the_agent_does_not_know_any_more_is_given_up() {
    let bench = Bench::new();
    let lost = "Error resuming session: No previous sessions found for this project.";
    let script = format!(
        "echo \"$@\" > args; case \"$*\" in *--resume*) echo '{lost}' >&2; exit 42;; esac; {}",
        replay("gemini", "cut", 1)
    );
    let run = async |attempt| {
        let exit = bench.run(bench.request(bench.agent(AgentKind::Gemini, &script), attempt)).await;
        (exit.failure.unwrap(), bench.said("args"))
    };
    let (cut, _) = run(1).await;
    assert_eq!(cut.class(), "infrastructure");
    let (failure, args) = run(2).await;
    assert!(args.contains("--resume "), "{args}");
    let Failure::Infrastructure { message } = failure else { panic!("{failure:?}") };
    assert!(message.contains("can't be continued") && message.contains(lost), "{message}");
    let (_, args) = run(3).await;
    assert!(args.contains("--session-id "), "{args}");
    assert_eq!(bench.said("prompt"), "do {it}");
}

#[tokio::test]
async fn an_agent_that_never_began_is_not_continued() {
    let bench = Bench::new();
    let script = format!("echo \"$@\" > args; {}", replay("codex", "unauthorized", 1));
    bench.run(bench.request(bench.agent(AgentKind::Codex, &script), 1)).await;
    bench.run(bench.request(bench.agent(AgentKind::Codex, &script), 2)).await;
    assert!(!bench.said("args").contains("resume"), "{}", bench.said("args"));
    assert_eq!(bench.said("prompt"), "do {it}");
}

/// It resolves conflicts of what another one did, beside that one's session.
#[tokio::test]
async fn a_resolver_is_an_agent_too() {
    let bench = Bench::new();
    let work = bench.agent(AgentKind::Codex, &replay("codex", "success", 0));
    bench.run(bench.request(work, 1)).await;
    let resolver = bench.agent(
        AgentKind::Claude,
        &format!("echo \"$@\" > args; {}", replay("claude", "permission", 0)),
    );
    let mut request = bench.request(resolver, 1);
    request.purpose = Purpose::Resolve { round: 2 };
    let exit = bench.run(request).await;
    assert_eq!(exit.failure.as_ref().map(Failure::class), Some("needs_input"));
    assert!(bench.said("args").contains("--session-id "), "{}", bench.said("args"));
    let run = bench.path("state/runs/r");
    assert!(run.join("logs/a.1.resolve-2.events.jsonl").exists());
    assert!(run.join("homes/a.1.resolve-2").exists() && run.join("homes/a.1").exists());
    assert_eq!(bench.events(1).len(), 7, "those of its work are as they were");
    let folder = RunFolder::new(&bench.path("state"), &RunId::new("r").unwrap());
    let (_, last) = folder.last(&TaskId::new("a").unwrap()).unwrap().unwrap();
    assert_eq!(last.kind, AgentKind::Codex);
}

#[tokio::test]
async fn commands_and_verifications_are_left_alone() {
    let bench = Bench::new();
    let mut request = bench.request(bench.agent(AgentKind::Codex, "exit 9"), 1);
    request.purpose = Purpose::Verify { index: 0 };
    request.work = Work::Command(CommandLine::Shell("test -z \"$CODEX_HOME\"".into()));
    let exit = bench.run(request).await;
    assert_eq!((exit.status, exit.is_done), (ExitStatus::Code(0), false));
    assert!(!bench.path("state/runs/r/homes").exists());
}

#[tokio::test]
async fn a_program_that_is_missing_is_named() {
    let bench = Bench::new();
    let agent =
        Agent { kind: AgentKind::Gemini, ..Agent::of_command(vec!["no-such-agent".into()]) };
    let error = bench.runner().start(bench.request(agent, 1)).await.unwrap_err();
    assert!(error.to_string().contains("no-such-agent"), "{error}");
}

/// What `orch resume` does with an agent of an orchestrator that was killed.
#[tokio::test]
async fn an_agent_that_is_taken_up_is_judged_too() {
    #[derive(Debug)]
    struct Survivor(CommandRunner, std::sync::Mutex<Option<Box<dyn RunningAgent>>>);
    #[async_trait::async_trait]
    impl AgentRunner for Survivor {
        fn name(&self) -> &str {
            "survivor"
        }
        fn output(&self, run: &RunId, task: &TaskId, attempt: Attempt) -> Option<PathBuf> {
            self.0.output(run, task, attempt)
        }
        async fn start(
            &self,
            request: AgentRequest,
        ) -> Result<Box<dyn RunningAgent>, orch_model::ports::RunnerError> {
            let agent = self.0.start(request.clone()).await?;
            *self.1.lock().unwrap() =
                Some(self.0.start(AgentRequest { attempt: 99, ..request }).await?);
            Ok(agent)
        }
        async fn adopt(&self, _: AdoptRequest) -> Result<Adopted, orch_model::ports::RunnerError> {
            Ok(self.1.lock().unwrap().take().map_or(Adopted::Gone, Adopted::Agent))
        }
    }
    let bench = Bench::new();
    let inner = Survivor(CommandRunner::new(bench.path("state")), None.into());
    let user = UserHome::new(bench.path("user"), [("USER", "dev")]);
    let runner = AgentAdapters::new(Arc::new(inner), bench.path("state"), user);
    let request =
        bench.request(bench.agent(AgentKind::Claude, &replay("claude", "permission", 0)), 1);
    let agent = runner.start(request).await.unwrap();
    let name = AdoptRequest {
        run: RunId::new("r").unwrap(),
        task: TaskId::new("a").unwrap(),
        attempt: 1,
        purpose: Purpose::Work,
        identity: None,
    };
    agent.wait().await.unwrap();
    let Adopted::Agent(adopted) = runner.adopt(name).await.unwrap() else { panic!("it is there") };
    let exit = adopted.wait().await.unwrap();
    assert_eq!(exit.failure.as_ref().map(Failure::class), Some("needs_input"), "{exit:?}");
    assert_eq!(adopted.wait().await.unwrap(), exit, "the same answer each time");
    adopted.stop(Duration::ZERO).await.unwrap();
}

/// The next notice of an agent at work.
async fn next(agent: &dyn RunningAgent) -> AgentNotice {
    let notice = tokio::time::timeout(Duration::from_secs(60), agent.notice());
    notice.await.expect("it tells nothing")
}

impl Bench {
    /// Claude, with lines of its stream between moments at which it waits for a file.
    fn claude(&self, steps: &[&str]) -> Agent {
        let steps: Vec<String> = steps
            .iter()
            .enumerate()
            .map(|(n, lines)| {
                format!("cat <<'END'\n{lines}\nEND\nuntil test -e go{n}; do sleep 0.02; done\n")
            })
            .collect();
        let init =
            r#"{"type":"system","subtype":"init","session_id":"s","model":"claude-sonnet-4-5"}"#;
        self.agent(AgentKind::Claude, &format!("cat > prompt\necho '{init}'\n{}", steps.concat()))
    }

    fn go(&self, step: usize) {
        fs::write(self.path("work").join(format!("go{step}")), "").unwrap();
    }
}

fn answer(id: &str, tool: bool) -> String {
    let part = if tool {
        r#"{"type":"tool_use","id":"t","name":"Bash","input":{"command":"make"}}"#
    } else {
        r#"{"type":"text","text":"thinking about it"}"#
    };
    format!(
        r#"{{"type":"assistant","session_id":"s","message":{{"id":"{id}","model":"claude-sonnet-4-5","content":[{part}],"usage":{{"input_tokens":1000,"cache_read_input_tokens":200,"output_tokens":10}}}}}}"#
    )
}

fn limit(delay: u64) -> String {
    format!(
        r#"{{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":{delay},"error_status":429,"error":"rate_limit","session_id":"s"}}"#
    )
}

const RESULT: &str = r#"{"type":"result","is_error":false,"result":"done","session_id":"s","total_cost_usd":0.5,"usage":{"input_tokens":2000,"cache_read_input_tokens":400,"output_tokens":50}}"#;

#[tokio::test]
async fn what_an_agent_uses_is_told_while_it_works() {
    let bench = Bench::new();
    let (one, two) = (answer("m1", false), answer("m2", true));
    // Each part of a message tells the same again.
    let agent = bench.claude(&[&format!("{one}\n{one}"), &two, RESULT]);
    let agent = bench.runner().start(bench.request(agent, 1)).await.unwrap();
    let used = |input, output, cost| orch_model::usage::Usage {
        input_tokens: input,
        cached_input_tokens: input / 6,
        output_tokens: output,
        reasoning_tokens: 0,
        cost_micro_usd: cost,
        unpriced_tokens: 0,
    };
    // 1000 * 3 + 200 * 0.3 + 10 * 15 millionths.
    assert_eq!(next(&*agent).await, AgentNotice::Used(used(1200, 10, 3210)));
    assert_eq!(next(&*agent).await, AgentNotice::Answered);
    let events = bench.events(1);
    assert_eq!(events.len(), 4, "they are there while it works: {events:?}");
    bench.go(0);
    assert_eq!(next(&*agent).await, AgentNotice::Used(used(2400, 20, 6420)));
    bench.go(1);
    assert_eq!(next(&*agent).await, AgentNotice::Used(used(2400, 50, 500_000)), "by its own word");
    bench.go(2);
    let exit = agent.wait().await.unwrap();
    assert_eq!((exit.usage, exit.is_success()), (Some(used(2400, 50, 500_000)), true));
    let seqs: Vec<u64> = bench.events(1).iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (1..=9).collect::<Vec<_>>(), "whole, and nothing twice");
}

#[tokio::test]
async fn an_agent_that_meets_a_limit_is_ended_and_not_to_blame() {
    let bench = Bench::new();
    let agent = bench.claude(&[&limit(900_000)]);
    let agent = bench.runner().start(bench.request(agent, 1)).await.unwrap();
    let AgentNotice::RateLimited { reset: Some(reset), message } = next(&*agent).await else {
        panic!("a limit is told")
    };
    assert!(message.starts_with("rate_limit, attempt 1 of 10"), "{message}");
    let exit = agent.wait().await.unwrap();
    assert_eq!(exit.failure, Some(Failure::RateLimit { reset: Some(reset), message }));
}

#[tokio::test]
async fn a_short_limit_is_waited_for_once_by_an_agent_that_has_begun() {
    let bench = Bench::new();
    let begun = answer("m1", true);
    let agent = bench.claude(&[&begun, &limit(20_000), &answer("m2", false), &limit(500)]);
    let agent = bench.runner().start(bench.request(agent, 1)).await.unwrap();
    assert!(matches!(next(&*agent).await, AgentNotice::Used(_)));
    assert_eq!(next(&*agent).await, AgentNotice::Answered);
    bench.go(0);
    assert!(matches!(next(&*agent).await, AgentNotice::RateLimited { reset: Some(_), .. }));
    bench.go(1);
    assert!(matches!(next(&*agent).await, AgentNotice::Used(_)), "it was not ended");
    assert_eq!(next(&*agent).await, AgentNotice::Answered, "once more after the limit");
    bench.go(2);
    // How long claude would wait by itself says nothing of the service.
    assert!(matches!(next(&*agent).await, AgentNotice::RateLimited { reset: None, .. }));
    let exit = agent.wait().await.unwrap();
    assert_eq!(exit.failure.as_ref().map(Failure::class), Some("rate_limit"));
    assert_eq!(exit.usage.unwrap().input_tokens, 2400);
}

#[tokio::test]
async fn an_agent_that_needs_a_person_is_told_of() {
    use orch_model::plan::spec::{EventKind, EventRule, Scalar};
    let bench = Bench::new();
    let rule = |event, kind: &str, take: &[(&str, &str)]| EventRule {
        event,
        when: [("/t".to_owned(), Scalar::Text(kind.into()))].into(),
        take: take.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect(),
    };
    let script = "cat > prompt; echo '{\"t\":\"ask\",\"what\":\"may I?\"}'; \
                  until test -e go0; do sleep 0.02; done; echo '{\"t\":\"say\"}'; sleep 600";
    let agent = Agent {
        events: vec![
            rule(EventKind::Waiting, "ask", &[("message", "/what")]),
            rule(EventKind::Message, "say", &[("text", "/t")]),
        ],
        ..bench.agent(AgentKind::Command, script)
    };
    let agent = bench.runner().start(bench.request(agent, 1)).await.unwrap();
    assert_eq!(next(&*agent).await, AgentNotice::Waiting(Some("may I?".into())));
    bench.go(0);
    assert_eq!(next(&*agent).await, AgentNotice::Waiting(None));
    agent.stop(Duration::ZERO).await.unwrap();
}

#[derive(Debug)]
struct Knows;

impl Knowledge for Knows {
    fn of(&self, context: &PromptContext) -> Option<String> {
        Some(format!("Much is known of {:?}.", context.domain.as_ref()?.as_str()))
    }
}

#[tokio::test]
async fn what_is_known_reaches_the_agent_and_is_what_is_shown() {
    let bench = Bench::new();
    let first = bench.request(bench.agent(AgentKind::Codex, &replay("codex", "success", 0)), 1);
    bench.run(first).await;
    // Another task builds on it.
    let agent = bench.agent(AgentKind::Claude, &replay("claude", "success", 0));
    let mut second = bench.request(agent, 1);
    second.task = TaskId::new("b").unwrap();
    let mut known = context(&second);
    known.domain = "api".parse().ok();
    known.dependencies = vec![PromptDependency {
        task: TaskId::new("a").unwrap(),
        title: None,
        is_merged: true,
        attempt: 1,
        summary: None,
        commit: None,
        made: Made::default(),
    }];
    second.context = Some(Box::new(known));
    let runner = bench.runner().knowledge(Arc::new(Knows));
    let shown = runner.prompt(&second).unwrap();
    runner.start(second).await.unwrap().wait().await.unwrap();
    assert_eq!(bench.said("prompt"), shown);
    let Some(AgentEvent::Message { text, .. }) = bench
        .events(1)
        .into_iter()
        .map(|record| record.event)
        .rfind(|event| matches!(event, AgentEvent::Message { .. }))
    else {
        panic!("it said nothing")
    };
    assert!(shown.contains(&format!("```text\n{text}\n```")), "{shown}");
    assert!(shown.contains("Much is known of \"api\"."), "{shown}");
}

#[tokio::test]
async fn any_program_gets_its_prompt_as_it_is_unless_a_template_is_named() {
    let bench = Bench::new();
    let agent = bench.agent(AgentKind::Command, "cat > prompt");
    let mut request = bench.request(agent, 1);
    request.context = Some(Box::new(context(&request)));
    bench.run(request.clone()).await;
    assert_eq!(bench.said("prompt"), "do {it}");
    let template = |text: &str| {
        let mut request = request.clone();
        let text = PromptText { name: "t.md".into(), text: text.into() };
        request.context.as_mut().unwrap().template = PromptTemplate::Text(text);
        request
    };
    bench.run(AgentRequest { attempt: 2, ..template("{{ task }}: {{ prompt }}") }).await;
    assert_eq!(bench.said("prompt"), "a: do {it}");
    let wrong = AgentRequest { attempt: 3, ..template("\n{{ titel }}") };
    let error = bench.runner().start(wrong).await.unwrap_err();
    assert!(matches!(error, RunnerError::Unsupported(_)), "{error:?}");
    assert!(error.to_string().contains("t.md:2"), "{error}");
}

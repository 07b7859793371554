//! Agents through the adapters: scripts that behave as the agents do, run as real processes.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use orch_agents::{AgentAdapters, AgentEvent, Record, UserHome, session::RunFolder};
use orch_exec::process::CommandRunner;
use orch_model::{
    ByteSize, RunId, TaskId,
    outcome::{AgentExit, ExitStatus, Failure},
    plan::{
        Agent, Prompt, Work,
        spec::{AgentKind, CommandLine},
    },
    ports::{AdoptRequest, Adopted, AgentRequest, AgentRunner, Purpose},
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
    second.env.insert("ORCH_LAST_FAILURE".into(), "verification: it did not compile".into());
    let logs = bench.path("state/runs/r/logs");
    fs::write(logs.join("a.1.verify-0.log"), "missing semicolon\n").unwrap();
    let exit = bench.run(second).await;
    assert!(bench.said("args").ends_with("resume 01a1fc61-d2bb-7890-b130-862becedac97 -\n"));
    let prompt = bench.said("prompt");
    assert!(
        prompt.contains("it did not compile") && prompt.contains("missing semicolon"),
        "{prompt}"
    );
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
    struct Survivor(
        CommandRunner,
        std::sync::Mutex<Option<Box<dyn orch_model::ports::RunningAgent>>>,
    );
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
        ) -> Result<Box<dyn orch_model::ports::RunningAgent>, orch_model::ports::RunnerError>
        {
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

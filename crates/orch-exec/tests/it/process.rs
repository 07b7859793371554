//! The runner of commands, with real processes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use orch_exec::{
    logs,
    model::{
        ByteSize, RunId,
        outcome::{AgentExit, ExitStatus},
        plan::{Work, spec::CommandLine},
        ports::{AgentRequest, AgentRunner, Purpose, RunnerError, RunningAgent},
    },
    process::CommandRunner,
    testing::{
        ScriptedRunner, Step,
        contract::{self, Behaviour},
    },
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::unix::pipe,
};

use crate::common::id;

/// A folder where agents work, and the runner that starts them.
pub(crate) struct Bench {
    dir: tempfile::TempDir,
    pub(crate) runner: CommandRunner,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runner = CommandRunner::new(dir.path().join("state"));
        Self { dir, runner }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn request(&self, work: Work) -> AgentRequest {
        AgentRequest {
            context: None,
            run: RunId::new("r").unwrap(),
            task: id("t"),
            attempt: 1,
            purpose: Purpose::Work,
            work,
            agent: None,
            directory: self.path().to_owned(),
            repository: self.path().to_owned(),
            env: BTreeMap::new(),
            silence_timeout: None,
            max_output: ByteSize(1 << 20),
            max_total_output: ByteSize(1 << 30),
        }
    }

    async fn start(&self, line: &str) -> Box<dyn RunningAgent> {
        self.runner.start(self.request(shell(line))).await.unwrap()
    }

    /// Runs a shell line to its end.
    async fn run(&self, line: &str) -> AgentExit {
        self.start(line).await.wait().await.unwrap()
    }

    /// What the agent printed, as it was kept.
    fn log(&self) -> PathBuf {
        let files = logs::files(&self.path().join("state"), &RunId::new("r").unwrap(), &id("t"));
        files.unwrap().remove(0).path
    }

    /// A named pipe in the folder, on which agents say something.
    fn fifo(&self, name: &str) -> Fifo {
        let path = self.path().join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Fifo(BufReader::new(pipe::OpenOptions::new().read_write(true).open_receiver(path).unwrap()))
    }
}

struct Fifo(BufReader<pipe::Receiver>);

impl Fifo {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().into()
    }
}

fn shell(line: &str) -> Work {
    Work::Command(CommandLine::Shell(line.into()))
}

/// State and process group of a process; `None` where there is none.
fn stat(pid: u32) -> Option<(char, u32, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// All processes with their state, parent and group.
fn processes() -> Vec<(char, u32, u32)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, ..)| state != 'Z' && state != 'X')
}

fn group_size(group: u32) -> usize {
    let alive = |(state, _, of): &(char, u32, u32)| *of == group && !matches!(state, 'Z' | 'X');
    processes().iter().filter(|process| alive(process)).count()
}

/// Waits for what no event tells of.
async fn until(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(30), "it never happens");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs an ignored test in a process of its own.
fn alone(test: &str, vars: &[(&str, &str)]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .envs(vars.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

#[tokio::test]
async fn commands_keep_the_contract() {
    let bench = Bench::new();
    let fifo = tokio::sync::Mutex::new(bench.fifo("ready"));
    let command = |behaviour| match behaviour {
        Behaviour::Succeed => CommandLine::Shell("echo hello".into()),
        Behaviour::Fail => CommandLine::Shell("exit 3".into()),
        Behaviour::Hang => CommandLine::Argv(vec!["sleep".into(), "1000".into()]),
        Behaviour::IgnoreTerm => CommandLine::Shell(
            "trap '' TERM; echo ready > ready; while :; do sleep 1000; done".into(),
        ),
        Behaviour::Missing => CommandLine::Argv(vec!["/no/such/program".into()]),
    };
    contract::runner(&bench.runner, bench.path(), command, async |behaviour| {
        if behaviour == Behaviour::IgnoreTerm {
            assert_eq!(fifo.lock().await.line().await, "ready");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn scripts_keep_the_contract() {
    let runner = ScriptedRunner::new();
    runner.script("succeed", [Step::Say("hello\n".into(), 0)]);
    runner.script("fail", [Step::Exit(3)]);
    runner.script("hang", [Step::Hang]);
    runner.script("ignore-term", [Step::IgnoreTerm]);
    runner.script("missing", [Step::SpawnError]);
    let command = |_| CommandLine::Shell("is never run".into());
    contract::runner(&runner, Path::new("/nowhere"), command, async |_| {}).await;
    until(|| runner.running() == 0).await;
}

#[tokio::test]
async fn an_agent_without_output_has_no_file() {
    let bench = Bench::new();
    assert_eq!(bench.run("true").await.output_bytes, 0);
    assert!(!bench.path().join("state").exists());
}

#[tokio::test]
async fn what_an_agent_leaves_behind_is_ended_with_it() {
    let bench = Bench::new();
    let exit = bench.run("sleep 1000 & echo $!; exit 0").await;
    assert_eq!((exit.status, exit.leaked_output), (ExitStatus::Code(0), false));
    assert!(!runs(exit.output_tail.trim().parse().unwrap()));
}

#[tokio::test]
async fn a_grandchild_that_ignores_the_request_is_killed() {
    let bench = Bench::new();
    let mut fifo = bench.fifo("ready");
    let agent = bench
        .start("(trap '' TERM; echo ready > ready; while :; do sleep 1000; done) & wait")
        .await;
    assert_eq!(fifo.line().await, "ready");
    agent.stop(Duration::from_secs(600)).await.unwrap();
    assert_eq!(agent.wait().await.unwrap().status, ExitStatus::Signal(15));
    assert_eq!(group_size(agent.identity().unwrap().pid), 0);
}

#[tokio::test]
async fn a_group_that_keeps_forking_is_ended_completely() {
    let bench = Bench::new();
    let mut fifo = bench.fifo("ready");
    let line = "trap '' TERM
        for n in 1 2 3; do (while :; do (sleep 1000 & sleep 0.01) & sleep 0.002; done) & done
        while [ $(ps -o pid= --ppid $$ | wc -l) -lt 3 ]; do :; done
        echo ready > ready; wait";
    let agent = bench.start(line).await;
    assert_eq!(fifo.line().await, "ready");
    let group = agent.identity().unwrap().pid;
    assert!(group_size(group) > 3);
    agent.stop(Duration::from_millis(30)).await.unwrap();
    assert_eq!(group_size(group), 0);
    assert_eq!(agent.wait().await.unwrap().status, ExitStatus::Signal(9));
}

#[tokio::test]
async fn output_held_open_by_a_stranger_is_cut_off() {
    let bench = Bench::new();
    assert!(Command::new("mkfifo").arg(bench.path().join("pid")).status().unwrap().success());
    let begin = Instant::now();
    let line = "setsid sh -c 'echo $$ > pid; exec sleep 1000' & read pid < pid; echo $pid; exit 4";
    let exit = bench.run(line).await;
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!((exit.status, exit.leaked_output), (ExitStatus::Code(4), true));
    let stranger: i32 = exit.output_tail.trim().parse().unwrap();
    assert!(runs(stranger.unsigned_abs()), "it is outside the group");
    let stranger = rustix::process::Pid::from_raw(stranger).unwrap();
    rustix::process::kill_process(stranger, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_flood_is_capped() {
    let bench = Bench::new();
    let exit =
        bench.run("echo begin; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end").await;
    assert_eq!(exit.status, ExitStatus::Code(0));
    assert_eq!(exit.output_bytes, 6 + 100_000_000 + 1 + 4);
    assert!(exit.output_tail.ends_with("x\nend\n") && exit.output_tail.len() <= 4096);
    let kept = fs::read_to_string(bench.log()).unwrap();
    assert!(kept.len() <= (1 << 20) + 100, "{}", kept.len());
    assert!(kept.starts_with("begin\nxxx") && kept.ends_with("xxx\nend\n"));
    assert!(kept.contains("bytes of output cut here]"));
    assert_eq!(
        fs::read_dir(bench.log().parent().unwrap()).unwrap().count(),
        1,
        "no parts are left"
    );
}

#[tokio::test]
async fn both_outputs_keep_their_order() {
    let bench = Bench::new();
    let exit = bench.run("echo 1; echo 2 >&2; echo 3; cat").await;
    assert_eq!((exit.output_tail.as_str(), exit.output_bytes), ("1\n2\n3\n", 6));
    assert_eq!(fs::read_to_string(bench.log()).unwrap(), "1\n2\n3\n");
}

#[tokio::test]
async fn a_signal_is_told_from_an_exit_code() {
    let bench = Bench::new();
    assert_eq!(bench.run("kill -9 $$").await.status, ExitStatus::Signal(9));
    assert_eq!(bench.run("exit 137").await.status, ExitStatus::Code(137));
}

#[tokio::test]
async fn what_can_not_be_started_is_told_apart() {
    let bench = Bench::new();
    let missing = Work::Command(CommandLine::Argv(vec!["no-such-program".into()]));
    let error = bench.runner.start(bench.request(missing)).await.unwrap_err();
    assert!(matches!(error, RunnerError::Spawn { .. }), "{error}");
    assert!(error.to_string().starts_with("can't start `no-such-program`"), "{error}");
    let mut request = bench.request(shell("true"));
    request.directory = bench.path().join("gone");
    let error = bench.runner.start(request).await.unwrap_err();
    assert!(matches!(error, RunnerError::Io { .. }), "{error}");
    assert!(error.to_string().contains("/gone"), "{error}");
    fs::write(bench.path().join("state"), "in the way").unwrap();
    let exit = bench.run("echo not kept; exit 5").await;
    assert_eq!(exit.status, ExitStatus::Code(5), "output that can't be kept ends nobody");
    assert_eq!(exit.output_tail, "not kept\n");
}

#[tokio::test]
async fn freezing_stops_the_whole_group() {
    let bench = Bench::new();
    let mut fifo = bench.fifo("ready");
    let agent = bench.start("sleep 1000 & echo $! > ready; wait").await;
    let grandchild: u32 = fifo.line().await.parse().unwrap();
    let leader = agent.identity().unwrap().pid;
    let state = |pid| stat(pid).map(|(state, ..)| state);
    agent.freeze().await.unwrap();
    until(|| state(leader) == Some('T') && state(grandchild) == Some('T')).await;
    agent.thaw().await.unwrap();
    until(|| state(leader) == Some('S') && state(grandchild) == Some('S')).await;
    agent.stop(Duration::ZERO).await.unwrap();
    assert!(!runs(leader) && !runs(grandchild));
}

#[tokio::test]
async fn a_dropped_agent_is_killed() {
    let bench = Bench::new();
    let agent = bench.start("sleep 1000 & wait").await;
    let group = agent.identity().unwrap().pid;
    drop(agent);
    until(|| group_size(group) == 0).await;
}

#[tokio::test]
async fn a_runtime_that_ends_leaves_no_agent_behind() {
    let group = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let agent = bench.start("trap '' TERM; sleep 1000 & wait").await;
            agent.identity().unwrap().pid
        })
    });
    let group = group.await.unwrap();
    until(|| group_size(group) == 0).await;
}

#[test]
fn an_agent_sees_only_what_it_may() {
    let vars = [
        ("GIT_DIR", "/elsewhere"),
        ("GIT_INDEX_FILE", "/elsewhere"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "core.hooksPath"),
        ("GIT_CONFIG_VALUE_0", "/elsewhere"),
        ("ORCH_RUN_ID", "outer"),
        ("ORCH_TASK_ID", "outer"),
        ("SEEN_BY_AGENTS", "yes"),
        ("HIDDEN_FROM_AGENTS", "yes"),
        ("GIT_AUTHOR_NAME", "Ada"),
    ];
    alone("process::in_a_process_with_many_variables", &vars);
}

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn in_a_process_with_many_variables() {
    let bench = Bench::new();
    let passed = ["SEEN_*".to_owned()];
    let bench = Bench { runner: bench.runner.clone().pass_env(&passed), ..bench };
    let seen = "GIT_(DIR|INDEX_FILE|CONFIG_(COUNT|KEY|VALUE)|AUTHOR_NAME)|ORCH_|SEEN_|HIDDEN_";
    let mut request = bench.request(shell(&format!("env | grep -E '^({seen})' | sort")));
    request.env.insert("ORCH_TASK_ID".into(), "inner".into());
    let exit = bench.runner.start(request).await.unwrap().wait().await.unwrap();
    let expected =
        "GIT_AUTHOR_NAME=Ada\nORCH_PURPOSE=work\nORCH_TASK_ID=inner\nSEEN_BY_AGENTS=yes\n";
    assert_eq!(exit.output_tail, expected);
}

#[test]
fn many_agents_leave_nothing_behind() {
    alone("process::in_a_process_of_its_own", &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "another test runs it in a process of its own"]
async fn in_a_process_of_its_own() {
    let bench = Bench::new();
    assert_eq!(bench.run("echo first").await.output_bytes, 6);
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let mut agents = Vec::new();
    for n in 0..200 {
        let mut request = bench.request(shell("read line; echo $N; sleep 0.2; exit 1"));
        request.task = id(&format!("t{n}"));
        request.env.insert("N".into(), n.to_string());
        agents.push(bench.runner.start(request).await.unwrap());
    }
    for (n, agent) in agents.iter().enumerate() {
        let exit = agent.wait().await.unwrap();
        assert_eq!((exit.status, exit.output_tail), (ExitStatus::Code(1), format!("{n}\n")));
    }
    let me = std::process::id();
    assert_eq!(processes().iter().filter(|(_, parent, _)| *parent == me).count(), 0);
    drop(agents);
    until(|| open() <= before).await;
}

//! The cases, and what has to come of each.

use orch_real_agents::{Real, Tells};
use rustix::process::Signal;

/// What an agent is put into.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The script of the model. `TOOL` is a file for the process id of a tool.
    pub(crate) prompt: &'static str,
    /// What the agent's table has besides.
    pub(crate) agent: &'static str,
    /// What the task's table has besides.
    pub(crate) task: &'static str,
    /// The limit of each attempt, in seconds: of most, and of opencode, which needs some to start.
    pub(crate) time: (u32, u32),
    /// The model that codex is given; `None`: the usual one.
    pub(crate) model_of_codex: Option<&'static str>,
    /// What is done to the agent.
    pub(crate) act: Act,
    /// Whether a second attempt goes on in the session of the first.
    pub(crate) goes_on: bool,
    /// Whether a tool leaves a process behind, whose id is in `TOOL`.
    pub(crate) leaves: bool,
    /// Whether that can happen to agents of kind `acp`.
    acp: bool,
    /// What has to come of it.
    expected: Expected,
    /// What has to come of it with these agents instead.
    but: &'static [(&'static [&'static str], Expected)],
}

pub(crate) enum Act {
    Wait,
    /// The agent gets this signal while a tool is at work.
    Send(Signal),
}

/// What comes of a task.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) status: &'static str,
    /// The class of its last failure.
    pub(crate) class: Option<&'static str>,
    pub(crate) attempts: u32,
    /// What is known of the tokens, of those that the server has counted.
    pub(crate) usage: Usage,
    /// What has to be in its events or in what `orch` prints.
    pub(crate) told: Told,
    /// Whether its session is known; `None`: where it came that far.
    pub(crate) session: Option<bool>,
}

#[derive(Clone, Copy)]
pub(crate) enum Usage {
    All,
    /// Those of the steps that the agent told of before it was ended.
    Some,
    None,
}

#[derive(Clone, Copy)]
pub(crate) enum Told {
    Nothing,
    This(&'static str),
}

const MERGED: Expected = Expected {
    status: "merged",
    class: None,
    attempts: 1,
    usage: Usage::All,
    told: Told::Nothing,
    session: Some(true),
};

const fn failed(class: &'static str) -> Expected {
    Expected { status: "failed", class: Some(class), usage: Usage::Some, ..MERGED }
}

/// These repeat a request by themselves.
const BY_ITSELF: &[(&[&str], Expected)] = &[(&["opencode", "gemini"], MERGED)];

/// This one tells of a limit only after it has repeated its request several times.
const WAITS: &[(&[&str], Expected)] = &[(&["opencode"], MERGED)];

const PLAIN: Case = Case {
    name: "",
    prompt: "",
    agent: "",
    task: "retries = 0",
    time: (60, 120),
    model_of_codex: None,
    act: Act::Wait,
    goes_on: false,
    leaves: false,
    acp: false,
    expected: MERGED,
    but: &[],
};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "success",
        prompt: "WRITE a.txt=hello\nRUN cat a.txt\nSAY all done",
        task: "expects = \"changes\"",
        acp: true,
        expected: Expected { told: Told::This("all done"), ..MERGED },
        ..PLAIN
    },
    Case {
        name: "tool_failure",
        prompt: "RUN echo broken; exit 3\nWRITE a.txt=hello\nSAY went on",
        acp: true,
        expected: Expected { told: Told::This("went on"), ..MERGED },
        ..PLAIN
    },
    Case {
        name: "rate_limit",
        prompt: "RATE_LIMIT 1\nWRITE a.txt=hello\nSAY all done",
        expected: Expected { attempts: 2, ..MERGED },
        but: WAITS,
        ..PLAIN
    },
    Case {
        name: "rate_limit_retry_after",
        prompt: "RATE_LIMIT 1 retry_after=2\nWRITE a.txt=hello\nSAY all done",
        expected: Expected { attempts: 2, ..MERGED },
        but: WAITS,
        ..PLAIN
    },
    Case {
        name: "server_error",
        prompt: "FAIL 1\nWRITE a.txt=hello\nSAY all done",
        expected: Expected { attempts: 2, ..MERGED },
        but: BY_ITSELF,
        ..PLAIN
    },
    Case {
        name: "unauthorized",
        prompt: "FAIL status=401",
        task: "retries = 2",
        expected: failed("authentication"),
        ..PLAIN
    },
    Case {
        name: "hang",
        prompt: "HANG",
        time: (6, 20),
        acp: true,
        expected: Expected { session: None, ..failed("timeout") },
        ..PLAIN
    },
    Case {
        name: "cut",
        prompt: "CUT",
        time: (30, 25),
        expected: Expected { attempts: 5, ..failed("infrastructure") },
        // It asks again and again, with nothing to show for it.
        but: &[(&["opencode"], Expected { session: None, ..failed("timeout") })],
        ..PLAIN
    },
    Case {
        name: "term_in_tool",
        prompt: "RUN echo $$ > TOOL; exec tail -f /dev/null\nSAY all done",
        act: Act::Send(Signal::TERM),
        acp: true,
        expected: failed("agent"),
        ..PLAIN
    },
    Case {
        name: "kill_in_tool",
        prompt: "RUN echo $$ > TOOL; exec tail -f /dev/null\nSAY all done",
        act: Act::Send(Signal::KILL),
        acp: true,
        expected: failed("agent"),
        ..PLAIN
    },
    Case {
        name: "permission_refused",
        prompt: "WRITE a.txt=hello\nSAY all done",
        agent: "permissions = \"deny\"",
        task: "retries = 0\nexpects = \"changes\"",
        acp: true,
        expected: failed("needs_input"),
        // It leaves tools out that it would have to ask for: nothing is refused.
        but: &[(&["gemini"], failed("no_changes"))],
        ..PLAIN
    },
    Case {
        name: "resume",
        prompt: "WRITE a.txt=hello\nSAY all done",
        task: "retries = 1\nverify = [\"test $ORCH_ATTEMPT = 2\"]",
        goes_on: true,
        acp: true,
        expected: Expected { attempts: 2, ..MERGED },
        ..PLAIN
    },
    Case {
        name: "mcp",
        prompt: "CALL echo {\"text\":\"marco\"}\nSAY all done",
        agent: "mcp.tools.command = [\"python3\", \"ECHO\"]",
        // For the usual one, the service searches for tools, which that of the tests can't.
        model_of_codex: Some("gpt-5"),
        acp: true,
        expected: Expected { told: Told::This("echo: marco"), ..MERGED },
        ..PLAIN
    },
    Case {
        name: "left_over",
        prompt: "RUN (setsid nohup sh -c 'echo $$ > TOOL; exec sleep 600' >/dev/null 2>&1 &); \
                 until [ -s TOOL ]; do sleep 0.05; done\nSAY all done",
        leaves: true,
        acp: true,
        ..PLAIN
    },
];

impl Case {
    /// Whether it can happen to an agent.
    pub(crate) fn concerns(&self, agent: &Real) -> bool {
        self.acp || agent.kind != "acp"
    }

    /// What has to come of it.
    pub(crate) fn expected(&self, agent: &Real) -> Expected {
        let but = self.but.iter().find(|(agents, _)| agents.contains(&agent.name));
        let expected = but.map_or(self.expected, |(_, expected)| *expected);
        let usage = match agent.tells {
            Tells::All => return expected,
            Tells::LastStep => Usage::Some,
            Tells::Nothing => Usage::None,
        };
        Expected { usage, ..expected }
    }
}

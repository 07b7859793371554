//! From a task's work to a program and its arguments.

use std::path::{Path, PathBuf};

use orch_faults::point;
use orch_model::{
    plan::{
        Prompt, Work,
        spec::{AgentKind, AgentStdin, CommandLine},
        template::{self, Placeholder},
    },
    ports::{AgentRequest, RunnerError},
};

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// A file that it reads as its standard input; `None`: it reads nothing.
    pub stdin: Option<PathBuf>,
}

/// Commands of the shell that are no programs, or that a program of that name can't replace.
const SHELL_WORDS: &[&str] = &[
    ".", ":", "alias", "bg", "break", "case", "cd", "command", "continue", "do", "done", "elif",
    "else", "esac", "eval", "exec", "exit", "export", "fc", "fg", "fi", "for", "function",
    "getopts", "hash", "if", "in", "jobs", "local", "read", "readonly", "return", "select", "set",
    "shift", "source", "then", "time", "times", "trap", "type", "typeset", "ulimit", "umask",
    "unalias", "unset", "until", "wait", "while",
];

impl Invocation {
    /// How a shell line is executed: by `sh -c`, or directly where the shell would do nothing but
    /// split it at blanks. The shell, not the scheduling, is most of the cost of a small command.
    #[must_use]
    pub fn of_line(line: &str) -> Self {
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        match words.next() {
            Some(program) if is_plain(line) && !is_for_shell(&program) => {
                Self { program, args: words.collect(), stdin: None }
            }
            _ => Self {
                program: "/bin/sh".into(),
                args: vec!["-c".into(), line.to_owned()],
                stdin: None,
            },
        }
    }

    /// How a command of a plan is executed.
    #[must_use]
    pub fn of_command(command: &CommandLine) -> Self {
        match command {
            CommandLine::Shell(line) => Self::of_line(line),
            CommandLine::Argv(argv) => {
                let mut argv = argv.iter().cloned();
                Self { program: argv.next().unwrap_or_default(), args: argv.collect(), stdin: None }
            }
        }
    }
}

/// Whether no character of the line means anything to a shell.
fn is_plain(line: &str) -> bool {
    line.chars().all(|c| {
        c.is_ascii_alphanumeric()
            || matches!(c, ' ' | '\t' | '_' | '-' | '.' | '/' | ',' | ':' | '+' | '@' | '%' | '=')
    })
}

fn is_for_shell(program: &str) -> bool {
    program.contains('=') || SHELL_WORDS.contains(&program)
}

/// How the work of a request is executed. `scratch` is a file that takes the prompt where the plan
/// has its text.
pub(super) fn invocation(
    request: &AgentRequest,
    scratch: &Path,
) -> Result<Invocation, RunnerError> {
    let (prompt, model, agent) = match (&request.work, &request.agent) {
        (Work::Command(command), _) => return Ok(Invocation::of_command(command)),
        (Work::Prompt { prompt, model, .. }, Some(agent)) => (prompt, model, agent),
        (work, _) => return Err(RunnerError::Unsupported(format!("can't run {work:?}"))),
    };
    if agent.kind != AgentKind::Command {
        let message =
            format!("an agent of kind `{}` needs the runner of `orch-agents`", agent.kind);
        return Err(RunnerError::Unsupported(message));
    }
    let io = |doing: &str, path: &Path, source| RunnerError::Io {
        doing: format!("{doing} {}", path.display()),
        source,
    };
    let (text, file) = match prompt {
        Prompt::Text(text) => {
            write_new(scratch, text).map_err(|e| io("writing the prompt to", scratch, e))?;
            (text.clone(), scratch.to_owned())
        }
        Prompt::File(name) => {
            let file = request.repository.join(name);
            let text = std::fs::read_to_string(&file)
                .map_err(|e| io("reading the prompt from", &file, e))?;
            (text, file)
        }
        prompt => return Err(RunnerError::Unsupported(format!("can't give {prompt:?}"))),
    };
    let path = file.to_string_lossy();
    let directory = request.directory.to_string_lossy();
    let value = |placeholder| match placeholder {
        Placeholder::Prompt => text.as_str(),
        Placeholder::PromptFile => &path,
        Placeholder::Worktree => &directory,
        Placeholder::Model => model.as_ref().or(agent.model.as_ref()).map_or("", String::as_str),
        _ => "",
    };
    let mut argv = agent
        .command
        .iter()
        .chain(&agent.args)
        .map(|part| template::expand(part, value))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| RunnerError::Unsupported(error.to_string()))?
        .into_iter();
    Ok(Invocation {
        program: argv.next().unwrap_or_default(),
        args: argv.collect(),
        stdin: (agent.stdin == AgentStdin::Prompt).then(|| file.clone()),
    })
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    point!("prompt::write", std::fs::write(path, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_needs_no_shell() {
        let direct = Invocation::of_line("make  -j4 build/out.o CFLAGS=-O2");
        assert_eq!(direct.program, "make");
        assert_eq!(direct.args, ["-j4", "build/out.o", "CFLAGS=-O2"]);
        for line in [
            "a | b",
            "a; b",
            "a && b",
            "echo $HOME",
            "echo *",
            "echo 'a b'",
            "A=1 b",
            "cd x",
            "exit 3",
            "a > b",
            "a # b",
            "~/x",
            "(a)",
            "a\nb",
            "",
            "set -e",
            "a \\b",
            "`a`",
            "!a",
            "ulimit -n 5",
            "echo {a,b}",
            "echo ü",
        ] {
            let invocation = Invocation::of_line(line);
            assert_eq!(invocation.program, "/bin/sh", "{line}");
            assert_eq!(invocation.args, ["-c", line]);
        }
    }

    #[test]
    fn a_list_is_taken_as_it_is() {
        let argv = CommandLine::Argv(vec!["printf".into(), "%s; rm".into()]);
        let invocation = Invocation::of_command(&argv);
        assert_eq!(invocation.program, "printf");
        assert_eq!(invocation.args, ["%s; rm"]);
    }
}

//! Which tasks a limit of a service concerns together.

use crate::id::AgentName;

use super::{TaskIndex, ValidPlan, Work, spec::CommandLine};

mod service;

pub use service::Service;

/// Programs that start another one, which follows their options: the key is that of the other one.
const WRAPPERS: &[&str] = &[
    "command", "env", "exec", "ionice", "nice", "nohup", "npx", "setsid", "stdbuf", "sudo", "time",
    "timeout", "uvx",
];

/// Programs that carry out a script: the key is the script.
const INTERPRETERS: &[&str] = &[
    "bash", "bun", "dash", "deno", "fish", "ksh", "node", "perl", "php", "python", "python3",
    "ruby", "sh", "tsx", "zsh",
];

/// Programs that everybody uses for something else, and words of the shell: they name no service.
const GENERAL: &[&str] = &[
    ".", ":", "[", "ant", "awk", "break", "cargo", "case", "cat", "cd", "chmod", "cmake", "cp",
    "curl", "diff", "do", "docker", "done", "echo", "elif", "else", "esac", "eval", "exit",
    "export", "false", "fi", "find", "for", "git", "go", "gradle", "grep", "if", "install", "java",
    "just", "ln", "ls", "make", "mkdir", "mv", "mvn", "ninja", "npm", "orch", "pip", "pnpm",
    "podman", "printf", "pwd", "read", "return", "rm", "sed", "set", "shift", "sleep", "sort",
    "source", "ssh", "tail", "tar", "tee", "test", "then", "touch", "trap", "true", "ulimit",
    "umask", "unset", "until", "uv", "wait", "wget", "while", "xargs", "yarn",
];

impl ValidPlan {
    /// What a limit of the service behind a task's agent concerns: tasks with the same key wait together.
    ///
    /// - For a prompt: what [`super::Agent::service`] says of the agent that comes first, and its model.
    /// - For a command: the program, by the last part of its path: all `claude -p ...` share one key. What
    ///   only starts something else (`env`, `timeout 5m`, `npx`, variables in front) is passed over,
    ///   and for an interpreter the script counts. In a line for a shell it is the first such program.
    /// - Where that is nothing but a shell, an interpreter or a common tool (`make`, `git`): the task
    ///   alone, as `task ID`.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn service(&self, index: TaskIndex) -> Service {
        let task = self.task(index);
        let alone = || format!("task {}", task.id);
        let account = match &task.work {
            Work::Prompt { agent, model, .. } => {
                return self.service_of(index, agent, model.as_deref());
            }
            Work::Command(CommandLine::Shell(line)) => of_line(line).unwrap_or_else(alone),
            Work::Command(CommandLine::Argv(argv)) => of_words(argv).unwrap_or_else(alone),
        };
        Service { key: account.clone(), account }
    }

    /// The same where a task that gives a prompt is given to this agent, with this model.
    ///
    /// # Panics
    /// Where the index comes from another plan.
    #[must_use]
    pub fn service_of(&self, task: TaskIndex, agent: &AgentName, model: Option<&str>) -> Service {
        match self.agents.get(agent) {
            Some(agent) => agent.service(model, &self.task(task).env),
            None => Service { key: agent.to_string(), account: agent.to_string() },
        }
    }
}

fn of_words(words: &[String]) -> Option<String> {
    let is_setting = |word: &String| {
        word.starts_with('-')
            || word.contains('=')
            || word.starts_with(|c: char| c.is_ascii_digit())
    };
    let mut words = words.iter().skip_while(|word| is_setting(word));
    let mut program = name(words.next()?);
    while WRAPPERS.contains(&program) {
        program = name(words.find(|word| !is_setting(word))?);
    }
    if INTERPRETERS.contains(&program) {
        let first = words.next()?;
        return match first.as_str() {
            "-c" | "-lc" | "-ec" => of_line(words.next()?),
            option if option.starts_with('-') => None,
            script => Some(name(script).to_owned()),
        };
    }
    let tells = !program.is_empty() && !GENERAL.contains(&program) && !program.contains('$');
    tells.then(|| program.to_owned())
}

/// The last part of a path.
fn name(program: &str) -> &str {
    program.rsplit_once('/').map_or(program, |(_, name)| name)
}

/// The key of the first command of a line that has one.
fn of_line(line: &str) -> Option<String> {
    commands(line).iter().find_map(|words| of_words(words))
}

/// The commands of a line in the words of a shell: quotes hold words together, operators part
/// commands. What a shell would put in for variables is not known here.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let ends =
            quote.is_none() && (c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')'));
        if ends {
            if let (Some(last), Some(word)) = (commands.last_mut(), word.take()) {
                last.push(word);
            }
            if c == '\n' || !c.is_whitespace() {
                commands.push(Vec::new());
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
            word.get_or_insert_default();
        } else if c == '\\' && quote != Some('\'') {
            word.get_or_insert_default().extend(chars.next());
        } else {
            word.get_or_insert_default().push(c);
        }
    }
    if let (Some(last), Some(word)) = (commands.last_mut(), word) {
        last.push(word);
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::TaskId,
        plan::{PlanSpec, ValidPlan, spec::TaskSpec},
    };

    fn key(command: CommandLine) -> String {
        let mut task = TaskSpec::new(TaskId::new("a").unwrap());
        task.run = Some(command);
        let plan = ValidPlan::new(PlanSpec::new().task(task)).unwrap();
        plan.service(TaskIndex(0)).key
    }

    #[test]
    fn tasks_of_one_program_share_a_key() {
        for (line, expected) in [
            ("claude -p 'do it'", "claude"),
            ("/opt/bin/claude -p other", "claude"),
            ("cd src && API=x claude -p 'a; b' | tee log", "claude"),
            ("set -e\nmkdir -p out\nclaude -p x > out/log", "claude"),
            ("timeout 10m nice -n 5 codex exec - < prompt.md", "codex"),
            ("env -i HOME=/h npx -y @openai/codex exec", "codex"),
            ("node bundle/gemini.js -m flash", "gemini.js"),
            ("python3 tools/agent.py", "agent.py"),
            ("sh -c 'claude -p x'", "claude"),
            ("bash -lc \"cd a; claude -p x\"", "claude"),
            ("./agent.sh 1", "agent.sh"),
        ] {
            assert_eq!(key(CommandLine::Shell(line.into())), expected, "{line}");
        }
        let argv = ["/bin/sh", "-c", "exec claude -p x"].map(str::to_owned).to_vec();
        assert_eq!(key(CommandLine::Argv(argv)), "claude");
    }

    #[test]
    fn what_names_no_service_is_shared_by_nobody() {
        for line in [
            "sh -c 'make x'",
            "make test",
            "echo hello; exit 1",
            "python3 -m unittest",
            "cargo test && git push",
            "$AGENT run",
            "if test -e x; then cat x; fi",
            "echo 'a && claude -p x'",
        ] {
            assert_eq!(key(CommandLine::Shell(line.into())), "task a", "{line}");
        }
    }
}

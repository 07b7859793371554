//! The language of the fake agent's scripts.

use std::{path::PathBuf, str::FromStr, time::Duration};

/// The help of the `fake-agent` command: every statement, one a line.
pub const HELP: &str = "\
A scripted agent for tests: it does what its prompt says.

Usage: fake-agent SCRIPT
       fake-agent --script-file FILE
       fake-agent < SCRIPT

Statements are separated by `;` or by line ends; # begins a comment line.

  say TEXT                      print a line
  sleep SECONDS                 do nothing for a while
  write PATH TEXT               replace a file's content; folders are made
  append PATH TEXT              add a line to a file
  conflict PATH                 replace a file's content with the task's id
  cat PATH                      print a file; fails where there is none
  rm PATH                       remove a file
  commit MESSAGE                git add --all and git commit in the working folder
  detach-head                   leave the branch: git checkout --detach
  env NAME FILE                 write the value of a variable to a file; fails where it is unset
  record FILE                   add a line `TASK ATTEMPT PID`, durably
  touch FILE                    make an empty file
  wait-for FILE                 wait until a file exists, for 60 s at most
  fail-times N                  exit 1 in the first N attempts (see ORCH_ATTEMPT)
  exit N                        exit with a code
  flood BYTES                   print so many bytes, in lines
  flood-lines N                 print so many numbered lines
  long-line BYTES               print so many bytes in one line
  invalid-utf8                  print bytes that aren't UTF-8
  ignore-term                   ignore SIGTERM from here on
  hang                          never end (for 120 s)
  fork-grandchild SECONDS [FILE]    start a process in the same group, with its output closed
  setsid-grandchild SECONDS [FILE]  start a process in a session of its own, with its output closed
  hold-stdout SECONDS [FILE]        start a process that keeps the output open
                                    (its id is written to FILE)

Exit codes: 0; 1 where the script says so; 64 where the script is wrong; 70 where a statement failed.
";

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Statement {
    /// Print a line.
    Say {
        /// The line.
        text: String,
    },
    /// Do nothing for a while.
    Sleep {
        /// How long.
        time: Duration,
    },
    /// Replace the content of a file.
    Write {
        /// The file.
        path: PathBuf,
        /// The content, without the line end that is added.
        text: String,
    },
    /// Add a line to a file.
    Append {
        /// The file.
        path: PathBuf,
        /// The line.
        text: String,
    },
    /// Write the task's id as the only content of a file.
    Conflict {
        /// The file.
        path: PathBuf,
    },
    /// Print a file.
    Cat {
        /// The file.
        path: PathBuf,
    },
    /// Remove a file.
    Remove {
        /// The file.
        path: PathBuf,
    },
    /// Commit everything.
    Commit {
        /// The message.
        message: String,
    },
    /// Leave the branch.
    DetachHead,
    /// Write the value of a variable to a file.
    Env {
        /// The variable.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// Add a line about this attempt to a file.
    Record {
        /// The file.
        file: PathBuf,
    },
    /// Make an empty file.
    Touch {
        /// The file.
        file: PathBuf,
    },
    /// Wait for a file.
    WaitFor {
        /// The file.
        file: PathBuf,
    },
    /// Fail in the first attempts.
    FailTimes {
        /// In how many.
        times: u32,
    },
    /// End.
    Exit {
        /// The code.
        code: u8,
    },
    /// Print many bytes in lines.
    Flood {
        /// How many.
        bytes: u64,
    },
    /// Print many lines.
    FloodLines {
        /// How many.
        lines: u64,
    },
    /// Print many bytes in one line.
    LongLine {
        /// How many.
        bytes: u64,
    },
    /// Print bytes that aren't UTF-8.
    InvalidUtf8,
    /// Ignore SIGTERM.
    IgnoreTerm,
    /// Never end.
    Hang,
    /// Start a process that outlives the agent.
    Grandchild {
        /// What it holds on to.
        kind: super::ChildKind,
        /// How long it lives.
        time: Duration,
        /// Where its process id is written.
        pid_file: Option<PathBuf>,
    },
}

/// A list of statements.
#[derive(Debug, Clone, PartialEq)]
pub struct Script(Vec<Statement>);

impl Script {
    /// The statements in order.
    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        &self.0
    }
}

/// What is wrong with a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("statement {number}, `{text}`: {problem}")]
pub struct ScriptError {
    /// Which statement, from 1.
    pub number: usize,
    /// Its text.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let statements: Result<Vec<_>, _> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split(';'))
            .map(str::trim)
            .filter(|statement| !statement.is_empty())
            .enumerate()
            .map(|(index, text)| {
                statement(text).map_err(|problem| ScriptError {
                    number: index + 1,
                    text: text.into(),
                    problem,
                })
            })
            .collect();
        let statements = statements?;
        if statements.is_empty() {
            return Err(ScriptError {
                number: 0,
                text: String::new(),
                problem: "the script is empty; see --help".into(),
            });
        }
        Ok(Self(statements))
    }
}

fn statement(text: &str) -> Result<Statement, String> {
    let mut words = Words(text);
    let name = words.word("a statement")?;
    let statement = match name {
        "say" => Statement::Say { text: words.rest() },
        "sleep" => Statement::Sleep { time: words.seconds()? },
        "write" => Statement::Write { path: words.path()?, text: words.rest() },
        "append" => Statement::Append { path: words.path()?, text: words.rest() },
        "conflict" => Statement::Conflict { path: words.path()? },
        "cat" => Statement::Cat { path: words.path()? },
        "rm" => Statement::Remove { path: words.path()? },
        "commit" => Statement::Commit { message: words.some_rest("a message")? },
        "detach-head" => Statement::DetachHead,
        "env" => Statement::Env { name: words.word("a variable")?.into(), file: words.path()? },
        "record" => Statement::Record { file: words.path()? },
        "touch" => Statement::Touch { file: words.path()? },
        "wait-for" => Statement::WaitFor { file: words.path()? },
        "fail-times" => Statement::FailTimes { times: words.number()? },
        "exit" => Statement::Exit { code: words.number()? },
        "flood" => Statement::Flood { bytes: words.number()? },
        "flood-lines" => Statement::FloodLines { lines: words.number()? },
        "long-line" => Statement::LongLine { bytes: words.number()? },
        "invalid-utf8" => Statement::InvalidUtf8,
        "ignore-term" => Statement::IgnoreTerm,
        "hang" => Statement::Hang,
        name => {
            let kind = super::ChildKind::of_statement(name)
                .ok_or_else(|| format!("there is no `{name}`; see --help"))?;
            Statement::Grandchild {
                kind,
                time: words.seconds()?,
                pid_file: words.optional().map(PathBuf::from),
            }
        }
    };
    match words.optional() {
        None => Ok(statement),
        Some(word) => Err(format!("`{word}` is too much")),
    }
}

/// What is left of a statement.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn optional(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.optional().ok_or_else(|| format!("{what} is missing"))
    }

    fn path(&mut self) -> Result<PathBuf, String> {
        self.word("a path").map(PathBuf::from)
    }

    fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.word("a number")?;
        word.parse().map_err(|_| format!("`{word}` is not a number in range"))
    }

    fn seconds(&mut self) -> Result<Duration, String> {
        let word = self.word("a number of seconds")?;
        word.parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| format!("`{word}` is not a number of seconds"))
    }

    fn rest(&mut self) -> String {
        std::mem::take(&mut self.0).trim().to_owned()
    }

    fn some_rest(&mut self, what: &str) -> Result<String, String> {
        let rest = self.rest();
        if rest.is_empty() { Err(format!("{what} is missing")) } else { Ok(rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_separated_by_semicolons_and_line_ends() {
        let script: Script =
            "say a; sleep 0.25\n# no; statement\n\n write d/f two  words ;".parse().unwrap();
        assert_eq!(
            script.statements(),
            [
                Statement::Say { text: "a".into() },
                Statement::Sleep { time: Duration::from_millis(250) },
                Statement::Write { path: "d/f".into(), text: "two  words".into() },
            ]
        );
    }

    #[test]
    fn mistakes_name_the_statement_and_the_cure() {
        let table = [
            ("", "the script is empty"),
            ("say a; jump", "statement 2, `jump`: there is no `jump`; see --help"),
            ("write", "a path is missing"),
            ("commit", "a message is missing"),
            ("sleep soon", "`soon` is not a number of seconds"),
            ("sleep -1", "`-1` is not a number of seconds"),
            ("exit 300", "`300` is not a number in range"),
            ("hang on", "`on` is too much"),
            ("env HOME", "a path is missing"),
            ("fork-grandchild", "a number of seconds is missing"),
        ];
        for (text, expected) in table {
            let error = text.parse::<Script>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_statement_that_the_parser_takes() {
        let listed = HELP.lines().filter_map(|line| line.strip_prefix("  ")).filter_map(|line| {
            let usage = line.split("  ").next()?;
            (!usage.is_empty() && !usage.starts_with([' ', '('])).then_some(usage)
        });
        let mut count = 0;
        for usage in listed {
            let example = usage
                .replace(['[', ']'], "")
                .replace("SECONDS", "1")
                .replace("BYTES", "1")
                .replace(" N", " 1");
            assert!(example.parse::<Script>().is_ok(), "{example}");
            count += 1;
        }
        assert_eq!(count, 24, "a statement is missing from the help");
    }
}

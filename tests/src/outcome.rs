//! What came of a call of `orch`.

use std::{fmt, fs, path::PathBuf};

use serde_json::Value;

/// What came of a call of `orch`. Prints as all that helps to see why a test failed.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub(crate) name: String,
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All that it printed.
    pub stdout: String,
    /// All that it printed to standard error.
    pub stderr: String,
    /// The events among the lines of `stdout`.
    pub events: Vec<Value>,
    pub(crate) report: Option<PathBuf>,
    pub(crate) state: String,
}

impl Outcome {
    /// Asserts the exit code and returns the outcome for more.
    ///
    /// # Panics
    /// Where it is another one.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "another exit code than expected\n{self}");
        self
    }

    /// Asserts that standard output contains each of these.
    ///
    /// # Panics
    /// Where one is missing.
    #[track_caller]
    pub fn assert_stdout(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stdout.contains(part), "{part:?} is not in the output\n{self}");
        }
        self
    }

    /// Asserts that standard error contains each of these.
    ///
    /// # Panics
    /// Where one is missing.
    #[track_caller]
    pub fn assert_stderr(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in the error output\n{self}");
        }
        self
    }

    /// Both outputs, one after the other: for messages whose stream does not matter.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The report of the run.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    #[must_use]
    pub fn report(&self) -> Report {
        let path = self.report.as_ref().expect("the call asks for no report: use with_report()");
        let text = fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("no report {}: {error}\n{self}", path.display()));
        match serde_json::from_str(&text) {
            Ok(value) => Report(value),
            Err(error) => panic!("the report is not JSON: {error}\n{text}\n{self}"),
        }
    }

    /// Standard output as one JSON value.
    ///
    /// # Panics
    /// Where it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("the output is not JSON: {error}\n{self}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.name)?;
        match (self.code, self.signal) {
            (Some(code), _) => writeln!(f, "exit code {code}")?,
            (None, signal) => writeln!(f, "ended by signal {}", signal.unwrap_or(0))?,
        }
        writeln!(f, "--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)?;
        if let Some(report) = &self.report {
            let text = fs::read_to_string(report).unwrap_or_else(|error| error.to_string());
            writeln!(f, "--- report\n{text}")?;
        }
        write!(f, "--- .orch/parallel-state.json\n{}", self.state)
    }
}

/// The report of a run, as it is written: the tests look at the JSON itself, not at the types that
/// wrote it, so that a change of the format does not go unnoticed.
#[derive(Debug, Clone)]
pub struct Report(pub Value);

impl Report {
    /// The id of the run.
    ///
    /// # Panics
    /// Where it is missing.
    #[track_caller]
    #[must_use]
    pub fn run_id(&self) -> String {
        self.text("run_id")
    }

    /// How the run ended.
    ///
    /// # Panics
    /// Where it is missing.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> String {
        self.text("status")
    }

    #[track_caller]
    fn text(&self, field: &str) -> String {
        let text = self.0[field].as_str();
        text.unwrap_or_else(|| panic!("the report has no {field}: {:#}", self.0)).into()
    }

    /// The part about a task.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    #[must_use]
    pub fn task(&self, id: &str) -> &Value {
        self.0["tasks"]
            .as_array()
            .and_then(|tasks| tasks.iter().find(|task| task["id"] == id))
            .unwrap_or_else(|| panic!("the report says nothing of {id}: {:#}", self.0))
    }

    /// The status of a task.
    ///
    /// # Panics
    /// Where it is missing.
    #[track_caller]
    #[must_use]
    pub fn status_of(&self, id: &str) -> &str {
        self.task(id)["status"].as_str().expect("a task has a status")
    }

    /// The error of a task.
    ///
    /// # Panics
    /// Where it is missing.
    #[track_caller]
    #[must_use]
    pub fn error_of(&self, id: &str) -> &str {
        let task = self.task(id);
        task["error"].as_str().unwrap_or_else(|| panic!("no error in {task:#}"))
    }

    /// Each task's id and status, in order.
    #[must_use]
    pub fn statuses(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tasks = self.0["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
        tasks.iter().map(|task| (text(&task["id"]), text(&task["status"]))).collect()
    }

    /// Asserts the status of each task.
    ///
    /// # Panics
    /// Where one has another status, or is missing, or is too much.
    #[track_caller]
    pub fn assert_statuses(&self, expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(id, status)| ((*id).into(), (*status).into())).collect();
        assert_eq!(self.statuses(), expected, "{:#}", self.0);
    }
}

//! The layers of tests, run against a planted bug.

use std::{
    collections::BTreeMap,
    env, fmt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{Campaign, binary};

/// A layer of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The tests of a crate: of its parts, contract suites, properties.
    Suite(&'static str),
    /// Those of them that try schedules of several processes.
    Interleavings(&'static str),
    /// The engine in simulated worlds.
    Simulation,
    /// The faults whose `FAILPOINTS` contain this; where it is empty, runs in which nothing else goes wrong.
    FailPoints(&'static str),
    /// An end-to-end test file.
    EndToEnd(&'static str),
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suite(package) => write!(f, "tests of {package}"),
            Self::Interleavings(package) => write!(f, "interleavings of {package}"),
            Self::Simulation => f.write_str("simulation"),
            Self::FailPoints(_) => f.write_str("fail points"),
            Self::EndToEnd(file) => write!(f, "end to end: {file}"),
        }
    }
}

/// What a layer said of a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether anything failed.
    pub is_caught: bool,
    /// In how many of its tests, seeds or faults.
    pub how_often: String,
}

/// How many seeds the simulation gets.
const SEEDS: u64 = 5000;

/// The test programs, built as far as they were needed.
#[derive(Debug, Default)]
pub struct Programs(BTreeMap<(&'static str, &'static str), Vec<PathBuf>>);

impl Programs {
    /// Runs a layer against a bug.
    ///
    /// # Panics
    /// Where its tests can't be built or started.
    #[must_use]
    pub fn try_out(&mut self, layer: Layer, bug: &str) -> Verdict {
        match layer {
            Layer::Suite(package) => {
                let programs = self.built(package, "", &["--features", "faults"]);
                sum(programs.iter().map(|program| run(program, bug, &[], &[])))
            }
            Layer::Interleavings(package) => {
                let programs = self.built(package, "", &["--features", "faults"]);
                sum(programs.iter().map(|program| run(program, bug, &["interleavings"], &[])))
            }
            Layer::EndToEnd(file) => {
                let programs = self.built("orch-tests", file, &[]);
                sum(programs.iter().map(|program| run(program, bug, &[], &[])))
            }
            Layer::Simulation => {
                let arguments = &["--profile", "campaign", "--features", "faults"];
                let programs = self.built("orch-tests", "simulation", arguments);
                let (seeds, all) = (SEEDS.to_string(), u64::MAX.to_string());
                let environment =
                    [("ORCH_SIMULATION_SEEDS", &*seeds), ("ORCH_SIMULATION_FAILURES", &*all)];
                let arguments = ["--nocapture", "whatever_goes_wrong"];
                seeds_of(&run(&programs[0], bug, &arguments, &environment))
            }
            Layer::FailPoints(faults) => {
                let programs = self.built("orch-tests", "fail_points", &[]);
                let arguments: &[&str] = match faults {
                    "" => &["--nocapture", "--exact", "what_fails_at_a_point_is_mended"],
                    _ => &["--nocapture", "--ignored", "what_fails_at_any_point_is_mended"],
                };
                let environment = [("ORCH_FAULT", faults), ("ORCH_FAULTS", "0")];
                faults_of(&run(&programs[0], bug, arguments, &environment))
            }
        }
    }

    fn built(
        &mut self,
        package: &'static str,
        test: &'static str,
        features: &[&str],
    ) -> &[PathBuf] {
        self.0.entry((package, test)).or_insert_with(|| build(package, test, features))
    }
}

/// Builds the tests of a package, or one of them.
fn build(package: &str, test: &str, features: &[&str]) -> Vec<PathBuf> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["test", "--quiet", "--no-run", "--message-format=json", "--package", package]);
    match test {
        "" => command.args(["--lib", "--tests"]),
        test => command.args(["--test", test]),
    };
    command.args(features).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.expect("cargo can be started");
    assert!(output.status.success(), "the tests of {package} can't be built");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let programs: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| message["executable"].as_str().map(Into::into))
        .collect();
    assert!(!programs.is_empty(), "{package} has no tests {test}");
    programs
}

fn run(program: &Path, bug: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    // A package's tests run in its folder; those of this project rely on it nowhere.
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .env("ORCH_PLANTED_BUG", bug)
        // What a campaign does with a bug is no record of it.
        .env_remove(Campaign::RECORDS)
        .env("ORCH_BIN", binary::orch_faulty())
        .env("ORCH_FAULTY_BIN", binary::orch_faulty())
        .stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("can't start {}: {error}", program.display()))
}

fn text(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(errors))
}

/// Of the tests of a suite, as far as the first program that fails.
fn sum(outputs: impl Iterator<Item = Output>) -> Verdict {
    let (mut failed, mut all, mut is_caught) = (0, 0, false);
    for output in outputs {
        is_caught = !output.status.success();
        let text = text(&output);
        let tests = text.lines().filter(|line| line.starts_with("test ") && line.contains(" ... "));
        for line in tests {
            all += u32::from(!line.ends_with("ignored"));
            failed += u32::from(line.ends_with("FAILED"));
        }
        if is_caught {
            break;
        }
    }
    Verdict { is_caught, how_often: format!("{failed} of {all} tests") }
}

/// Of the seeds of the simulation.
fn seeds_of(output: &Output) -> Verdict {
    let text = text(output);
    let seeds = text.lines().filter_map(|line| line.strip_prefix("seed ")?.strip_suffix(':'));
    let mut failed: Vec<u64> = seeds.filter_map(|seed| seed.parse().ok()).collect();
    failed.sort_unstable();
    let first = failed.first().map(|first| format!(", the first is {first}")).unwrap_or_default();
    let how_often = format!("{} of {SEEDS} seeds{first}", failed.len());
    Verdict { is_caught: !output.status.success(), how_often }
}

/// Of the faults at fail points.
fn faults_of(output: &Output) -> Verdict {
    let is_caught = !output.status.success();
    let text = text(output);
    let of = |verdict: &str| text.lines().filter(|line| line.starts_with(verdict)).count();
    let (failed, passed) = (of("FAILED "), of("ok "));
    let how_often = match failed + passed {
        0 => "without any other fault".into(),
        all => format!("{failed} of {all} faults"),
    };
    Verdict { is_caught, how_often }
}

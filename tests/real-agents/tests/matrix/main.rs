//! Every case by every agent: what has to come of it is in [`cases`].
//!
//! A test is a run of `orch` with one task, its own server and its own repository, under the name
//! `AGENT::CASE`. What is not installed is ignored, and is told of with a count.

use std::io::Write;

use libtest_mimic::{Arguments, Trial};
use orch_real_agents::{Install, Model, agents};

use crate::cases::CASES;

mod cases;
mod trial;

fn main() {
    let install = Install::default();
    let no_python = Model::start().is_none().then(|| "there is no python3".to_owned());
    let (mut trials, mut skipped) = (Vec::new(), Vec::new());
    let agents = agents(&install, "");
    let missing: Vec<_> =
        agents.iter().map(|agent| no_python.clone().or_else(|| install.missing(agent))).collect();
    for (agent, why) in agents.iter().zip(&missing) {
        if let Some(why) = why {
            let count = CASES.iter().filter(|case| case.concerns(agent)).count();
            skipped.push((count, format!("{} ({why})", agent.name)));
        }
    }
    // Case by case: the tests of the one agent that has to wait for its turn are spread among the others.
    for case in CASES {
        for (agent, why) in agents.iter().zip(&missing).filter(|(agent, _)| case.concerns(agent)) {
            let (install, name) = (install.clone(), agent.name);
            let run = move || trial::run(&install, name, case).map_err(Into::into);
            let trial = Trial::test(format!("{name}::{}", case.name), run);
            trials.push(trial.with_ignored_flag(why.is_some()));
        }
    }
    let arguments = Arguments::from_args();
    if !skipped.is_empty() && !arguments.list {
        let count: usize = skipped.iter().map(|(count, _)| count).sum();
        let names: Vec<_> = skipped.into_iter().map(|(_, name)| name).collect();
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {count} of {} cases of real agents: {}; `tests/real-agents/install` installs them",
            trials.len(),
            names.join(", ")
        );
    }
    libtest_mimic::run(&arguments, trials).exit();
}

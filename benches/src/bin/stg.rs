//! How good the schedules are: drives the scheduler over a folder of Standard Task Graphs in
//! virtual time and compares with the proven optima.
//!
//! `cargo run --release -p orch-benches --bin stg -- FOLDER`

use std::{io::Write, path::Path, process::ExitCode, sync::Arc, time::Duration};

use orch_benches::{
    stg::{Graph, read_folder},
    world,
};
use orch_model::{event::RunSettings, plan::spec::Schedule};

const PROCESSORS: [u32; 4] = [2, 4, 8, 16];

/// What is compared: the schedule, and whether the plan tells durations.
const POLICIES: [(&str, Schedule, bool); 4] = [
    ("waves, no durations known", Schedule::Waves, false),
    ("waves, durations known", Schedule::Waves, true),
    ("ready, no durations known", Schedule::Ready, false),
    ("ready, durations known", Schedule::Ready, true),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        return fail("usage: stg FOLDER\nFOLDER holds the graphs (*.stg) and optimum.csv");
    };
    let graphs = match read_folder(Path::new(&folder)) {
        Ok(graphs) => graphs,
        Err(error) => return fail(&error.to_string()),
    };
    match std::io::stdout().write_all(table(&graphs).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the table can't be written: {error}")),
    }
}

fn fail(message: &str) -> ExitCode {
    // Where even that can't be written, the exit code has to do.
    let _ = writeln!(std::io::stderr(), "stg: {message}");
    ExitCode::from(2)
}

/// The makespan of a graph in units of time.
fn makespan(graph: &Graph, processors: u32, schedule: Schedule, known: bool) -> u64 {
    let plan = Arc::new(graph.plan(known).validate().expect("a graph without cycles"));
    let settings = RunSettings { max_concurrency: processors, schedule, ..RunSettings::default() };
    let lasts = |task: orch_model::TaskIndex| Duration::from_secs(graph.tasks[task.get()].0);
    world::drive(&plan, settings, lasts).makespan.as_secs()
}

fn table(graphs: &[Graph]) -> String {
    let mut text = String::from(
        "Mean of makespan / proven optimum. In brackets: only graphs whose optimum exceeds the\n\
         critical path, the others being easy; then the share of all that is optimal.\n\n",
    );
    text.push_str(&format!("{:27}", "policy"));
    for processors in PROCESSORS {
        text.push_str(&format!("{:>22}", format!("P={processors}")));
    }
    for (name, schedule, known) in POLICIES {
        text.push_str(&format!("\n{name:27}"));
        for processors in PROCESSORS {
            let ratios: Vec<_> = graphs
                .iter()
                .filter_map(|graph| Some((graph, *graph.optimum.get(&processors)?)))
                .map(|(graph, optimum)| {
                    let ours = makespan(graph, processors, schedule, known);
                    (ours as f64 / optimum as f64, optimum > graph.critical_path())
                })
                .collect();
            if ratios.is_empty() {
                text.push_str(&format!("{:>22}", "no optimum"));
                continue;
            }
            let mean = |ratios: &[f64]| match ratios.len() {
                0 => "  -  ".to_owned(),
                count => format!("{:.3}", ratios.iter().sum::<f64>() / count as f64),
            };
            let all: Vec<_> = ratios.iter().map(|(ratio, _)| *ratio).collect();
            let hard: Vec<_> = ratios.iter().filter(|(_, hard)| *hard).map(|(r, _)| *r).collect();
            let optimal = all.iter().filter(|ratio| **ratio <= 1.0).count() * 100 / all.len();
            let cell = format!("{} [{}] {optimal:3} %", mean(&all), mean(&hard));
            text.push_str(&format!("{cell:>22}"));
        }
    }
    text.push('\n');
    let hard = |processors: &u32| {
        let exceeds = |graph: &&Graph| {
            graph.optimum.get(processors).is_some_and(|best| *best > graph.critical_path())
        };
        format!("{:>22}", graphs.iter().filter(exceeds).count())
    };
    let counts: String = PROCESSORS.iter().map(hard).collect();
    text.push_str(&format!("{:27}{counts}   of {} graphs\n", "(harder graphs)", graphs.len()));
    text
}

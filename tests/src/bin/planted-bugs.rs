//! Plants one bug after the other, runs the layers of tests that are to catch it, and prints the table.
//!
//! ```text
//! cargo run -p orch-tests --bin planted-bugs [NAME...]
//! ```
//!
//! With `ORCH_CAMPAIGN_RECORDS` what it found goes into the record `planted.json` there, in the place of what that says of the same bugs.
//!
//! It ends with 1 where a bug was not caught, or where something is caught though no bug is planted.

#![expect(clippy::print_stdout, reason = "the table is its result")]

use std::{collections::BTreeSet, env, path::Path, process::ExitCode};

use orch_tests::{
    Campaign, commit,
    planted::{BUGS, Layer, Programs, Tried},
};

fn main() -> ExitCode {
    let wanted: Vec<String> = env::args().skip(1).collect();
    let bugs: Vec<_> = BUGS
        .iter()
        .filter(|bug| wanted.is_empty() || wanted.iter().any(|w| w == bug.name))
        .collect();
    if bugs.is_empty() || bugs.len() < wanted.len() {
        println!("there is no such bug; those that can be planted:");
        BUGS.iter().for_each(|bug| println!("    {}: {}", bug.name, bug.mistake));
        return ExitCode::from(2);
    }
    let mut programs = Programs::default();
    let mut is_well = true;
    let commit = commit();
    let record = env::var_os(Campaign::RECORDS).map(|to| Path::new(&to).join("planted.json"));
    println!("| bug | mistake | caught by | in |\n|---|---|---|---|");
    // Without a bug nothing may be caught, or catching one means nothing.
    let layers: BTreeSet<Layer> = bugs.iter().flat_map(|bug| bug.layers).copied().collect();
    for layer in layers {
        let verdict = programs.try_out(layer, "none");
        if verdict.is_caught {
            println!("| none | | {layer} | {} |", verdict.how_often);
            is_well = false;
        }
    }
    for bug in &bugs {
        let mut tried = Vec::new();
        for layer in bug.layers {
            let verdict = programs.try_out(*layer, bug.name);
            let by = if verdict.is_caught { layer.to_string() } else { format!("**not** {layer}") };
            println!("| `{}` | {} | {by} | {} |", bug.name, bug.mistake, verdict.how_often);
            is_well &= verdict.is_caught;
            tried.push(Tried::new(bug, *layer, verdict, &commit));
        }
        if let Some(record) = &record {
            Tried::write(record, &tried);
        }
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

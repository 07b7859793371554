//! `orch cost`

use orch_model::{
    RunId,
    costs::{Expense, Expenses},
    ports::StateStore,
};

use super::pick;
use crate::{
    app::{CostArgs, Overrides},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
    render::{self, cost},
};

pub(super) async fn cost(workspace: &Workspace, args: CostArgs) -> Result<Exit, CliError> {
    let engine = workspace.engine(&workspace.config()?, &Overrides::default()).await?;
    let store = engine.store().as_ref();
    let runs: Vec<RunId> = if args.all {
        // The oldest first, as days are shown.
        store.list().await?.into_iter().rev().map(|run| run.run).collect()
    } else {
        vec![pick::any(store, args.run).await?.run]
    };
    let mut all = Vec::new();
    for run in &runs {
        all.extend(expenses(store, run).await?);
    }
    let bill = cost::Bill::new(&all, args.by);
    let shown =
        if args.json { format!("{:#}", bill.json(&runs)) } else { bill.text(&runs, args.all) };
    render::print(&shown)?;
    Ok(Exit::Success)
}

/// What a run used, as its journal tells.
async fn expenses(store: &dyn StateStore, run: &RunId) -> Result<Vec<Expense>, CliError> {
    let mut expenses = Expenses::default();
    let mut reader = store.read(run, 1).await?;
    loop {
        let events = reader.next().await?;
        if events.is_empty() {
            return Ok(expenses.into_all());
        }
        for event in &events {
            expenses.see(event).map_err(|error| CliError::Io {
                doing: format!("reading the journal of run {run}"),
                source: std::io::Error::other(error),
            })?;
        }
    }
}

//! The subcommands, a file each.

use crate::{
    app::{App, Command},
    compose::Workspace,
    error::CliError,
    exit_code::Exit,
};

mod abandoned;
mod agents;
mod config;
mod conflicts;
mod control;
mod cost;
mod diff;
mod doctor;
mod gc;
#[cfg(feature = "history")]
mod history;
mod init;
mod keep;
mod lock;
mod logs;
mod pick;
mod plan;
mod prompt;
mod ps;
mod run;
mod runs;
#[cfg(feature = "history")]
mod sessions;
mod show;
mod status;
mod undo;

/// Does what the arguments say.
pub(crate) async fn dispatch(app: App) -> Result<Exit, CliError> {
    match app.command {
        Command::Completions { shell } => return init::completions(shell),
        Command::Schema(args) => return init::schema(&args),
        Command::Init(args) => return init::init(&args),
        Command::Agents(args) => return agents::agents(app.repo.as_deref(), args).await,
        _ => {}
    }
    if let Command::Lock(args) = app.command {
        return lock::lock(app.repo.as_deref(), args.command).await;
    }
    let workspace = Workspace::find(app.repo.as_deref())?;
    match app.command {
        Command::Run(args) => run::run(&workspace, args).await,
        Command::Plan(args) => plan::plan(&workspace, &args).await,
        Command::Prompt(args) => prompt::prompt(&workspace, args).await,
        Command::Status(args) => status::status(&workspace, args).await,
        Command::Runs(args) => runs::runs(&workspace, &args).await,
        #[cfg(feature = "history")]
        Command::History(args) => history::history(&workspace, &args).await,
        #[cfg(feature = "history")]
        Command::Sessions(args) => sessions::sessions(&workspace, args).await,
        Command::Logs(args) => logs::logs(&workspace, args).await,
        Command::Diff(args) => diff::diff(&workspace, args).await,
        Command::Show(args) => show::show(&workspace, args).await,
        Command::Cost(args) => cost::cost(&workspace, args).await,
        Command::Keep(args) => keep::keep(&workspace, args).await,
        Command::Undo(args) => undo::undo(&workspace, args).await,
        Command::Pause(args) => control::pause(&workspace, args).await,
        Command::Resume(args) => control::resume(&workspace, args).await,
        Command::Cancel(args) => control::cancel(&workspace, args).await,
        Command::Conflicts(args) => conflicts::conflicts(&workspace, args).await,
        Command::Resolve(args) => conflicts::resolve(&workspace, args).await,
        Command::Ps(args) => ps::ps(&workspace, args).await,
        Command::Attach(args) => agents::attach(&workspace, args).await,
        Command::Kill(args) => ps::kill(&workspace, args).await,
        Command::Doctor(args) => doctor::doctor(&workspace, &args).await,
        Command::Gc(args) => gc::gc(&workspace, &args).await,
        Command::Config(args) => config::config(&workspace, &args),
        // They were dealt with above.
        Command::Completions { .. }
        | Command::Schema(_)
        | Command::Init(_)
        | Command::Agents(_)
        | Command::Lock(_) => Ok(Exit::Success),
    }
}

//! `orch init`, `orch schema`, `orch completions`: things to begin with.

use std::{fs::OpenOptions, io::Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{
    app::{App, InitArgs, SchemaArgs, SchemaOf},
    error::CliError,
    exit_code::Exit,
    render,
};

/// A plan that explains itself and runs in any repository.
const EXAMPLE: &str = include_str!("init/example.toml");

pub(super) fn init(args: &InitArgs) -> Result<Exit, CliError> {
    let name = args.file.display();
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(&args.file).map_err(|error| {
            CliError::input(match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    format!("{name} exists already; name another file: `orch init FILE`")
                }
                _ => format!("{name}: {error}"),
            })
        })?;
    file.write_all(EXAMPLE.as_bytes())
        .map_err(|source| CliError::Io { doing: format!("writing {name}"), source })?;
    render::print(&format!(
        "wrote {name}\n\n  orch plan {name}    draws it\n  orch run {name}     runs it"
    ))?;
    Ok(Exit::Success)
}

pub(super) fn schema(args: &SchemaArgs) -> Result<Exit, CliError> {
    let SchemaOf::Plan = args.of;
    render::print(&format!("{:#}", orch_model::plan::schema()))?;
    Ok(Exit::Success)
}

pub(super) fn completions(shell: Shell) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut App::command(), "orch", &mut script);
    render::print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use orch_model::plan::{Format, parse};

    use super::*;

    #[test]
    fn the_example_is_a_valid_plan() {
        let plan = parse(EXAMPLE, Format::Toml).unwrap();
        assert!(plan.tasks().len() >= 3);
    }

    #[test]
    fn the_arguments_make_sense() {
        App::command().debug_assert();
    }
}

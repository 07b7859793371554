//! Reading the layers: files of the user and of the repository, and the environment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use etcetera::{BaseStrategy, choose_base_strategy};
use orch_model::plan::{Position, Problem, Problems};
use toml::de::{DeTable, DeValue};

use super::{Config, Key, Origin};
use crate::{diagnostics, error::CliError};

/// What the environment's variables begin with.
const PREFIX: &str = "ORCH_";

/// Variables of that prefix which are no settings: what agents are given, and the log level.
const OTHER_VARIABLES: &[&str] =
    &["ORCH_RUN_ID", "ORCH_TASK_ID", "ORCH_ATTEMPT", "ORCH_WORKTREE", "ORCH_REPO", "ORCH_LOG"];

/// Where the layers are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The user's file.
    pub(crate) user: Option<PathBuf>,
    /// The repository's file.
    pub(crate) repository: PathBuf,
    /// Variables of the environment.
    pub(crate) environment: BTreeMap<String, String>,
}

impl Places {
    /// Those of this process, for the repository with this top folder.
    pub(crate) fn of(top: &Path) -> Self {
        let user = choose_base_strategy().ok();
        Self {
            user: user.map(|places| places.config_dir().join("orch").join("config.toml")),
            repository: top.join("orch.toml"),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .filter(|(name, _)| name.starts_with(PREFIX))
                .collect(),
        }
    }
}

/// Reads all layers.
///
/// # Errors
/// With the place and the cure of the first file that has mistakes, or of a variable.
pub(crate) fn load(places: &Places) -> Result<Config, CliError> {
    let mut config = Config::built_in();
    for path in places.user.iter().chain([&places.repository]) {
        match std::fs::read_to_string(path) {
            Ok(text) => read_file(&mut config, path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::input(format!("{}: {error}", path.display()))),
        }
    }
    for (name, value) in &places.environment {
        if OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let key = name[PREFIX.len()..].to_lowercase();
        let Some(key) = Key::ALL.iter().find(|known| known.name() == key) else {
            // Other tools may use the prefix too: only what looks like a slip is a mistake.
            if let Some(meant) = nearest(&key, 0.93) {
                let meant = meant.to_uppercase();
                return Err(CliError::input(format!(
                    "environment variable {name}: there is no such setting; \
                     did you mean {PREFIX}{meant}?"
                )));
            }
            continue;
        };
        config
            .set(*key, value, Origin::Environment(name.clone()))
            .map_err(|wrong| CliError::input(format!("environment variable {name}: {wrong}")))?;
    }
    Ok(config)
}

fn read_file(config: &mut Config, path: &Path, text: &str) -> Result<(), CliError> {
    let mut problems = Vec::new();
    match DeTable::parse(text) {
        Err(error) => {
            let mut problem = Problem::new(error.message());
            problem.span = error.span();
            problems.push(problem);
        }
        Ok(table) => {
            for (name, value) in table.get_ref() {
                let line = Position::of(text, name.span().start).line;
                let found = set(config, path, line, name.get_ref(), value.get_ref());
                if let Err((message, help, is_name)) = found {
                    let mut problem = Problem::new(message);
                    problem.span = Some(if is_name { name.span() } else { value.span() });
                    problem.help = help;
                    problems.push(problem);
                }
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(CliError::Report(diagnostics::report(
        path,
        text,
        &Problems(problems),
        crate::render::is_colored(),
    )))
}

/// The setting whose name is most like this one, where it is more like it than that.
fn nearest(name: &str, likeness: f64) -> Option<&'static str> {
    Key::ALL
        .iter()
        .map(|key| (strsim::jaro_winkler(name, key.name()), key.name()))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(found, _)| *found > likeness)
        .map(|(_, name)| name)
}

/// What is wrong, the cure, and whether it is the name that is wrong.
type Wrong = (String, Option<String>, bool);

fn set(
    config: &mut Config,
    path: &Path,
    line: usize,
    name: &str,
    value: &DeValue<'_>,
) -> Result<(), Wrong> {
    let Some(key) = Key::ALL.iter().find(|key| key.name() == name) else {
        let names: Vec<_> = Key::ALL.iter().map(|key| key.name()).collect();
        let help = match nearest(name, 0.8) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("the settings are {}", names.join(", ")),
        };
        return Err((format!("unknown setting `{name}`"), Some(help), true));
    };
    let value = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Array(items) if key.separator().is_some() => {
            let texts = items.iter().map(|item| item.get_ref().as_str());
            let Some(texts) = texts.collect::<Option<Vec<_>>>() else {
                let message = format!("`{name}` is a list of strings");
                return Err((message, Some(key.about().to_owned()), false));
            };
            texts.join(key.separator().unwrap_or_default())
        }
        other => {
            let message = format!("`{name}` can't be a {}", other.type_str());
            return Err((message, Some(key.about().to_owned()), false));
        }
    };
    config
        .set(*key, &value, Origin::File { path: path.to_owned(), line })
        .map_err(|wrong| (format!("`{name}`: {wrong}"), Some(key.about().to_owned()), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(
        user: &str,
        repository: &str,
        environment: &[(&str, &str)],
    ) -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let places = Places {
            user: Some(place("config.toml", user)),
            repository: place("orch.toml", repository),
            environment: environment.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        };
        (folder, places)
    }

    fn origin(config: &Config, key: Key) -> (String, String) {
        let setting = config.settings().iter().find(|setting| setting.key == key).unwrap();
        let origin = setting.origin.to_string();
        let origin = origin.rsplit('/').next().unwrap_or_default().to_owned();
        (setting.value.clone(), origin)
    }

    #[test]
    fn later_layers_win() {
        let (_folder, places) = places(
            "max_concurrency = 5\ngrace = \"3s\"\nbackoff = \"2s\"\n",
            "# ours\n\ngrace = \"4s\"\nbackoff = \"3s\"\n",
            &[("ORCH_BACKOFF", "7s"), ("ORCH_RUN_ID", "x"), ("ORCH_OTHER", "y")],
        );
        let config = load(&places).unwrap();
        let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
        assert_eq!(origin(&config, Key::MaxConcurrency), pair("5", "config.toml:1"));
        assert_eq!(origin(&config, Key::Grace), pair("4s", "orch.toml:3"));
        assert_eq!(origin(&config, Key::Backoff), pair("7s", "environment variable ORCH_BACKOFF"));
        assert_eq!(origin(&config, Key::Schedule), pair("ready", "built-in default"));

        let flags = Overrides { sequential: true, ..Overrides::default() };
        let config = config.with(None, &flags);
        assert_eq!(origin(&config, Key::MaxConcurrency), pair("1", "flag --sequential"));
        assert_eq!(config.engine(&flags).max_concurrency, Some(1));
    }

    #[test]
    fn lists_are_taken_where_there_may_be_several() {
        let text = "redact = ['id-\\d+', \"a, b\"]\npass_env = [\"AWS_*\", \"X\"]\n";
        let (_folder, places) = places("", text, &[]);
        let engine = load(&places).unwrap().engine(&Overrides::default());
        assert_eq!(engine.redact, ["id-\\d+", "a, b"]);
        assert_eq!(engine.pass_env, ["AWS_*", "X"]);
        let (_folder, places) = super::tests::places("", "redact = [1]\ngrace = [\"1s\"]\n", &[]);
        let report = load(&places).unwrap_err().to_string();
        assert!(report.contains("`redact` is a list of strings"), "{report}");
        assert!(report.contains("`grace` can't be a"), "{report}");
    }

    use crate::app::Overrides;

    #[test]
    fn every_mistake_of_a_file_is_reported_with_its_place_and_cure() {
        let (_folder, places) = places(
            "",
            "max_concurency = 3\ngrace = \"soon\"\nlive = true\nbackoff = \"1s\"\n",
            &[],
        );
        let report = load(&places).unwrap_err().to_string();
        for part in [
            "orch.toml:1:1",
            "did you mean `max_concurrency`?",
            "orch.toml:2:9",
            "bad duration",
            "orch.toml:3:8",
            "3 problems in",
        ] {
            assert!(report.contains(part), "{part} is missing in\n{report}");
        }
    }

    #[test]
    fn a_bad_variable_is_named() {
        let (_folder, slip) = places("", "", &[("ORCH_MAX_CONCURENCY", "2")]);
        let error = load(&slip).unwrap_err().to_string();
        assert!(error.contains("did you mean ORCH_MAX_CONCURRENCY?"), "{error}");
        let (_folder, places) = places("", "", &[("ORCH_MAX_CONCURRENCY", "0")]);
        let error = load(&places).unwrap_err().to_string();
        assert!(
            error.contains("ORCH_MAX_CONCURRENCY: `0` is not a whole number from 1 on"),
            "{error}"
        );
    }
}

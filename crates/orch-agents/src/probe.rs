//! Which agents there are: found, version, logged in.

use std::{
    collections::BTreeMap,
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use orch_model::{AgentName, plan::Agent};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Command, task::JoinSet, time::timeout};

use crate::{
    adapter::{self, Adapter, Login, Version},
    home::UserHome,
};

mod kept;

/// How long a program may take to tell its version. The slowest took 4 s on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);

/// What was found of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// The program that is started, with what stands in front of its arguments.
    pub program: Vec<String>,
    /// What it is.
    pub found: Found,
    /// Whether the user is logged in, as far as that can be known.
    pub login: Login,
}

/// Whether a program is there, and can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// There is none.
    Missing,
    /// There is no way to ask for its version.
    Unversioned,
    /// It does not tell its version.
    Silent {
        /// What it does instead.
        why: String,
    },
    /// It is older than what orch knows to call.
    TooOld(Version),
    /// It is within the range that is known to work.
    Known(Version),
    /// It is newer than what was measured; most likely it works.
    Newer(Version),
}

impl Found {
    fn of(version: Version, adapter: &dyn Adapter) -> Self {
        if version < adapter.oldest() {
            Self::TooOld(version)
        } else if version > adapter.tested() {
            Self::Newer(version)
        } else {
            Self::Known(version)
        }
    }

    /// The version, where it tells one.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        match self {
            Self::TooOld(version) | Self::Known(version) | Self::Newer(version) => Some(*version),
            Self::Missing | Self::Unversioned | Self::Silent { .. } => None,
        }
    }
}

impl Probed {
    /// Why the agent can't be used, with the cure; `None` where it can.
    #[must_use]
    pub fn problem(&self, adapter: &dyn Adapter) -> Option<String> {
        let (kind, install) = (adapter.kind(), adapter.install());
        let program = self.program.join(" ");
        match &self.found {
            Found::Missing => Some(format!(
                "there is no program `{program}` for the agent of kind `{kind}`; `{install}` installs it, \
                 or name it as `command`"
            )),
            Found::TooOld(version) => Some(format!(
                "`{program}` is version {version} of {kind}, and {} is the oldest that can be used; \
                 `{install}` installs a newer one",
                adapter.oldest()
            )),
            Found::Silent { why } => {
                Some(format!("`{program} --version` tells no version of {kind}: {why}"))
            }
            Found::Known(_) | Found::Newer(_) | Found::Unversioned => None,
        }
    }
}

/// Asks a program which version it is, in an environment of its own. `program` has what stands in front
/// of its arguments.
///
/// # Cancel safety
/// A dropped future leaves no process behind.
pub async fn probe(adapter: &dyn Adapter, program: &[String], user: &UserHome) -> Probed {
    look(adapter, program, user, true).await
}

/// As [`probe`] does, but a program that told its version before, and that was not changed since, is not started for it.
/// What was told is kept in the user's folder for caches.
///
/// # Cancel safety
/// As that of [`probe`].
pub async fn probe_known(adapter: &dyn Adapter, program: &[String], user: &UserHome) -> Probed {
    look(adapter, program, user, false).await
}

async fn look(adapter: &dyn Adapter, program: &[String], user: &UserHome, is_anew: bool) -> Probed {
    let program = match program {
        [] => vec![adapter.program().to_owned()],
        program => program.to_vec(),
    };
    let found = match &*program {
        // It is looked for in the worktree.
        [name, ..] if is_within(name) => Found::Unversioned,
        [name, rest @ ..] => match find(name, user.variable("PATH")) {
            None => Found::Missing,
            Some(_) if !adapter.tells_version() => Found::Unversioned,
            Some(path) => match told(&path, name, rest, user, is_anew).await {
                Ok(version) => Found::of(version, adapter),
                Err(why) => Found::Silent { why },
            },
        },
        [] => Found::Missing,
    };
    Probed { program, found, login: adapter.login(user) }
}

/// Which of these agents can't be used, and why. All are looked at at the same time.
///
/// Of a program that the plan describes, kind `command`, it is looked whether it is there; one that is named
/// by a path within the worktree is taken to be.
///
/// # Cancel safety
/// A dropped future leaves no process behind.
pub async fn missing(
    agents: &BTreeMap<AgentName, Agent>,
    user: &UserHome,
) -> BTreeMap<AgentName, String> {
    let mut looks = JoinSet::new();
    let mut missing = BTreeMap::new();
    for (name, agent) in agents {
        let user = user.with(&agent.env);
        let Some(adapter) = adapter::of(agent.kind) else {
            if let Some(program) = agent.command.first().filter(|program| !is_within(program))
                && find(program, user.variable("PATH")).is_none()
            {
                missing.insert(name.clone(), format!("there is no program `{program}`"));
            }
            continue;
        };
        let (name, program) = (name.clone(), agent.command.clone());
        looks.spawn(
            async move { (name, probe_known(adapter, &program, &user).await.problem(adapter)) },
        );
    }
    let found = looks.join_all().await;
    missing.extend(found.into_iter().filter_map(|(name, problem)| Some((name, problem?))));
    missing
}

/// Whether a program is looked for in the worktree.
fn is_within(program: &str) -> bool {
    program.contains('{') || (program.contains('/') && !program.starts_with('/'))
}

/// Where a program is: a path, or a name that is looked up.
fn find(name: &str, path: Option<&str>) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    env::split_paths(path?).map(|folder| folder.join(name)).find(|path| is_program(path))
}

/// The version that a program tells, or has told.
async fn told(
    path: &Path,
    name: &str,
    args: &[String],
    user: &UserHome,
    is_anew: bool,
) -> Result<Version, String> {
    let file = kept::file(user.home(), user.variable("XDG_CACHE_HOME"));
    // As it is before it is asked: what it is afterwards may be something else.
    let program = kept::Program::of(path, args).zip(file);
    if let Some((program, file)) = program.as_ref().filter(|_| !is_anew)
        && let Some(version) = program.version(file)
    {
        return Ok(version);
    }
    let version = version(name, args, user).await?;
    if let Some((program, file)) = program
        && let Err(error) = program.keep(version, &file)
    {
        tracing::debug!(file = %file.display(), %error, "the version of {name} can't be kept");
    }
    Ok(version)
}

async fn version(name: &str, args: &[String], user: &UserHome) -> Result<Version, String> {
    // Some write into their home even for this.
    let home = tempfile::tempdir().map_err(|error| format!("making a folder for it: {error}"))?;
    let mut child = Command::new(name)
        .args(args)
        .arg("--version")
        .env_clear()
        .env("PATH", user.variable("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("GEMINI_CLI_NO_RELAUNCH", "true")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let said = timeout(LONGEST, said(&mut child)).await;
    // Whatever it started to find out.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let said = said
        .map_err(|_| format!("it says nothing for {} s", LONGEST.as_secs()))?
        .map_err(|error| error.to_string())?;
    Version::find(&said).ok_or_else(|| match said.trim().lines().next() {
        Some(line) => format!("it says `{}`", line.chars().take(80).collect::<String>()),
        None => "it says nothing".into(),
    })
}

/// What it prints, at most some kilobytes, until it ends.
async fn said(child: &mut tokio::process::Child) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt;
    let mut said = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.take(4096).read_to_end(&mut said).await?;
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

#[cfg(test)]
mod tests {
    use orch_model::plan::spec::AgentKind;

    use super::*;

    fn program(folder: &Path, script: &str) -> Vec<String> {
        let path = folder.join("agent");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        vec![path.to_string_lossy().into_owned()]
    }

    #[tokio::test]
    async fn versions_are_told_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let adapter = adapter::of(AgentKind::Codex).unwrap();
        let path = env::var("PATH").unwrap();
        let user = UserHome::new("/nonexistent", [("PATH", path.as_str())]);
        for (script, expected, problem) in [
            ("echo warning >&2; echo codex-cli 0.169.0", Found::Known(Version(0, 169, 0)), None),
            ("echo codex-cli 0.200.1", Found::Newer(Version(0, 200, 1)), None),
            ("echo 0.1.5", Found::TooOld(Version(0, 1, 5)), Some("is version 0.1.5 of codex, and")),
            ("exit 3", Found::Silent { why: "it says nothing".into() }, Some("tells no version")),
            ("echo hello", Found::Silent { why: "it says `hello`".into() }, Some("`hello`")),
        ] {
            let probed = probe(adapter, &program(folder.path(), script), &user).await;
            assert_eq!(probed.found, expected, "{script}");
            let found = probed.problem(adapter);
            assert_eq!(found.is_some(), problem.is_some(), "{script}: {found:?}");
            assert!(found.unwrap_or_default().contains(problem.unwrap_or_default()), "{script}");
            assert_eq!(probed.login, Login::Missing { cure: "codex login" });
        }
        let missing = probe(adapter, &["no-such-agent".into()], &user).await;
        assert_eq!(missing.found, Found::Missing);
        let problem = missing.problem(adapter).unwrap();
        assert!(problem.contains("npm install -g @openai/codex"), "{problem}");
        let within = probe(adapter, &["./tools/agent".into()], &user).await;
        assert_eq!(within.found, Found::Unversioned, "nobody knows before there is a worktree");
        let folder = probe(adapter, &["/tmp".into()], &user).await;
        assert_eq!(folder.found, Found::Missing, "a folder is no program");
    }

    #[tokio::test]
    async fn a_program_that_is_known_is_not_started() {
        let folder = tempfile::tempdir().unwrap();
        let adapter = adapter::of(AgentKind::Codex).unwrap();
        let path = env::var("PATH").unwrap();
        let user = UserHome::new(folder.path(), [("PATH", path.as_str())]);
        let calls = folder.path().join("calls");
        let script = format!("echo call >> {}; echo codex-cli 0.169.0", calls.display());
        let program = program(folder.path(), &script);
        let count = || std::fs::read_to_string(&calls).unwrap().lines().count();
        for expected in [1, 1] {
            let probed = probe_known(adapter, &program, &user).await;
            assert_eq!(probed.found, Found::Known(Version(0, 169, 0)));
            assert_eq!(count(), expected);
        }
        probe(adapter, &program, &user).await;
        assert_eq!(count(), 2, "it is asked anew");
        std::fs::write(&program[0], "#!/bin/sh\necho codex-cli 0.200.0\n").unwrap();
        let probed = probe_known(adapter, &program, &user).await;
        assert_eq!(probed.found, Found::Newer(Version(0, 200, 0)), "it is another program now");
    }

    #[tokio::test]
    async fn credentials_are_found_and_not_read() {
        let home = tempfile::tempdir().unwrap();
        let adapter = adapter::of(AgentKind::Claude).unwrap();
        let user = UserHome::new(home.path(), [("HOME", "x")]);
        assert!(matches!(adapter.login(&user), Login::Missing { .. }));
        std::fs::create_dir(home.path().join(".claude")).unwrap();
        let file = home.path().join(".claude/.credentials.json");
        std::fs::write(&file, "secret").unwrap();
        assert_eq!(adapter.login(&user), Login::Found(file.to_string_lossy().into_owned()));
        let user = user.with(&[("ANTHROPIC_API_KEY".to_owned(), "secret".to_owned())].into());
        assert_eq!(adapter.login(&user), Login::Found("ANTHROPIC_API_KEY".into()));
    }
}

//! Moments at which an orchestrator can be killed: each of its calls of git, and wherever a command of a
//! test says `kill-point`.
//!
//! A folder that is first on the `PATH` holds a `git` and a `kill-point`, both this program. It counts its
//! calls, and at the chosen one it kills the orchestrator, whose process id the test has written down,
//! before the real git would run, or after it has. Gits of agents are not counted.

use std::{
    env,
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::{
        fs::symlink,
        process::{CommandExt, parent_id},
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{RunningOrch, TestRepo, binary, process_is_alive, until};

/// The file that has what was called, a line each; it tells the folder from others on the `PATH`.
const CALLS: &str = "calls";
/// The file with the moment, until it has come.
const MOMENT: &str = "moment";
/// The file with the process id of the orchestrator.
const VICTIM: &str = "victim";

/// When the orchestrator is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// In the place of a call: git does not run.
    Before(usize),
    /// When git has ended, and before the orchestrator knows.
    After(usize),
}

/// As the file has it.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(number) => write!(f, "before {number}"),
            Self::After(number) => write!(f, "after {number}"),
        }
    }
}

impl Moment {
    fn read(text: &str) -> Option<Self> {
        let (when, number) = text.split_once(' ')?;
        let number = number.parse().ok()?;
        match when {
            "before" => Some(Self::Before(number)),
            "after" => Some(Self::After(number)),
            _ => None,
        }
    }

    /// Which call it is, from 1.
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::Before(number) | Self::After(number) => number,
        }
    }
}

/// A folder for the `PATH` of an orchestrator that is to be killed at a moment.
#[derive(Debug)]
pub struct KillPoints {
    folder: PathBuf,
}

impl KillPoints {
    /// Makes the folder beside a repository.
    ///
    /// # Panics
    /// Where it can't be made.
    #[must_use]
    pub fn new(repo: &TestRepo) -> Self {
        let folder = repo.beside("points");
        fs::create_dir(&folder).expect("a folder can be made");
        for name in ["git", "kill-point"] {
            symlink(binary::kill_point(), folder.join(name)).expect("a link can be made");
        }
        let points = Self { folder };
        points.arm(None);
        points
    }

    /// What the `PATH` of the orchestrator has to be.
    ///
    /// # Panics
    /// Where the test's own `PATH` can't be used.
    #[must_use]
    pub fn path(&self) -> OsString {
        let old = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.folder.clone()).chain(env::split_paths(&old));
        env::join_paths(folders).expect("folders without colons")
    }

    /// Counts from 1 again, and kills the next orchestrator at this moment.
    ///
    /// # Panics
    /// Where that can't be written down.
    pub fn arm(&self, moment: Option<Moment>) {
        // Whoever still comes waits until the next one is named.
        let _ = fs::remove_file(self.folder.join(VICTIM));
        let text = moment.map_or_else(String::new, |moment| moment.to_string());
        self.write(MOMENT, &text);
        self.write(CALLS, "");
    }

    /// Names the orchestrator.
    ///
    /// # Panics
    /// Where that can't be written down.
    pub fn watch(&self, orch: &RunningOrch<'_>) {
        self.write(VICTIM, &orch.pid().to_string());
    }

    /// What was called since they were armed.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(CALLS)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Replaces a file as a whole.
    fn write(&self, name: &str, text: &str) {
        let new = self.folder.join(format!("{name}.new"));
        fs::write(&new, text).expect("a file of kill points can be written");
        fs::rename(new, self.folder.join(name)).expect("a file of kill points can be replaced");
    }
}

/// What `git` and `kill-point` do.
///
/// # Panics
/// Where they are called outside of a test.
#[must_use]
pub fn strike() -> ExitCode {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let is_git = Path::new(&name).ends_with("git");
    let arguments: Vec<OsString> = arguments.collect();
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path);
    let folder = folders.find(|folder| folder.join(CALLS).is_file()).expect("a test's folder");
    let real = folders.map(|folder| folder.join("git")).find(|git| git.is_file());
    let mut real = Command::new(real.expect("git is installed"));
    real.args(&arguments);
    let victim = until("the name of the orchestrator", || {
        fs::read_to_string(folder.join(VICTIM)).ok()?.parse::<u32>().ok()
    });
    // Those of agents, and of setup and verification commands, have other parents.
    if is_git && parent_id() != victim {
        return become_git(&mut real);
    }
    let shown = arguments.join(" ".as_ref());
    let moment = count(&folder, &format!("{} {}", name.display(), shown.display()));
    match moment {
        None if is_git => become_git(&mut real),
        None => ExitCode::SUCCESS,
        Some(moment) => {
            let code = match moment {
                Moment::After(_) if is_git => real.status().ok().and_then(|status| status.code()),
                _ => Some(i32::from(is_git)),
            };
            kill(victim);
            code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn become_git(real: &mut Command) -> ExitCode {
    let error = real.exec();
    panic!("git can't be started: {error}")
}

/// Counts a call; the moment, if this is it.
fn count(folder: &Path, call: &str) -> Option<Moment> {
    let calls = File::options().read(true).append(true).open(folder.join(CALLS));
    let mut calls = calls.expect("the list of calls can be opened");
    calls.lock().expect("the list of calls can be locked");
    calls.rewind().expect("the list of calls can be read");
    let mut before = String::new();
    calls.read_to_string(&mut before).expect("the list of calls can be read");
    let line = format!("{}\n", call.replace('\n', " "));
    calls.write_all(line.as_bytes()).expect("a call can be noted");
    let text = fs::read_to_string(folder.join(MOMENT)).unwrap_or_default();
    let moment = Moment::read(&text)?;
    (moment.number() == before.lines().count() + 1).then_some(moment)
}

fn kill(victim: u32) {
    let pid = i32::try_from(victim).ok().and_then(Pid::from_raw).expect("a process id");
    // It may have ended by itself.
    let _ = kill_process(pid, Signal::KILL);
    until("the end of the orchestrator", || (!process_is_alive(victim)).then_some(()));
}

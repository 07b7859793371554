//! Doing what a script says.

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use super::{Script, Statement};

/// How long `wait-for` waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long `hang` hangs: a test that goes wrong must not leave processes for ever.
const FOREVER: Duration = Duration::from_secs(120);

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A system call failed.
    #[error("can't {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// git failed.
    #[error("git {arguments} failed: {stderr}")]
    Git {
        /// Its arguments.
        arguments: String,
        /// What it said.
        stderr: String,
    },
    /// A variable is not set or makes no sense.
    #[error("the variable {name} {problem}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file did not appear.
    #[error("waited {PATIENCE:?} in vain for {}", file.display())]
    Waited {
        /// The file.
        file: PathBuf,
    },
}

/// What comes after a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The next one.
    GoOn,
    /// The end, with this code.
    Exit(u8),
}

/// Does what a script says, in the current folder.
#[derive(Debug)]
pub struct Actor<W> {
    out: W,
}

impl<W: Write> Actor<W> {
    /// An actor that prints to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Performs a script and returns its exit code.
    ///
    /// # Errors
    /// Where a statement failed; those after it are not performed.
    pub fn perform(&mut self, script: &Script) -> Result<u8, AgentError> {
        for statement in script.statements() {
            if let Act::Exit(code) = self.act(statement)? {
                return Ok(code);
            }
        }
        Ok(0)
    }

    fn act(&mut self, statement: &Statement) -> Result<Act, AgentError> {
        match statement {
            Statement::Say { text } => self.print(format!("{text}\n").as_bytes())?,
            Statement::Sleep { time } => thread::sleep(*time),
            Statement::Write { path, text } => replace(path, &format!("{text}\n"))?,
            Statement::Append { path, text } => append(path, &format!("{text}\n"))?,
            Statement::Conflict { path } => replace(path, &format!("{}\n", task()?))?,
            Statement::Cat { path } => {
                let text = fs::read(path).map_err(io_error("read", path))?;
                self.print(&text)?;
            }
            Statement::Remove { path } => {
                fs::remove_file(path).map_err(io_error("remove", path))?
            }
            Statement::Commit { message } => {
                git(&["add", "--all"])?;
                git(&["commit", "--quiet", "--message", message])?;
            }
            Statement::DetachHead => git(&["checkout", "--quiet", "--detach"])?,
            Statement::Env { name, file } => replace(file, &format!("{}\n", variable(name)?))?,
            Statement::Record { file } => {
                let line = format!("{} {} {}\n", task()?, attempt()?, std::process::id());
                append(file, &line)?;
            }
            Statement::Touch { file } => replace(file, "")?,
            Statement::WaitFor { file } => wait_for(file)?,
            Statement::FailTimes { times } => {
                let attempt = attempt()?;
                if attempt <= *times {
                    self.print(format!("attempt {attempt} fails\n").as_bytes())?;
                    return Ok(Act::Exit(1));
                }
            }
            Statement::Exit { code } => return Ok(Act::Exit(*code)),
            Statement::Flood { bytes } => self.flood(*bytes, Some(100))?,
            Statement::LongLine { bytes } => self.flood(*bytes, None)?,
            Statement::FloodLines { lines } => {
                for line in 1..=*lines {
                    self.write(format!("line {line}\n").as_bytes())?;
                }
                self.print(b"")?;
            }
            Statement::InvalidUtf8 => self.print(b"not \xff\xfe UTF-8 \xc3\x28\n")?,
            Statement::IgnoreTerm => {
                // The flag is never read: that there is a handler keeps the signal from ending us.
                let ignored = Arc::new(AtomicBool::new(false));
                signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored)
                    .map_err(|source| AgentError::Io { doing: "ignore SIGTERM".into(), source })?;
            }
            Statement::Hang => thread::sleep(FOREVER),
            Statement::Grandchild { kind, time, pid_file } => {
                kind.start(*time, pid_file.as_deref()).map_err(|source| AgentError::Io {
                    doing: "leave a process behind".into(),
                    source,
                })?;
            }
        }
        Ok(Act::GoOn)
    }

    /// Writes `bytes` bytes, in lines of `width` bytes where that is given.
    fn flood(&mut self, bytes: u64, width: Option<usize>) -> Result<(), AgentError> {
        let mut chunk = vec![b'x'; 8000];
        if let Some(width) = width {
            for end in chunk.chunks_mut(width).filter_map(<[u8]>::last_mut) {
                *end = b'\n';
            }
        }
        let mut left = bytes;
        while left > 0 {
            let now = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            self.write(&chunk[..now])?;
            left -= now as u64;
        }
        self.print(b"")
    }

    fn print(&mut self, bytes: &[u8]) -> Result<(), AgentError> {
        self.write(bytes)?;
        self.out.flush().map_err(|source| AgentError::Io { doing: "print".into(), source })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), AgentError> {
        self.out.write_all(bytes).map_err(|source| AgentError::Io { doing: "print".into(), source })
    }
}

fn io_error(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> AgentError {
    let doing = format!("{doing} {}", path.display());
    |source| AgentError::Io { doing, source }
}

fn make_folder_of(path: &Path) -> Result<(), AgentError> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(io_error("make", folder)),
        None => Ok(()),
    }
}

fn replace(path: &Path, text: &str) -> Result<(), AgentError> {
    make_folder_of(path)?;
    fs::write(path, text).map_err(io_error("write", path))
}

/// Adds text in one write to a file that others may add to as well, and waits until it is safe.
fn append(path: &Path, text: &str) -> Result<(), AgentError> {
    make_folder_of(path)?;
    let add = || -> io::Result<()> {
        let mut file = File::options().append(true).create(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    add().map_err(io_error("append to", path))
}

fn wait_for(file: &Path) -> Result<(), AgentError> {
    let end = Instant::now() + PATIENCE;
    // Where its folder has gone the test is over.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    while !file.exists() {
        if Instant::now() > end || folder.is_some_and(|folder| !folder.exists()) {
            return Err(AgentError::Waited { file: file.into() });
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn variable(name: &str) -> Result<String, AgentError> {
    env::var(name).map_err(|error| AgentError::Variable {
        name: name.into(),
        problem: match error {
            env::VarError::NotPresent => "is not set",
            env::VarError::NotUnicode(_) => "is not UTF-8",
        },
    })
}

fn task() -> Result<String, AgentError> {
    variable("ORCH_TASK_ID")
}

fn attempt() -> Result<u32, AgentError> {
    let name = "ORCH_ATTEMPT";
    variable(name)?
        .parse()
        .map_err(|_| AgentError::Variable { name: name.into(), problem: "is not a number" })
}

fn git(arguments: &[&str]) -> Result<(), AgentError> {
    let output = Command::new("git")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| AgentError::Io { doing: "start git".into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    Err(AgentError::Git {
        arguments: arguments.join(" "),
        stderr: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

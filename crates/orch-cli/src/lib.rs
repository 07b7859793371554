//! The command `orch`. It stays thin: arguments, configuration, rendering, signals and exit codes.
//! What a run does lives in [`orch_exec`], and an embedder needs nothing from here.
//!
//! ```
//! use clap::Parser;
//!
//! let app = orch_cli::App::try_parse_from(["orch", "run", "plan.toml", "-j", "4"]).unwrap();
//! assert!(matches!(app.command, orch_cli::Command::Run(_)));
//! ```

use std::process::ExitCode;

use clap::Parser;

mod app;
mod commands;
mod compose;
mod config;
mod diagnostics;
mod error;
mod exit_code;
mod full_disk;
#[cfg(feature = "history")]
mod history;
mod render;
mod signals;

pub use app::{App, Command};
pub use exit_code::Exit;

/// Reads the arguments, does what they say, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let app = match App::try_parse() {
        Ok(app) => app,
        Err(error) => {
            let is_help = !error.use_stderr();
            // A closed pipe is all that can go wrong here.
            let _ = error.print();
            return if is_help { Exit::Success } else { Exit::Input }.into();
        }
    };
    log_to_stderr(app.verbose);
    return_freed_memory();
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| error::CliError::Io { doing: "starting".into(), source })
        .and_then(|runtime| {
            let result = runtime.block_on(commands::dispatch(app));
            // Nothing that still waits, a read of the standard input for one, holds up the exit.
            runtime.shutdown_background();
            result
        });
    result
        .unwrap_or_else(|error| {
            render::tell(&render::error(&error, full_disk::cure(&error).as_deref()));
            error.exit()
        })
        .into()
}

/// Has glibc give freed memory back to the system. By default it keeps twice as much as the largest
/// block that was ever freed, in each thread's arena: after a plan of 10,000 tasks was read that is
/// 10 MB of 40.
fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the allocator has no safe interface")]
        // SAFETY: it changes a number inside of the allocator, under its lock.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
        }
    }
}

fn log_to_stderr(verbose: u8) {
    use tracing::level_filters::LevelFilter;
    let wanted = std::env::var("ORCH_LOG").ok().filter(|level| !level.is_empty());
    let named = wanted.as_deref().map(str::parse::<LevelFilter>);
    if let Some(Err(_)) = named {
        render::tell("ORCH_LOG is none of off, error, warn, info, debug, trace");
    }
    let level = match named {
        Some(Ok(level)) => level,
        _ => match verbose {
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        },
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(render::live::LogWriter::default)
        .without_time()
        .with_target(false)
        .init();
}

//! Coding agents for orch.
//!
//! An adapter is three things, each pure: what is executed for a task, what the stream that the agent
//! prints says ([`Parser`], giving [`AgentEvent`]s), and what came of the attempt. The processes
//! themselves are run by the supervised runner of `orch-exec`, so an agent survives its orchestrator,
//! is watched, limited and swept up like any command.
//!
//! ```
//! use orch_agents::{AgentEvent, Dialect, Parser, Summary};
//! use orch_model::Timestamp;
//!
//! let (mut parser, mut summary) = (Parser::new(&Dialect::Codex), Summary::default());
//! let now = Timestamp::from_millis(0);
//! let line = br#"{"type":"thread.started","thread_id":"01a1"}"#;
//! parser.push(line, now, |record| summary.take(&record));
//! parser.finish(now, |record| summary.take(&record));
//! assert_eq!(summary.session.as_deref(), Some("01a1"));
//! assert!(summary.end.is_none(), "the stream was cut off");
//! ```
#![forbid(unsafe_code)]

pub mod acp;
pub mod adapter;
pub mod event;
pub mod harmless;
pub mod home;
pub mod prices;
pub mod probe;
pub mod prompt;
mod runner;
pub mod session;
pub mod stream;
pub mod summary;
pub mod tokens;
mod uncounted;
pub mod verdict;
mod watcher;

pub use event::{AgentEvent, Record};
pub use home::UserHome;
pub use prices::Prices;
pub use runner::AgentAdapters;
pub use stream::{Dialect, Parser};
pub use summary::Summary;
pub use tokens::Tokens;
pub use uncounted::{Unknown, uncounted};
pub use verdict::{Totals, Verdict, judge};

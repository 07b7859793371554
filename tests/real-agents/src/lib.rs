//! The real coding agents, run by orch against a scripted model server on this machine: no network is needed.
//!
//! `install` beside this package fetches them from npm, pinned and without scripts, into the folder that
//! `ORCH_REAL_AGENTS` names, or `target/real-agents`. What is not there is skipped by the tests, which say
//! how much that is, and why.
//!
//! - [`Model`] is the server. A prompt is the script of what its model does.
//! - [`Real`] is an agent as a plan has it, [`plan()`] the text of a plan.
//! - [`Left`] finds what an agent has left behind.

mod agent;
mod left;
mod model;
mod patience;

pub use agent::{Install, Real, Tells, agents, plan, task};
pub use left::Left;
pub use model::{Answers, Model};
pub use patience::{ended, patiently};

//! The engine from outside, without git; processes and the control socket for real.

mod briefing;
mod budgets;
mod closing;
mod common;
#[cfg(feature = "defaults")]
mod control;
mod engine;
mod faults;
mod observers;
#[cfg(feature = "process")]
mod process;
#[cfg(feature = "process")]
mod prompts;
mod resources;
mod resume;
mod stops;
mod worktrees;

//! Plans: as written ([`spec`]), and as the rest of the code takes them ([`ValidPlan`]).
//!
//! A plan comes from text by [`parse`], or from code as a [`PlanSpec`] by [`ValidPlan::new`]. Both
//! report every problem at once, each with a cure; from text each has its place as well.

mod assignment;
mod briefing;
mod complexity;
#[cfg(feature = "parse")]
mod decode;
mod detect;
#[cfg(feature = "parse")]
mod include;
mod message;
mod nearest;
#[cfg(feature = "parse")]
mod parse;
mod path;
mod pool;
mod problem;
mod runner_key;
#[cfg(feature = "schema")]
mod schema;
#[cfg(feature = "parse")]
mod source;
pub mod spec;
pub mod template;
mod valid;
mod validate;

pub use assignment::{AgentChoice, AgentOrigin, Assignment, Candidate};
pub use briefing::{Briefing, MAX_TEXT, Template};
pub use complexity::Complexity;
pub use detect::Detection;
#[cfg(feature = "parse")]
pub use include::{ReadText, skill_file};
pub use message::{MessageField, MessageTemplate};
#[cfg(feature = "fuzz")]
pub use parse::parse_placed;
#[cfg(feature = "parse")]
pub use parse::{parse, parse_with};
pub use pool::{Pool, PoolRange, PoolRangeError, PoolValues};
pub use problem::{Position, Problem, Problems};
pub use runner_key::Service;
#[cfg(feature = "schema")]
pub use schema::schema;
#[cfg(feature = "parse")]
pub use source::Format;
pub use spec::PlanSpec;
pub use valid::{
    Agent, Epic, EpicIndex, LockClaim, LockMode, Merging, Prompt, RunOptions, Task, TaskIndex,
    ValidPlan, Work,
};
pub use validate::{
    DEFAULT_MAX_OUTPUT, DEFAULT_PRIORITY, DEFAULT_RETRIES, DEFAULT_TIMEOUT, LOWEST_PRIORITY,
};

/// The version of the plan format that this code reads.
pub const VERSION: u32 = 1;

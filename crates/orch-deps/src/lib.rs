//! The graph over a valid plan of [`orch_model`]: who waits for whom, what may start now, what should
//! start first, what must not run together, and how the plan looks.
//!
//! Everything here is pure: no IO, no clock, no randomness, and the same plan always gives the same
//! answers in the same order. In reading order:
//!
//! - [`graph`]: [`Graph`], the dependencies with epics expanded; critical path and [`Bounds`].
//! - [`waves`]: the plan in batches.
//! - [`priority`]: [`Ranks`], the order in which ready tasks are started.
//! - [`frontier`]: [`Frontier`], what is ready while tasks end one after the other.
//! - [`conflict`]: [`Conflicts`], tasks that claim overlapping files.
//! - [`render`]: the plan as text, Mermaid, Graphviz and JSON.
//!
//! ```
//! use std::sync::Arc;
//!
//! use orch_deps::{Conflicts, Ended, Frontier, Graph, Ranks};
//! use orch_model::{PlanSpec, TaskId, ValidPlan, plan::spec::TaskSpec};
//!
//! let task = |id: &str| TaskSpec::new(TaskId::new(id).expect("an id")).run("make");
//! let id = |id: &str| TaskId::new(id).expect("an id");
//! let mut login = task("login").needs(id("schema"));
//! let mut signup = task("signup").needs(id("schema"));
//! login.files = vec!["src/auth/**".into()];
//! signup.files = vec!["src/auth/signup.rs".into()];
//! let spec = PlanSpec::new().task(login).task(signup).task(task("schema")).task(task("docs"));
//! let plan = ValidPlan::new(spec).expect("a plan that makes sense");
//! let at = |name: &str| plan.index_of(&id(name)).expect("a task");
//!
//! let graph = Arc::new(Graph::new(&plan));
//! assert_eq!(graph.needs(at("login")), [at("schema")]);
//! assert_eq!(graph.waves().len(), 2);
//!
//! // What holds up most goes first.
//! let ranks = Ranks::new(&graph, &plan, |_| None);
//! assert!(ranks.rank(at("schema")) < ranks.rank(at("docs")));
//!
//! // The frontier follows a run.
//! let mut frontier = Frontier::new(Arc::clone(&graph));
//! assert_eq!(frontier.initially_ready(), [at("schema"), at("docs")]);
//! let resolved = frontier.resolve(at("schema"), Ended::Succeeded);
//! assert_eq!(resolved.ready, [at("login"), at("signup")]);
//!
//! // Both are ready, but they claim the same file.
//! assert!(Conflicts::new(&plan).overlap(at("login"), at("signup")));
//! ```
#![forbid(unsafe_code)]

pub mod conflict;
pub mod frontier;
pub mod graph;
pub mod priority;
pub mod render;
pub mod waves;

pub use conflict::{Clash, Conflicts, GroupIndex};
pub use frontier::{Ended, Frontier, Resolved};
pub use graph::{BoundBy, Bounds, EdgeKind, Graph};
pub use priority::{Durations, Rank, Ranks};
pub use render::RenderOptions;
pub use waves::Waves;

#[cfg(test)]
mod testing;

//! A plan drawn: for people ([`text()`]), for documents ([`mermaid()`], [`dot()`]) and for programs
//! ([`json()`]).

mod dot;
mod json;
mod mermaid;
mod overview;
mod text;
mod words;

use orch_model::ValidPlan;

pub use dot::dot;
pub use json::{
    BoundsDocument, ConflictDocument, CriticalPathDocument, EpicDocument, PlanDocument,
    TaskDocument, VERSION, json,
};
pub use mermaid::mermaid;
pub use text::text;

/// How a plan is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderOptions {
    /// How many tasks run at the same time, at most; 0 counts as 1. For the bounds on the run time.
    pub concurrency: usize,
    /// The branch that results are merged into, where it is known.
    pub target: Option<String>,
    /// Whether text may use characters beyond ASCII for its lines and dots.
    pub unicode: bool,
    /// How wide text may be, in columns of a terminal; at least 40.
    pub columns: usize,
    /// How many waves text shows.
    pub max_waves: usize,
    /// How many tasks of a wave text names.
    pub max_tasks_per_wave: usize,
    /// How many conflicts text names.
    pub max_conflicts: usize,
}

impl Default for RenderOptions {
    /// Three tasks at a time, 100 columns, 100 waves, 40 tasks a wave, 20 conflicts.
    fn default() -> Self {
        Self {
            concurrency: 3,
            target: None,
            unicode: true,
            columns: 100,
            max_waves: 100,
            max_tasks_per_wave: 40,
            max_conflicts: 20,
        }
    }
}

impl RenderOptions {
    /// The defaults, with the target and the concurrency that the plan names.
    #[must_use]
    pub fn of(plan: &ValidPlan) -> Self {
        let default = Self::default();
        Self {
            concurrency: plan.run().max_concurrency.map_or(default.concurrency, |n| n as usize),
            target: plan.run().target.clone(),
            ..default
        }
    }
}

#[cfg(test)]
mod tests;

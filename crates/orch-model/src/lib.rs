//! The words of orch: ids, plans, states, transitions, events, outcomes and the ports behind which
//! everything that touches the world stands. Nothing here does IO, reads a clock or looks at the
//! environment.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod attempts;
pub mod budget;
pub mod conflict;
pub mod costs;
pub mod event;
pub mod id;
pub mod money;
pub mod outcome;
pub mod plan;
pub mod ports;
pub mod progress;
pub mod report;
pub mod resources;
pub mod run;
pub mod size;
pub mod spending;
pub mod state;
pub mod tiers;
pub mod time;
pub mod trailers;
pub mod transition;
pub mod usage;

pub use budget::{Budget, BudgetChange, BudgetScope, BudgetStop};
pub use conflict::{Conflict, Hunk};
pub use event::{Event, EventKind, TaskChange};
pub use id::{AgentName, CommitId, EpicId, IdError, LockName, RunId, TaskId};
pub use money::Money;
pub use plan::{PlanSpec, TaskIndex, ValidPlan};
pub use progress::Progress;
pub use report::Report;
pub use resources::Shortage;
pub use run::RunState;
pub use size::ByteSize;
pub use state::{RunStatus, TaskState};
pub use time::{Span, Timestamp};

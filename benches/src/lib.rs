//! What the benchmarks share: plans of given shapes, a world without processes that drives the
//! scheduler, and the reader of standard task graphs.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use orch_benches::{shapes, world};
//! use orch_model::event::RunSettings;
//!
//! // Three levels of two tasks, each task waiting for some of the level before, one slot each.
//! let plan = Arc::new(shapes::layered(6, 2, 7).validate().expect("a valid plan"));
//! let settings = RunSettings { max_concurrency: 2, ..RunSettings::default() };
//! let outcome = world::drive(&plan, settings, |_| Duration::from_secs(1));
//! assert_eq!(outcome.makespan, Duration::from_secs(3));
//! ```

pub mod shapes;
pub mod stg;
pub mod world;

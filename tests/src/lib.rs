//! The integration harness: real repositories, the built `orch`, and a scripted fake agent.
//!
//! - [`TestRepo`] makes a git repository in a temporary folder, isolated from the user's
//!   configuration, and can say byte for byte what its checkout holds ([`Checkout`]).
//! - [`Plan`] writes the text of a plan whose tasks run the fake agent.
//! - [`Orch`] calls the `orch` under test, either to its end ([`Outcome`]) or beside the test
//!   ([`RunningOrch`]), whose events can be awaited.
//! - [`Signal`] is a file on which an agent and a test wait for one another, so that no test needs
//!   to guess how long something takes.
//! - [`Chaos`] kills and stops supervisors, agents and orchestrators at random moments.
//! - [`fail_points`] are the places in `orch` where a test can have things go wrong.
//! - [`KillPoints`] kill an orchestrator at one of its calls of git.
//! - [`Trend`] says whether something grows.
//! - [`Campaign`] is what a long campaign tells of itself.
//! - [`report`] is the page that tells what campaigns did.
//! - [`planted`] are known mistakes, and what catches them.
//! - [`SmallDisk`] is soon full, and of a [`FragileDisk`] the power can be cut.
//! - [`EndState`] is what a run has come to, for the comparison of two.
//! - [`TestRepo::doctor`] and [`Witness`] are the oracle: what has to hold after every fault.
//! - [`agent`] is the inside of the `fake-agent` binary.
//!
//! A test reads like this:
//!
//! ```no_run
//! use orch_tests::{Plan, TestRepo};
//!
//! let repo = TestRepo::new();
//! let plan = Plan::new()
//!     .task("schema", |t| t.script("write schema.sql create; commit schema"))
//!     .task("login", |t| t.script("cat schema.sql; write login.rs fn; commit login").needs(["schema"]));
//! let outcome = repo.run(&plan);
//! outcome.assert_code(0);
//! assert_eq!(outcome.report().status_of("login"), "merged");
//! assert_eq!(repo.show("main", "login.rs"), "fn\n");
//! ```
//!
//! # Which `orch` is tested
//! The package of the harness does not depend on the package of the command, so cargo does not
//! build the one for the tests of the other. See [`binary`] for how the harness makes sure that a
//! current one is there, also on a fresh clone and under nextest.

pub mod agent;
pub mod binary;
mod chaos;
mod checkout;
mod disk;
mod end_state;
mod events;
pub mod fail_points;
mod kill_points;
mod oracle;
mod orch;
mod outcome;
mod plan;
pub mod planted;
mod repo;
pub mod report;
mod running;
mod setting;
mod signal;
mod supervisors;
mod trend;
mod wait;

pub use chaos::{Chaos, Faults};
pub use checkout::Checkout;
pub use disk::{FragileDisk, SmallDisk, in_own_namespace};
pub use end_state::EndState;
pub use events::{Interval, intervals, is_run, is_task};
pub use kill_points::{KillPoints, Moment, strike};
pub use oracle::Witness;
pub use orch::Orch;
pub use orch_faults::campaign::{Campaign, commit};
pub use outcome::{Outcome, Report};
pub use plan::{Plan, Task};
pub use repo::{RepoBuilder, TestRepo};
pub use running::RunningOrch;
pub use setting::{random, setting};
pub use signal::Signal;
pub use trend::Trend;
pub use wait::{DEADLINE, process_is_alive, process_is_stopped, until};

//! What the machine has left: looked at once a second, and told to the scheduler.

use std::{fmt::Debug, path::PathBuf, time::Duration};

use async_trait::async_trait;
use orch_model::resources::Contended;

#[cfg(feature = "process")]
mod system;

#[cfg(feature = "process")]
pub use system::SystemResources;

/// How often the machine is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a run waits for the first look before it begins without it: a network file system may
/// not answer.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Tells what the machine has left.
#[async_trait]
pub trait Resources: Debug + Send + Sync {
    /// Takes a look. May take as long as a file system takes to answer.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    async fn look(&self) -> Reading;
}

/// What one look found. What the system does not tell is not there.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Reading {
    /// The file system with the least space left.
    pub disk: Option<FreeSpace>,
    /// How much memory can be had without swapping, in bytes.
    pub memory: Option<u64>,
    /// How much processes had to wait for, in the order of [`Contended::ALL`].
    pub stalls: Vec<Stall>,
}

/// The space on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeSpace {
    /// A folder on it.
    pub path: PathBuf,
    /// How much is free for this user, in bytes.
    pub bytes: u64,
}

/// How much processes had to wait for one thing: the averages over ten seconds of the kernel's
/// *pressure stall information* (`Documentation/accounting/psi.rst`), in percent of the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// For what.
    pub of: Contended,
    /// The time in which some process had to wait.
    pub some: f32,
    /// The time in which all that were not idle had to wait, so that nothing got done.
    pub full: f32,
}

/// The look before a run begins.
pub(crate) async fn first_look(resources: &dyn Resources) -> Reading {
    tokio::time::timeout(FIRST_LOOK, resources.look()).await.unwrap_or_default()
}

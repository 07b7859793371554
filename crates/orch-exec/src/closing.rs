//! What is done when all tasks of a run have ended, before its results are delivered.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use orch_model::{RunId, ports::BoxError};

/// How long that may take. The results are delivered without it then.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// Is told when all tasks of a run have ended, before its results are delivered; it may add to them. Not
/// for a run that is interrupted, and again for one that is resumed after it was.
#[async_trait]
pub trait BeforeDelivery: Debug + Send + Sync {
    /// Does it. The journal holds all that happened to the tasks.
    ///
    /// # Errors
    /// Why it could not be done. The run ends as it would have, with a warning.
    ///
    /// # Cancel safety
    /// It is dropped where it takes longer than a minute.
    async fn before_delivery(&self, run: &RunId) -> Result<(), BoxError>;
}

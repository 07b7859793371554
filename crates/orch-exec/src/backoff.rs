//! How long to wait before an attempt is repeated.

use std::time::Duration;

use orch_model::{event::RunSettings, id::TaskId};

/// The pause before the attempt that follows the `failures`-th failure (from 1): it doubles from
/// failure to failure up to `backoff_max`, and half of it is left to chance, so that tasks that
/// failed together don't come back together ("equal jitter"; M. Brooker, *Exponential Backoff And
/// Jitter*, AWS Architecture Blog, 2015).
///
/// Chance is drawn from the run's seed, the task's id and the number, so that a run can be replayed.
#[must_use]
pub fn pause(settings: &RunSettings, task: &TaskId, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = settings.backoff.0.saturating_mul(1 << doublings).min(settings.backoff_max.0);
    let mut seed = settings.seed ^ u64::from(failures).rotate_left(32);
    for byte in task.as_str().bytes() {
        // FNV-1a: stable from release to release, unlike the standard library's hashers.
        seed = (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    full.mul_f64(0.5 + fastrand::Rng::with_seed(seed).f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use orch_model::Span;

    use super::*;

    #[test]
    fn it_doubles_is_bounded_and_can_be_replayed() {
        let settings = RunSettings {
            backoff: Span::from_secs(1),
            backoff_max: Span::from_secs(10),
            seed: 7,
            ..RunSettings::default()
        };
        let task = TaskId::new("a").unwrap();
        for failures in 1..40 {
            let full = (1u64 << (failures - 1).min(20)).min(10) as f64;
            let found = pause(&settings, &task, failures);
            assert!((full / 2.0..=full).contains(&found.as_secs_f64()), "{failures}: {found:?}");
            assert_eq!(found, pause(&settings, &task, failures));
        }
        let other = TaskId::new("b").unwrap();
        assert_ne!(pause(&settings, &task, 1), pause(&settings, &other, 1));
    }
}

//! What a campaign is told by variables of the environment.

use std::{env, fmt::Debug, str::FromStr};

/// A number that a variable gives.
///
/// # Panics
/// Where it gives something else.
#[must_use]
pub fn setting<T: FromStr<Err: Debug>>(name: &str, default: T) -> T {
    env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error:?}"))
    })
}

/// Random numbers from the seed that a variable gives, or a new one, which is printed: a failure is repeated with it.
///
/// # Panics
/// Where it gives no number.
#[must_use]
#[expect(clippy::print_stderr, reason = "the seed is what a failure is repeated with")]
pub fn random(name: &str) -> fastrand::Rng {
    let seed = setting(name, fastrand::u64(..));
    eprintln!("{name}={seed}");
    fastrand::Rng::with_seed(seed)
}

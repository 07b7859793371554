//! What there is without faults.

#[cfg(not(feature = "interleave"))]
use std::io::{self, Write};
use std::path::Path;

/// `out.write_all(bytes)`; with the feature `faults` between two fail points.
///
/// # Errors
/// Where that fails.
#[cfg(not(feature = "interleave"))]
#[inline(always)]
pub fn write_all(_name: &str, out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)
}

/// Whether this bug is planted: `false`; with the feature `faults`, whether `ORCH_PLANTED_BUG` names it.
#[must_use]
#[inline(always)]
pub const fn planted(_bug: &str) -> bool {
    false
}

/// Whether a file was not changed for a minute, for a planted bug; without the feature `faults` always `false`.
#[must_use]
#[inline(always)]
pub const fn is_old(_file: &Path) -> bool {
    false
}

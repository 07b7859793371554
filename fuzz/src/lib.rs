//! What is fuzzed: a plain function for each parser of bytes that are not ours, which takes any bytes
//! and panics where something does not hold that has to.
//!
//! `fuzz_targets/` gives them to libFuzzer (`cargo fuzz`, see `fuzz/run`), and the tests of this crate
//! run them over the corpus that is kept in `fuzz/corpus`, with the stable toolchain and without libFuzzer.
#![forbid(unsafe_code)]

pub mod claims;
mod damage;
mod input;
pub mod journal;
pub mod leases;
pub mod plan;
pub mod prompt;
pub mod redact;
mod replay;
pub mod state;
pub mod stream;
pub mod strip;
pub mod supervisor;

pub use replay::replay;

/// Makes the program of a target: for libFuzzer under `cargo fuzz`, else one that runs the files it is given.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $run(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::replay($run)
        }
    };
}

//! Inputs that were kept, run again.

use std::{path::Path, process::ExitCode};

/// Runs a target over the files that the arguments name, without libFuzzer: for a debugger, or the stable
/// toolchain. It panics as the target does.
#[must_use]
pub fn replay(run: fn(&[u8])) -> ExitCode {
    for path in std::env::args_os().skip(1) {
        let Ok(bytes) = std::fs::read(Path::new(&path)) else { return ExitCode::from(2) };
        run(&bytes);
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        panic::catch_unwind,
        path::{Path, PathBuf},
    };

    const FUZZ: &str = env!("CARGO_MANIFEST_DIR");

    fn names(dir: &Path) -> BTreeSet<String> {
        let entries =
            fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries.map(|entry| stem(entry.unwrap().path())).collect()
    }

    fn run_all(name: &str, run: fn(&[u8])) {
        let dir = Path::new(FUZZ).join("corpus").join(name);
        let files: Vec<PathBuf> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 10, "{} has {} files", dir.display(), files.len());
        let broken = files.iter().filter(|path| {
            let bytes = fs::read(path).unwrap();
            catch_unwind(|| run(&bytes)).is_err()
        });
        let broken: Vec<_> = broken.map(|path| path.display()).collect();
        assert!(broken.is_empty(), "{name} fails for {broken:#?}");
        // What every target takes.
        run(b"");
        run(&[0xff; 300]);
    }

    macro_rules! targets {
        ($($name:ident)*) => {
            $(#[test]
            fn $name() {
                run_all(stringify!($name), crate::$name::run);
            })*

            #[test]
            fn every_target_is_tested() {
                let tested: BTreeSet<String> = [$(stringify!($name).to_owned()),*].into();
                assert_eq!(names(&Path::new(FUZZ).join("fuzz_targets")), tested);
                assert_eq!(names(&Path::new(FUZZ).join("corpus")), tested);
            }
        };
    }

    targets!(claims journal leases plan prompt redact state stream strip supervisor);
}

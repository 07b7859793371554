//! Where the binaries under test are.
//!
//! `fake-agent` belongs to this package, so cargo builds it with the tests and puts it beside
//! them. `orch` belongs to another package; cargo has no stable way to ask for another package's
//! binary (artifact dependencies are unstable). So the first test of a run calls
//! `cargo build -p orch-cli --bin orch` with the profile and the target folder of the tests, which
//! does nothing where the binary is current. Other test processes of the same run (`cargo test`
//! starts one per file, nextest one per test) wait for it at a lock file and take the result over.
//!
//! `ORCH_BIN` names another binary to test: an installed one, for example. The one with fail points, `orch-faulty`,
//! is built in the same way, unless `ORCH_FAULTY_BIN` names it.

use std::{
    env, fs,
    fs::File,
    io::{Read, Seek, Write},
    os::unix::process::parent_id,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The fake agent.
///
/// # Panics
/// Where it isn't beside the tests.
#[must_use]
pub fn fake_agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| beside_the_tests("fake-agent"))
}

/// The program that kills an orchestrator.
///
/// # Panics
/// Where it isn't beside the tests.
#[must_use]
pub(crate) fn kill_point() -> PathBuf {
    beside_the_tests("kill-point")
}

fn beside_the_tests(name: &str) -> PathBuf {
    let path = profile_folder().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p orch-tests`, or the tests as a whole",
        path.display()
    );
    path
}

/// The `orch` under test, built if necessary.
///
/// # Panics
/// Where it can't be built.
#[must_use]
pub fn orch() -> &'static Path {
    static ORCH: OnceLock<PathBuf> = OnceLock::new();
    ORCH.get_or_init(|| match env::var_os("ORCH_BIN") {
        Some(path) => path.into(),
        None => built_once_per_test_run("orch", &[]),
    })
}

/// The `orch` with fail points and planted bugs, built if necessary.
///
/// # Panics
/// Where it can't be built.
#[must_use]
pub fn orch_faulty() -> &'static Path {
    static ORCH: OnceLock<PathBuf> = OnceLock::new();
    ORCH.get_or_init(|| match env::var_os("ORCH_FAULTY_BIN") {
        Some(path) => path.into(),
        None => built_once_per_test_run("orch-faulty", &["--features", "faults"]),
    })
}

/// The folder with the binaries of the profile: `target/debug`. Tests run from `deps` below it.
fn profile_folder() -> PathBuf {
    let mut folder = env::current_exe().expect("a test knows its own binary");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    folder
}

fn built_once_per_test_run(name: &str, features: &[&str]) -> PathBuf {
    let path = profile_folder().join(format!("{name}-for-tests.built"));
    let mut note = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("can't open {}: {error}", path.display()));
    note.lock().expect("the note of the last build can be locked");
    let mut text = String::new();
    note.read_to_string(&mut text).expect("the note of the last build can be read");
    let run = test_run();
    if let Some((of_run, binary)) = text.split_once('\n')
        && of_run == run
        && Path::new(binary).exists()
    {
        return binary.into();
    }
    let binary = build(name, features);
    let new = format!("{run}\n{}", binary.display());
    note.rewind()
        .and_then(|()| note.set_len(0))
        .and_then(|()| note.write_all(new.as_bytes()))
        .expect("the note of the last build can be written");
    binary
}

/// What all test processes of one call of `cargo test` or `cargo nextest run` have in common:
/// their parent. A process id is reused, so the time of its start belongs to it.
fn test_run() -> String {
    let parent = parent_id();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    let started =
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(19)).unwrap_or("unknown");
    format!("{parent} started at {started}")
}

fn build(name: &str, features: &[&str]) -> PathBuf {
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "orch-cli", "--bin", name, "--profile", profile])
        .args(features)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace)
        .stdin(Stdio::null());
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    let output = command.output().expect("cargo can be started");
    assert!(
        output.status.success(),
        "{name} can't be built:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary that it has built")
}

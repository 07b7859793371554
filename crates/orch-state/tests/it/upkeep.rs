//! Looking after a folder of runs.

use std::fs;

use orch_model::ports::{StateStore, StoreError};

use crate::common::{Workspace, events, run};

#[tokio::test]
async fn only_runs_that_have_ended_are_removed() {
    let workspace = Workspace::new();
    let store = &workspace.store;
    workspace.write("ended", &events("ended", 5)).await;
    workspace.write("stopped", &events("stopped", 6)[..5]).await;
    let live = store.create(&run("live")).await.unwrap();
    live.append(&events("live", 5)).await.unwrap();

    let error = store.remove(&run("live")).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    let error = store.remove(&run("stopped")).await.unwrap_err();
    assert!(error.to_string().contains("has not ended"), "{error}");
    let error = store.remove(&run("absent")).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchRun { .. }), "{error}");
    store.remove(&run("ended")).await.unwrap();
    assert_eq!(store.runs().unwrap(), [run("live"), run("stopped")]);
    assert!(!store.run_dir(&run("ended")).exists());
    assert_eq!(store.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn what_killed_writers_left_is_found_and_removed() {
    let workspace = Workspace::new();
    let store = &workspace.store;
    workspace.write("r1", &events("r1", 5)).await;
    let gone = store.dir().join("runs/.gone-r0");
    fs::create_dir(&gone).unwrap();
    fs::write(gone.join("journal"), "half").unwrap();
    let half = store.run_dir(&run("r1")).join(".orch-tmp-1");
    let top = store.dir().join(".orch-tmp-2");
    fs::write(&half, "").unwrap();
    fs::write(&top, "").unwrap();

    let journal = store.create(&run("live")).await.unwrap();
    let theirs = store.run_dir(&run("live")).join(".orch-tmp-3");
    fs::write(&theirs, "").unwrap();
    let mut found = store.leftovers().unwrap();
    found.sort();
    assert_eq!(found, [gone.clone(), half.clone()], "what a live run writes is its own");
    drop(journal);
    assert_eq!(store.leftovers().unwrap().len(), 4);
    store.remove_leftovers().unwrap();
    assert!(!gone.exists() && !half.exists() && !top.exists() && !theirs.exists());
    assert_eq!(workspace.read("r1").await.unwrap().len(), 5);
    assert_eq!(store.runs().unwrap(), [run("live"), run("r1")]);
}

//! Looking after a folder of runs.

use std::{fs, sync::Arc};

use orch_model::{
    ports::{StateStore, StoreError},
    run::RunState,
};

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

#[tokio::test]
async fn a_journal_that_lost_its_end_is_refused_and_left() {
    let workspace = Workspace::new();
    let store = &workspace.store;
    let all = events("r1", 5);
    let journal = store.create(&run("r1")).await.unwrap();
    journal.append(&all).await.unwrap();
    let state = RunState::replay(&all).unwrap().unwrap();
    // What is told is safe before it is told.
    journal.publish(Arc::new(state)).await.unwrap();
    assert_eq!(journal.sync().await.unwrap(), 5);
    drop(journal);
    drop(store.open(&run("r1")).await.unwrap());

    let path = store.run_dir(&run("r1")).join("journal");
    let whole = fs::read_to_string(&path).unwrap();
    let (head, _) = whole.trim_end().rsplit_once('\n').unwrap();
    for cut in [format!("{head}\n"), whole[..whole.len() - 1].to_owned()] {
        fs::write(&path, &cut).unwrap();
        let error = store.open(&run("r1")).await.unwrap_err();
        assert!(error.to_string().contains("its end was cut off"), "{error}");
        assert!(store.remove(&run("r1")).await.is_err());
        assert!(store.check_end(&run("r1"), 4).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), cut);
    }
    store.check_end(&run("r1"), 5).await.unwrap();
    store.check_end(&run("another"), 0).await.unwrap();
    // The way that the error names.
    fs::remove_file(store.published_path()).unwrap();
    drop(store.open(&run("r1")).await.unwrap());
}

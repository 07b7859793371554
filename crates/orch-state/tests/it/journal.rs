//! Journals on disk: what killed writers, bad disks and newer versions leave behind.

use std::sync::Arc;

use std::{fs, path::Path};

use crate::common::{Workspace, events, run};
use orch_model::{
    ports::{StateStore, StoreError},
    run::RunState,
    state::RunStatus,
};
use orch_state::{FileStore, JOURNAL_VERSION, STATE_VERSION};

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn looking_makes_no_file() {
    let workspace = Workspace::new();
    let store = &workspace.store;
    assert_eq!(store.list().await.unwrap(), []);
    assert_eq!(store.published().await.unwrap(), None);
    assert!(store.read(&run("r1"), 1).await.is_err());
    assert_eq!(store.current().await.unwrap(), None);
    assert!(store.open(&run("r1")).await.is_err());
    assert!(store.rebuild_state(&run("r1")).await.is_err());
    assert_eq!(files(workspace.root()), Vec::<String>::new());
}

#[tokio::test]
async fn a_run_makes_the_files_that_are_documented() {
    let workspace = Workspace::new();
    let journal = workspace.store.create(&run("r1")).await.unwrap();
    let events = events("r1", 5);
    journal.append(&events).await.unwrap();
    journal.publish(Arc::new(RunState::replay(&events).unwrap().unwrap())).await.unwrap();
    let dir = workspace.store.dir();
    assert_eq!(files(dir), [".gitignore", "current", "parallel-state.json", "runs"]);
    assert_eq!(fs::read_to_string(dir.join(".gitignore")).unwrap(), "*\n");
    assert_eq!(files(&workspace.store.run_dir(&run("r1"))), ["journal", "owner.lock"]);
    let text = fs::read_to_string(workspace.journal("r1")).unwrap();
    assert_eq!(text.lines().count(), 6, "a header and a line per event");
    assert!(text.starts_with(&format!("orch-journal {JOURNAL_VERSION} ")), "{text}");
}

#[tokio::test]
async fn a_torn_tail_is_passed_over_and_cut_off_at_any_byte() {
    let workspace = Workspace::new();
    let events = events("r1", 5);
    workspace.write("r1", &events).await;
    let path = workspace.journal("r1");
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for cut in last..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let read = workspace.read("r1").await.unwrap();
        assert_eq!(read, events[..4], "cut at {cut}");
        assert_eq!(fs::read(&path).unwrap(), whole[..cut], "a reader changes nothing");

        let journal = workspace.store.open(&run("r1")).await.unwrap();
        assert_eq!(workspace.read("r1").await.unwrap(), events[..4], "cut at {cut}");
        journal.append(&events[4..]).await.unwrap();
        drop(journal);
        assert_eq!(fs::read(&path).unwrap(), whole, "the chain goes on after a cut at {cut}");
    }
    // Each tail was kept, except the one that was empty.
    let dir = workspace.store.run_dir(&run("r1"));
    let torn = files(&dir).into_iter().filter(|name| name.starts_with("journal.torn-"));
    assert_eq!(torn.count(), whole.len() - last - 1);
    let kept = fs::read(dir.join("journal.torn-1")).unwrap();
    assert_eq!(kept, whole[last..=last]);
}

#[tokio::test]
async fn a_reader_goes_on_after_a_torn_tail_was_cut_off() {
    let workspace = Workspace::new();
    let events = events("r1", 5);
    workspace.write("r1", &events[..4]).await;
    let path = workspace.journal("r1");
    let mut torn = fs::read(&path).unwrap();
    torn.extend_from_slice(b"00000053 9f0b6a11 {\"seq\":5,");
    fs::write(&path, &torn).unwrap();
    let mut reader = workspace.store.read(&run("r1"), 3).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), events[2..4]);
    let journal = workspace.store.open(&run("r1")).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), []);
    journal.append(&events[4..]).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), events[4..]);
}

#[tokio::test]
async fn damage_before_the_tail_is_refused_and_left_as_it_is() {
    let workspace = Workspace::new();
    workspace.write("r1", &events("r1", 5)).await;
    workspace.write("r2", &events("r2", 5)).await;
    let path = workspace.journal("r1");
    let mut bytes = fs::read(&path).unwrap();
    let ends: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    bytes[ends[2] - 5] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let store = &workspace.store;
    let errors = [
        store.open(&run("r1")).await.map(|_| ()).unwrap_err(),
        workspace.read("r1").await.unwrap_err(),
        store.rebuild_state(&run("r1")).await.unwrap_err(),
    ];
    for error in errors {
        let StoreError::Damaged { path: named, offset, detail } = error else { panic!("{error}") };
        assert_eq!((named, offset as usize), (path.clone(), ends[1] + 1));
        assert!(detail.contains("does not match its checksum"), "{detail}");
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let listed = store.list().await.unwrap();
    assert_eq!(listed.len(), 1, "a damaged run hides no other");
    assert_eq!(listed[0].run, run("r2"));
    drop(store.open(&run("r2")).await.expect("a refused run stays not locked"));
}

#[tokio::test]
async fn events_that_can_t_follow_each_other_are_refused() {
    let workspace = Workspace::new();
    let mut events = events("r1", 5);
    events.swap(1, 2);
    (events[1].seq, events[2].seq) = (2, 3);
    // Blocked tasks can be skipped, and skipped ones can't be unblocked.
    workspace.write("r1", &events).await;
    let error = workspace.store.rebuild_state(&run("r1")).await.unwrap_err();
    assert!(matches!(&error, StoreError::Inconsistent { .. }), "{error}");
    assert_eq!(workspace.store.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_newer_version_is_refused_and_left_as_it_is() {
    let workspace = Workspace::new();
    workspace.write("r1", &events("r1", 5)).await;
    let path = workspace.journal("r1");
    let text = fs::read_to_string(&path).unwrap().replacen("journal 1 ", "journal 2 ", 1);
    fs::write(&path, &text).unwrap();
    for error in [
        workspace.store.open(&run("r1")).await.map(|_| ()).unwrap_err(),
        workspace.read("r1").await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(workspace.store.list().await.unwrap(), []);
}

#[tokio::test]
async fn the_published_state_can_be_rebuilt() {
    let workspace = Workspace::new();
    let events = events("r1", 5);
    let state = RunState::replay(&events).unwrap().unwrap();
    let store = &workspace.store;
    let journal = store.create(&run("r1")).await.unwrap();
    journal.append(&events).await.unwrap();
    journal.publish(Arc::new(state.clone())).await.unwrap();
    // An older state that comes late is dropped.
    journal.publish(Arc::new(RunState::begin(&events[0]).unwrap())).await.unwrap();
    let written = fs::read(store.published_path()).unwrap();
    let error = store.rebuild_state(&run("r1")).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { pid } if pid == std::process::id()), "{error}");
    drop(journal);

    fs::remove_file(store.published_path()).unwrap();
    assert_eq!(store.rebuild_state(&run("r1")).await.unwrap(), state);
    assert_eq!(fs::read(store.published_path()).unwrap(), written);
    let published = store.published().await.unwrap().unwrap();
    assert_eq!(published.version, STATE_VERSION);
    assert_eq!((published.run, published.status), (run("r1"), RunStatus::Failed));
    assert_eq!(published.seq, 5);

    fs::write(store.published_path(), "{\"version\": 99}").unwrap();
    assert!(matches!(store.published().await, Err(StoreError::Newer { found: 99, .. })));
    fs::remove_file(store.published_path()).unwrap();
    fs::create_dir(store.published_path()).unwrap();
    assert!(matches!(store.published().await, Err(StoreError::Io { .. })));
}

#[tokio::test]
async fn a_run_without_events_has_no_state() {
    let workspace = Workspace::new();
    drop(workspace.store.create(&run("r1")).await.unwrap());
    let error = workspace.store.rebuild_state(&run("r1")).await.unwrap_err();
    assert!(error.to_string().contains("no event yet"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_a_part_of_the_published_state() {
    let workspace = Workspace::new();
    let events = events("r1", 300);
    let journal = workspace.store.create(&run("r1")).await.unwrap();
    journal.append(&events).await.unwrap();
    let store = workspace.store.clone();
    let reader = tokio::spawn(async move {
        let mut last = 0;
        while last < 300 {
            if let Some(state) = store.published().await.expect("a whole file") {
                assert!(state.seq >= last, "{} after {last}", state.seq);
                last = state.seq;
            }
        }
    });
    let mut state = RunState::begin(&events[0]).unwrap();
    for event in &events[1..] {
        state.apply(event).unwrap();
        if event.seq % 6 == 0 {
            journal.publish(Arc::new(state.clone())).await.unwrap();
        }
    }
    reader.await.unwrap();
}

#[tokio::test]
async fn the_state_is_that_of_the_run_which_was_opened_last() {
    let workspace = Workspace::new();
    let store = &workspace.store;
    let state = |id| Arc::new(RunState::replay(&events(id, 5)).unwrap().unwrap());
    let shown = async || store.published().await.unwrap().unwrap().run;
    let first = store.create(&run("r1")).await.unwrap();
    first.publish(state("r1")).await.unwrap();
    let second = store.create(&run("r2")).await.unwrap();
    first.publish(state("r1")).await.unwrap();
    second.publish(state("r2")).await.unwrap();
    first.publish(state("r1")).await.unwrap();
    assert_eq!(shown().await, run("r2"));
    drop(first);
    let first = store.open(&run("r1")).await.unwrap();
    first.publish(state("r1")).await.unwrap();
    assert_eq!(shown().await, run("r1"));
}

#[tokio::test]
async fn leftovers_of_killed_writers_are_removed() {
    let workspace = Workspace::new();
    workspace.write("r1", &events("r1", 2)).await;
    let leftover = workspace.store.run_dir(&run("r1")).join(".orch-tmp-abc");
    fs::write(&leftover, "half").unwrap();
    drop(workspace.store.open(&run("r1")).await.unwrap());
    assert!(!leftover.exists());
}

#[tokio::test]
async fn an_unknown_run_is_answered_with_the_nearest() {
    let workspace = Workspace::new();
    workspace.write("build-2026", &events("build-2026", 2)).await;
    fs::create_dir(workspace.store.dir().join("runs/Not A Run")).unwrap();
    let error = workspace.read("biuld-2026").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no run biuld-2026 (did you mean build-2026?); `orch runs` lists them"
    );
    let error = workspace.store.read(&run("xyz"), 1).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no run xyz; `orch runs` lists them");
}

#[tokio::test]
async fn a_file_in_the_place_of_the_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".orch");
    fs::write(&file, "").unwrap();
    let error = FileStore::open(&file).unwrap_err();
    assert!(error.to_string().contains("opening the store"), "{error}");
    let error = FileStore::open(file.join("below")).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");

    let store = FileStore::open(dir.path().join("store")).unwrap();
    fs::create_dir_all(store.run_dir(&run("r1")).join("journal")).unwrap();
    let mut reader = store.read(&run("r1"), 1).await.unwrap();
    assert!(matches!(reader.next().await, Err(StoreError::Io { .. })));
    fs::remove_dir_all(store.dir().join("runs")).unwrap();
    fs::write(store.dir().join("runs"), "").unwrap();
    assert!(matches!(store.list().await, Err(StoreError::Io { .. })));
}

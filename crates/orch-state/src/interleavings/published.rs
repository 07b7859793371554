//! The state file beside the journal: it never tells more than the journal holds, and never less than it has told.

use std::{path::Path, sync::Arc};

use orch_faults::interleave::{Fate, explore, fork, process};
use orch_model::{
    ports::{RunJournal, StateStore, StoreError},
    run::RunState,
};

use super::{
    folder,
    journal::{event, events, run},
    wait, work,
};
use crate::{FileStore, sample};

/// A run that was begun by one who is gone.
fn begin(dir: &Path) {
    let dir = dir.to_owned();
    let made = process(Fate::Lives, move || {
        let store = FileStore::open(dir).unwrap();
        wait(async {
            let journal = store.create(&run()).await.unwrap();
            journal.append(&sample::events("r1")[..1]).await.unwrap();
        });
    });
    made.join().unwrap();
}

/// Goes on with the run, and publishes each of its states on another thread: a later one may come first.
async fn write(dir: &Path) {
    let store = FileStore::open(dir).unwrap();
    let journal: Arc<dyn RunJournal> = match store.open(&run()).await {
        Ok(journal) => Arc::from(journal),
        Err(StoreError::Busy { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let known = events(&store).await.unwrap();
    let mut state = RunState::replay(&known).unwrap().unwrap();
    let mut publishing = Vec::new();
    for seq in (state.seq + 1..).take(3) {
        let event = event(seq, "something");
        journal.append(std::slice::from_ref(&event)).await.unwrap();
        state.apply(&event).unwrap();
        let (journal, state) = (Arc::clone(&journal), Arc::new(state.clone()));
        publishing.push(fork(move || wait(journal.publish(state)).unwrap()));
    }
    for published in publishing {
        published.join();
    }
    let told = store.published().await.unwrap().unwrap().seq;
    assert_eq!(told, state.seq, "the last state is the one that stays");
}

#[test]
fn the_state_file_never_goes_back_and_never_ahead_of_the_journal() {
    explore("published states", 200, || {
        let folder = folder();
        begin(folder.path());
        let writers = [Fate::DiesWithin(120), Fate::DiesWithin(250)].map(|fate| {
            let dir = folder.path().to_owned();
            process(fate, move || wait(write(&dir)))
        });
        let reader = {
            let store = FileStore::open(folder.path()).unwrap();
            process(Fate::Lives, move || {
                let mut last = 0;
                for _ in 0..5 {
                    let told = wait(store.published()).unwrap().map_or(0, |state| state.seq);
                    assert!(told >= last, "{told} after {last}");
                    let there = wait(events(&store)).unwrap().len() as u64;
                    assert!(told <= there, "it tells of {told}, and {there} are there");
                    last = told;
                    work(4);
                }
            })
        };
        for writer in writers {
            writer.join();
        }
        reader.join();
        let dir = folder.path().to_owned();
        process(Fate::Lives, move || wait(write(&dir))).join().unwrap();
    });
}

use std::{
    collections::BTreeSet,
    fs::{self, File},
    sync::{Arc, Mutex},
};

use super::*;

fn file(name: &str, text: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("orch-interleave-{name}-{}", std::process::id()));
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn all_orders_of_steps_are_met() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let outcomes = Arc::clone(&seen);
    let exploration = explore("a lost update", 100, move || {
        let path = file("update", "0");
        let add = |path: std::path::PathBuf| {
            step("read").unwrap();
            let number: u32 = fs::read_to_string(&path).unwrap().parse().unwrap();
            step("write").unwrap();
            fs::write(&path, (number + 1).to_string()).unwrap();
        };
        let both = [path.clone(), path.clone()].map(|path| process(Fate::Lives, move || add(path)));
        assert!(both.into_iter().all(|one| one.join().is_some()));
        outcomes.lock().unwrap().insert(fs::read_to_string(&path).unwrap());
        fs::remove_file(path).unwrap();
    });
    assert_eq!((exploration.schedules, exploration.kills), (100, 0));
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from(["1".into(), "2".into()]));
}

/// Writes once more on its way out.
struct LastWish(std::path::PathBuf);

impl Drop for LastWish {
    fn drop(&mut self) {
        let written = crate::write_all(
            "wish",
            &mut fs::OpenOptions::new().append(true).open(&self.0).unwrap(),
            b"!",
        );
        assert!(written.is_err(), "the dead write");
    }
}

#[test]
fn who_is_killed_does_nothing_more_and_holds_nothing() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let outcomes = Arc::clone(&seen);
    let exploration = explore("a kill", 100, move || {
        let path = file("kill", "");
        let victim = {
            let path = path.clone();
            process(Fate::DiesWithin(4), move || {
                let held = File::options().append(true).open(&path).unwrap();
                held.try_lock().unwrap();
                let wish = LastWish(path);
                crate::write_all("write", &mut &held, b"ab").unwrap();
                step("idle").unwrap();
                std::mem::forget(wish);
            })
        };
        let pid = victim.pid();
        let beside = process(Fate::Lives, || step("beside").unwrap());
        let ended = victim.join();
        beside.join().unwrap();
        assert_eq!((is_dead(pid), is_dead(pid + 2)), (Some(true), None));
        assert!(File::open(&path).unwrap().try_lock().is_ok(), "it is unlocked");
        outcomes.lock().unwrap().insert((ended.is_some(), fs::read_to_string(&path).unwrap()));
        fs::remove_file(path).unwrap();
    });
    let due = [(false, ""), (false, "a"), (false, "ab")];
    assert_eq!(*seen.lock().unwrap(), due.map(|(lives, text)| (lives, text.to_owned())).into());
    assert_eq!(exploration.kills, 100);
}

#[test]
#[should_panic(expected = "deadlock")]
fn who_waits_for_nobody_is_found() {
    explore("a deadlock", 2, || {
        process(Fate::Lives, || shuttle::future::block_on(std::future::pending::<()>())).join();
    });
}

#[test]
fn outside_of_schedules_all_is_plain() {
    assert_eq!((own_pid(), is_dead(1), pause(), is_on()), (None, None, None, false));
    step("nothing").unwrap();
    assert!(lock(&Mutex::new(())).is_none());
}

//! Rules of what the machine has left.

use orch_model::{ByteSize, EventKind, event::RunSettings, resources::Contended};

use super::{Drive, slots};
use crate::{
    internal::Input,
    resources::{FreeSpace, Reading, Stall},
};

const GIB: u64 = 1 << 30;

fn free(disk: u64, memory: u64) -> Input {
    let disk = Some(FreeSpace { path: "/data".into(), bytes: disk });
    Input::Resources(Reading { disk, memory: Some(memory), ..Reading::default() })
}

fn waiting(of: Contended, some: f32, full: f32) -> Input {
    Input::Resources(Reading { stalls: vec![Stall { of, some, full }], ..Reading::default() })
}

fn memory(some: f32) -> Input {
    waiting(Contended::Memory, some, 0.0)
}

/// What was told of the machine, and what changed because of it.
fn told(drive: &Drive) -> Vec<String> {
    let of = |kind: &EventKind| match kind {
        EventKind::StartsHeld { shortage } => Some(format!("held: {shortage}")),
        EventKind::StartsResumed => Some("resumed".into()),
        EventKind::ConcurrencyChanged { limit, reason } => Some(format!("{limit}: {reason}")),
        _ => None,
    };
    drive.events.iter().filter_map(|event| of(&event.kind)).collect()
}

#[test]
fn below_a_floor_nothing_is_started_and_what_runs_goes_on() {
    let (mut drive, first) = Drive::begin("a\nb\nc", slots(2));
    assert_eq!(first, "a b");
    assert_eq!(drive.tell(free(GIB - 1, 8 * GIB)), "");
    assert_eq!(drive.succeed("a"), "", "c would fit");
    assert_eq!(
        drive.why("c"),
        "disk space: 1023 MiB is free at /data, 1.1 GiB is wanted (`min_free_disk`)"
    );
    drive.tell(free(GIB / 2, 8 * GIB));
    assert!(drive.why("c").contains("512 MiB is free"), "{}", drive.why("c"));
    assert_eq!(drive.tell(free(GIB, 8 * GIB)), "", "an eighth more is wanted");
    assert_eq!(drive.tell(free(GIB + GIB / 8, 8 * GIB)), "c");
    assert_eq!(drive.tell(free(GIB, 8 * GIB)), "", "the floor itself is enough");
    let held = "held: disk space: 1023 MiB is free at /data, 1.1 GiB is wanted (`min_free_disk`)";
    assert_eq!(told(&drive), [held, "resumed"], "it is told once");
}

#[test]
fn one_shortage_may_follow_another_and_nothing_has_to_run() {
    let (mut drive, first) = Drive::begin("a <b\nb =1s", slots(1));
    assert_eq!(first, "b");
    drive.tell(free(0, 0));
    assert_eq!(drive.succeed("b"), "");
    assert_eq!(drive.tell(free(9 * GIB, 100 << 20)), "");
    assert_eq!(
        drive.why("a"),
        "memory: 100 MiB is available, 288 MiB is wanted (`min_free_memory`)"
    );
    assert_eq!(drive.tell(Input::Pause { freeze: false }), "");
    assert!(drive.why("a").contains("the run is paused"));
    assert_eq!(drive.tell(Input::Resume), "");
    assert_eq!(drive.tell(Input::Resources(Reading::default())), "a", "nothing is known");
    assert_eq!(told(&drive).len(), 3);
    assert!(drive.succeed("a").ends_with("end"));
}

#[test]
fn a_floor_of_nothing_is_never_reached() {
    let zero = ByteSize(0);
    let settings = RunSettings { min_free_disk: zero, min_free_memory: zero, ..slots(1) };
    let (mut drive, _) = Drive::begin("a\nb", settings);
    drive.tell(free(0, 0));
    assert_eq!(drive.succeed("a"), "b");
}

#[test]
fn pressure_lowers_how_many_run_down_to_one_and_calm_raises_it_again() {
    let plan: String = (0..120).map(|n| format!("t{n}\n")).collect();
    let (mut drive, first) = Drive::begin(&plan, slots(8));
    assert_eq!(first.split(' ').count(), 8);
    let mut running: Vec<String> = first.split(' ').map(str::to_owned).collect();
    let mut seconds = 0..;
    // A second with this much of the time spent waiting, in which `ended` of those that run end.
    let mut second = |drive: &mut Drive, some: f32, ended: usize| {
        let mut started = drive.tell_at(seconds.next().unwrap() * 1000, memory(some));
        for task in running.drain(..ended).collect::<Vec<_>>() {
            started.push(' ');
            started.push_str(&drive.succeed(&task));
        }
        running.extend(started.split_whitespace().map(str::to_owned));
        running.len()
    };
    for _ in 0..30 {
        assert_eq!(second(&mut drive, 34.2, 0), 8, "what runs goes on");
    }
    let why = "processes wait for memory 34 % of the time";
    assert_eq!(told(&drive), [format!("4: {why}")], "not again before it is in force");
    assert_eq!(second(&mut drive, 34.2, 4), 4);
    second(&mut drive, 34.2, 0);
    assert_eq!(told(&drive).last(), Some(&format!("2: {why}")));
    assert_eq!(second(&mut drive, 34.2, 2), 2);
    for _ in 0..9 {
        second(&mut drive, 34.2, 0);
    }
    assert_eq!(told(&drive).last(), Some(&format!("1: {why}")), "after the averages' window");
    assert_eq!(second(&mut drive, 34.2, 1), 1);
    for _ in 0..60 {
        assert_eq!(second(&mut drive, 99.0, 0), 1, "one alone is never too many");
        assert_eq!(second(&mut drive, 10.0, 0), 1, "in between nothing changes");
        assert_eq!(second(&mut drive, 10.0, 1), 1, "nor where agents succeed");
    }
    assert_eq!(told(&drive).len(), 3);
    let running: Vec<usize> = (0..80).map(|_| second(&mut drive, 1.0, 0)).collect();
    assert!(running.is_sorted() && running[10] <= 2, "one by one: {running:?}");
    assert_eq!(running.last(), Some(&8));
    assert_eq!(told(&drive).len(), 3 + 7);
    assert_eq!(drive.scheduler.state().concurrency, None);
}

#[test]
fn what_is_as_it_should_be_lowers_nothing() {
    let (mut drive, _) = Drive::begin("a\nb\nc\nd", slots(4));
    drive.tell(waiting(Contended::Cpu, 100.0, 0.0));
    drive.tell(waiting(Contended::Io, 100.0, 49.0));
    drive.tell(memory(19.0));
    drive.tell(Input::Resources(Reading::default()));
    assert!(told(&drive).is_empty(), "{:?}", told(&drive));
    drive.tell(waiting(Contended::Io, 100.0, 50.0));
    assert_eq!(told(&drive), ["2: processes wait for io 50 % of the time"]);

    let settings = RunSettings { pressure: vec![Contended::Cpu], ..slots(4) };
    let (mut drive, _) = Drive::begin("a\nb\nc\nd", settings);
    drive.tell(memory(100.0));
    drive.tell(free(9 * GIB, 300 << 20));
    drive.tell(waiting(Contended::Cpu, 81.0, 0.0));
    assert_eq!(told(&drive), ["2: processes wait for cpu 81 % of the time"]);
}

#[test]
fn scarce_memory_is_pressure_before_it_is_a_shortage() {
    let (mut drive, _) = Drive::begin("a\nb\nc\nd", slots(4));
    drive.tell(free(9 * GIB, 511 << 20));
    assert_eq!(told(&drive), ["2: only 511 MiB of memory is available"]);
}

//! Looking at the events of a run.

use std::collections::BTreeMap;

use serde_json::Value;

/// Whether an event says that this happened to this task.
#[must_use]
pub fn is_task(event: &Value, task: &str, change: &str) -> bool {
    event["event"] == "task" && event["task"] == task && event["change"] == change
}

/// Whether an event says that this happened to the run: `run_paused`, `run_ended`.
#[must_use]
pub fn is_run(event: &Value, name: &str) -> bool {
    event["event"] == name
}

/// From when to when an attempt held its slot and its locks, in numbers of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The number of the event with which it began.
    pub from: u64,
    /// The number of the event with which it ended.
    pub to: u64,
}

impl Interval {
    /// Whether both were under way at some moment.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }

    /// The largest number of intervals that were under way at some moment.
    #[must_use]
    pub fn depth<'i>(intervals: impl IntoIterator<Item = &'i Self>) -> usize {
        let all: Vec<&Self> = intervals.into_iter().collect();
        let at = |seq| all.iter().filter(|i| i.from <= seq && seq < i.to).count();
        all.iter().map(|interval| at(interval.from)).max().unwrap_or(0)
    }
}

/// The intervals of all tasks, by task: from `leased` to the end of each attempt.
///
/// # Panics
/// Where an attempt ends that has not begun.
#[must_use]
pub fn intervals(events: &[Value]) -> BTreeMap<String, Vec<Interval>> {
    let mut all: BTreeMap<String, Vec<Interval>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["event"] == "task") {
        let seq = event["seq"].as_u64().expect("an event has a number");
        let of_task = all.entry(event["task"].as_str().unwrap_or_default().into()).or_default();
        match event["change"].as_str().unwrap_or_default() {
            "leased" => of_task.push(Interval { from: seq, to: u64::MAX }),
            "merged" | "conflicted" | "retry" | "failed" | "cancelled" | "lost" => {
                // A task that never held anything can be cancelled as well.
                if let Some(interval) = of_task.last_mut().filter(|i| i.to == u64::MAX) {
                    interval.to = seq;
                }
            }
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn intervals_are_read_off_the_events() {
        let event = |seq: u64, task: &str, change: &str| json!({"seq": seq, "event": "task", "task": task, "change": change});
        let events = [
            event(2, "a", "leased"),
            event(3, "b", "leased"),
            event(4, "a", "retry"),
            event(5, "a", "leased"),
            event(6, "b", "merged"),
            event(7, "a", "failed"),
            event(8, "c", "skipped"),
        ];
        let all = intervals(&events);
        assert_eq!(all["a"], [Interval { from: 2, to: 4 }, Interval { from: 5, to: 7 }]);
        assert_eq!(all["b"], [Interval { from: 3, to: 6 }]);
        assert!(all["a"][0].overlaps(all["b"][0]));
        assert!(!all["a"][0].overlaps(all["a"][1]));
        assert_eq!(Interval::depth(all.values().flatten()), 2);
    }
}

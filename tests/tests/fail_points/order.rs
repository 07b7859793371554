//! What has to be synced before what: seen from the order in which a run passed its fail points. A power cut that
//! would show it can't be made here.

use std::collections::BTreeMap;

use orch_tests::fail_points::Passed;

/// Asserts that each file was synced before it took its place, and its folder after that, and that the work of
/// tasks was synced, of which so many were `merged`.
pub(crate) fn assert_durable(passed: &[Passed], merged: usize) {
    let mut threads: BTreeMap<(u32, u32), Vec<&str>> = BTreeMap::new();
    for Passed { pid, thread, point } in passed {
        threads.entry((*pid, *thread)).or_default().push(point);
    }
    for points in threads.values() {
        for (at, point) in points.iter().enumerate() {
            let Some((deed, file)) = point.split_once('(') else { continue };
            match deed {
                "disk::replace" | "disk::create" if file.ends_with(".before") => {
                    let synced = format!("disk::sync({}", file.replace(".before", ".after"));
                    let before = at.checked_sub(1).map(|before| points[before]);
                    assert_eq!(before, Some(&*synced), "{point} comes after that\n{points:#?}");
                }
                "disk::replace" | "disk::create" => {
                    let after = points.get(at + 1).copied();
                    let synced = Some("disk::folder.sync.before");
                    assert_eq!(after, synced, "{point} comes before that\n{points:#?}");
                }
                _ => {}
            }
        }
    }
    let synced = passed.iter().filter(|passed| passed.point == "durable::objects.sync.after");
    assert!(synced.count() >= merged, "work was merged and not synced: {passed:#?}");
}

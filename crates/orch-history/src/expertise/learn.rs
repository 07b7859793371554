//! Lessons are added to what is known: once each, in an order of their own, within a limit.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Effective, Expertise, ExpertiseError, Learned, Seen,
    clean::normal,
    lessons::{Lesson, Lessons},
};

/// How many lines a file may have for the engine to add to it.
pub const LINES: usize = 1_000;

/// How many sessions an entry names.
const NAMED: usize = 20;

impl Expertise {
    /// Adds lessons. One that is known (its texts differ only in numbers, hashes, paths and case) is counted
    /// once for each session, and gets the solution that it lacked; its words stay as they are. What is new
    /// follows in the order of its texts.
    ///
    /// Where the file has more than [`LINES`] lines then, entries of the engine are taken out until it has no
    /// more: those that were seen in the fewest sessions, of these the ones that were last seen longest ago.
    /// What people wrote stays, whatever its length.
    ///
    /// To add the same lessons again changes nothing. Whether something changed.
    ///
    /// # Errors
    /// Where the result can't be written.
    pub fn learn(&mut self, lessons: &Lessons) -> Result<bool, ExpertiseError> {
        let before = self.clone();
        let mut by_text: BTreeMap<(String, String), Vec<&Lesson>> = BTreeMap::new();
        for lesson in &lessons.learned {
            by_text.entry(key(&lesson.issue, &lesson.error)).or_default().push(lesson);
        }
        // Of those that are alike, the first.
        let mut known: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (at, entry) in self.learned_from_failures.iter().enumerate() {
            known.entry(key(&entry.issue, &entry.error)).or_insert(at);
        }
        for (key, mut found) in by_text {
            // The words are those of the first, whoever brings them.
            found.sort_by_key(|lesson| {
                (&lesson.session, &lesson.issue, &lesson.error, &lesson.solution)
            });
            let at = known.get(&key).copied().unwrap_or_else(|| {
                self.learned_from_failures.push(Learned {
                    issue: found[0].issue.clone(),
                    error: found[0].error.clone(),
                    solution: String::new(),
                    seen: Seen::default(),
                    more: BTreeMap::new(),
                });
                self.learned_from_failures.len() - 1
            });
            let entry = &mut self.learned_from_failures[at];
            for lesson in found {
                entry.seen.add(&lesson.session);
                if entry.solution.is_empty() {
                    entry.solution.clone_from(&lesson.solution);
                }
            }
        }
        let mut worked: Vec<_> = lessons.effective.iter().collect();
        worked.sort();
        for (pattern, session) in worked {
            let key = normal(pattern);
            let known = self.effective_patterns.iter().position(|e| normal(&e.pattern) == key);
            let at = known.unwrap_or_else(|| {
                self.effective_patterns.push(Effective {
                    pattern: pattern.clone(),
                    seen: Seen::default(),
                    more: BTreeMap::new(),
                });
                self.effective_patterns.len() - 1
            });
            self.effective_patterns[at].seen.add(session);
        }
        self.prune()?;
        Ok(*self != before)
    }

    /// Takes entries of the engine out until the file is short enough.
    fn prune(&mut self) -> Result<(), ExpertiseError> {
        loop {
            let lines = lines(self)?;
            let Some(mut excess) = lines.checked_sub(LINES).filter(|excess| *excess > 0) else {
                return Ok(());
            };
            let learned =
                self.learned_from_failures.iter().enumerate().filter_map(|(at, entry)| {
                    let texts = (entry.issue.as_str(), entry.error.as_str());
                    Some(((entry.seen.count, entry.seen.last()?, texts), true, at, lines_of(entry)))
                });
            let effective = self.effective_patterns.iter().enumerate().filter_map(|(at, entry)| {
                let texts = (entry.pattern.as_str(), "");
                Some(((entry.seen.count, entry.seen.last()?, texts), false, at, lines_of(entry)))
            });
            let mut own: Vec<_> = learned.chain(effective).collect();
            // By nothing that depends on the order in which they came.
            own.sort_unstable();
            let mut gone = BTreeSet::new();
            for (_, is_learned, at, lines) in own {
                if excess == 0 {
                    break;
                }
                gone.insert((is_learned, at));
                excess = excess.saturating_sub(lines);
            }
            if gone.is_empty() {
                return Ok(());
            }
            let mut at = 0..;
            self.learned_from_failures
                .retain(|_| at.next().is_none_or(|at| !gone.contains(&(true, at))));
            let mut at = 0..;
            self.effective_patterns
                .retain(|_| at.next().is_none_or(|at| !gone.contains(&(false, at))));
        }
    }
}

fn lines(expertise: &Expertise) -> Result<usize, ExpertiseError> {
    Ok(expertise.write(true)?.lines().count())
}

/// How many lines go with an entry, at least one.
fn lines_of(entry: &impl serde::Serialize) -> usize {
    serde_saphyr::to_string(entry).map_or(1, |text| text.lines().count().max(1))
}

fn key(issue: &str, error: &str) -> (String, String) {
    (normal(issue), normal(error))
}

impl Seen {
    /// Counts a session, once. Names of runs begin with their day, so the newest come last.
    fn add(&mut self, session: &str) {
        // Of those that are not named any more it can't be told whether they were counted.
        let is_old = self.sessions.len() >= NAMED
            && self.sessions.first().is_some_and(|oldest| session < oldest.as_str());
        if is_old || !self.sessions.insert(session.to_owned()) {
            return;
        }
        self.count = self.count.saturating_add(1);
        if self.sessions.len() > NAMED {
            self.sessions.pop_first();
        }
    }

    /// The last one; `None`: a person wrote the entry.
    pub(super) fn last(&self) -> Option<&str> {
        self.sessions.last().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lesson(issue: &str, error: &str, solution: &str, session: &str) -> Lesson {
        let [issue, error, solution, session] =
            [issue, error, solution, session].map(str::to_owned);
        Lesson { issue, error, solution, session }
    }

    fn learned(lessons: Vec<Lesson>) -> Lessons {
        Lessons { learned: lessons, effective: Vec::new() }
    }

    #[test]
    fn a_lesson_is_kept_once_and_counted_by_session() {
        let mut known = Expertise::default();
        let first = lesson("`cargo test` failed", "error at a/b.rs:3", "", "20261101-x/a.1");
        let again = lesson("`cargo test` failed", "error at c/d.rs:99", "run it", "20261102-y/b.1");
        assert!(known.learn(&learned(vec![again.clone(), first.clone()])).unwrap());
        assert!(!known.learn(&learned(vec![first, again])).unwrap(), "nothing is new");
        let [entry] = &known.learned_from_failures[..] else { panic!("{known:#?}") };
        assert_eq!((entry.seen.count, entry.seen.sessions.len()), (2, 2));
        assert_eq!(
            (entry.error.as_str(), entry.solution.as_str()),
            ("error at a/b.rs:3", "run it")
        );
    }

    #[test]
    fn words_of_people_stay() {
        let text = "learned_from_failures:\n- issue: It FAILED\n  solution: ours\n  ticket: 7\n";
        let mut known = Expertise::parse(text, "").unwrap();
        known.learn(&learned(vec![lesson("it failed", "", "theirs", "20261101-x/a.1")])).unwrap();
        let [entry] = &known.learned_from_failures[..] else { panic!("{known:#?}") };
        assert_eq!((entry.issue.as_str(), entry.solution.as_str()), ("It FAILED", "ours"));
        assert_eq!((entry.seen.count, &entry.more["ticket"]), (1, &7.into()));
    }

    #[test]
    fn the_least_useful_go_first_and_what_people_wrote_stays() {
        let words = |n: usize| -> String {
            // No digits: they are all alike.
            [n / 676, n / 26 % 26, n % 26].map(|n| char::from(b'a' + n as u8)).iter().collect()
        };
        let overview: String = (0..500).map(|_| "a line\n").collect();
        let mut known = Expertise { overview, ..Expertise::default() };
        let mut many: Vec<Lesson> = (0..400)
            .map(|n| lesson(&words(n), "e", "s", &format!("20261101-x/a.{}", n + 1000)))
            .collect();
        many.push(lesson("often", "e", "s", "20261001-x/a.1"));
        many.push(lesson("often", "e", "s", "20261001-x/a.2"));
        let many = learned(many);
        assert!(known.learn(&many).unwrap());
        let lines = known.to_text().unwrap().lines().count();
        assert!((LINES - 30..=LINES).contains(&lines), "{lines}");
        let has = |issue: &str| known.learned_from_failures.iter().any(|e| e.issue == issue);
        assert!(has("often") && has(&words(399)) && !has(&words(0)));
        let long: String = (0..2000).map(|_| "a line\n").collect();
        let mut known = Expertise { overview: long.clone(), ..Expertise::default() };
        known.learn(&many).unwrap();
        assert_eq!((known.overview, known.learned_from_failures), (long, Vec::new()));
    }

    fn some_lessons() -> impl Strategy<Value = Lessons> {
        let lesson = ("[ab]{1,2} [0-9]{1,3}", "[xy/]{0,3}", "[a-b]{0,2}", 0u32..60).prop_map(
            |(issue, error, solution, n)| {
                lesson(&issue, &error, &solution, &format!("2026110{}-r/t.{n}", n % 9))
            },
        );
        let worked = ("[p-r]{1,2}", 0u32..60).prop_map(|(p, n)| (p, format!("20261101-r/t.{n}")));
        (prop::collection::vec(lesson, 0..80), prop::collection::vec(worked, 0..20)).prop_map(
            |(learned, effective)| Lessons { learned, effective: effective.into_iter().collect() },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn to_learn_twice_is_to_learn_once_in_any_order(lessons in some_lessons()) {
            let mut known = Expertise::default();
            known.learn(&lessons).unwrap();
            let once = known.clone();
            known.learn(&lessons).unwrap();
            prop_assert_eq!(&known, &once);
            let mut turned = lessons.clone();
            turned.learned.reverse();
            turned.effective.reverse();
            let mut other = Expertise::default();
            other.learn(&turned).unwrap();
            prop_assert_eq!(other.to_text().unwrap(), once.to_text().unwrap());
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn it_never_grows_beyond_its_limit(number in 0usize..900) {
            let learned = (0..number).map(|n| {
                let issue: String = format!("{n:o}").bytes().map(|b| char::from(b - b'0' + b'a')).collect();
                lesson(&issue, "e", "s", &format!("20261101-r/t.{}", n % 50))
            });
            let lessons = Lessons { learned: learned.collect(), effective: Vec::new() };
            let mut known = Expertise::default();
            known.learn(&lessons).unwrap();
            prop_assert!(known.to_text().unwrap().lines().count() <= LINES);
            let once = known.clone();
            prop_assert!(!known.learn(&lessons).unwrap(), "what was taken out stays out");
            prop_assert_eq!(known, once);
        }
    }
}

//! Whether the kernel killed an agent because memory was short.
//!
//! Nothing of a process tells who sent the signal that ended it. But the kernel counts how many
//! processes it killed for want of memory, those of a full control group included (`oom_kill` of
//! `/proc/vmstat`, since Linux 4.13). Where that number has grown while an agent ran that ended by
//! SIGKILL, which nothing of ours had sent, it is taken to be among them.

use std::{fs, str};

use orch_model::outcome::{ExitStatus, Failure};

/// How often the kernel has killed for want of memory since the machine was started.
#[derive(Debug, Clone, Copy)]
pub(super) struct OomKills(Option<u64>);

impl OomKills {
    /// The number at this moment; unknown where the system does not tell.
    pub(super) fn now() -> Self {
        Self(fs::read("/proc/vmstat").ok().and_then(|text| count(&text)))
    }

    /// What that makes of an exit, if the kernel has killed again since.
    pub(super) fn explain(self, exit: ExitStatus) -> Option<Failure> {
        // A shell tells of its child that SIGKILL ended by 128 + 9.
        if !matches!(exit, ExitStatus::Signal(9) | ExitStatus::Code(137)) {
            return None;
        }
        self.explain_at(Self::now())
    }

    fn explain_at(self, now: Self) -> Option<Failure> {
        (now.0? > self.0?).then(|| Failure::ResourceShortage {
            message: "memory; the kernel killed a process while the agent ran, and it was killed"
                .into(),
        })
    }
}

fn count(vmstat: &[u8]) -> Option<u64> {
    let line = vmstat.split(|byte| *byte == b'\n').find_map(|l| l.strip_prefix(b"oom_kill "))?;
    str::from_utf8(line).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_among_others() {
        let text = b"oom_killer_old 7\npgfault 5\noom_kill 12\nnuma_hit 1\n";
        assert_eq!(count(text), Some(12));
        assert_eq!(count(b"pgfault 5\n"), None);
    }

    #[test]
    fn only_a_number_that_grew_explains_an_end() {
        let before = OomKills(Some(3));
        let explained = before.explain_at(OomKills(Some(4)));
        assert_eq!(explained.map(|failure| failure.class()), Some("resource_shortage"));
        assert_eq!(before.explain_at(OomKills(Some(3))), None);
        assert_eq!(OomKills(None).explain_at(OomKills(Some(4))), None);
        assert_eq!(OomKills(Some(0)).explain(ExitStatus::Code(1)), None);
    }
}

//! What shows of an agent's output without reading it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Brought up to date by who takes the output, looked at by who watches the agent.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    bytes: AtomicU64,
    open_line: AtomicBool,
}

impl Activity {
    pub(crate) fn note(&self, bytes: &[u8]) {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Some(last) = bytes.last() {
            self.open_line.store(!matches!(last, b'\n' | b'\r'), Ordering::Relaxed);
        }
    }

    /// How much it has printed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether its last line has no end yet, like that of a question.
    pub(crate) fn is_line_open(&self) -> bool {
        self.open_line.load(Ordering::Relaxed)
    }
}

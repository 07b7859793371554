//! What a machine may be short of.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::size::ByteSize;

/// What there is too little of for more tasks to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "resource", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shortage {
    /// Space on a file system.
    Disk {
        /// A folder on it.
        path: PathBuf,
        /// How much is free, in bytes.
        free_bytes: u64,
        /// How much must be free for tasks to be started again, in bytes.
        wanted_bytes: u64,
    },
    /// Memory.
    Memory {
        /// How much can be had without swapping, in bytes.
        free_bytes: u64,
        /// How much there must be for tasks to be started again, in bytes.
        wanted_bytes: u64,
    },
}

/// One clause, for people.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: &u64| ByteSize(*bytes).rounded();
        match self {
            Self::Disk { path, free_bytes, wanted_bytes } => write!(
                f,
                "disk space: {} is free at {}, {} is wanted (`min_free_disk`)",
                size(free_bytes),
                path.display(),
                size(wanted_bytes)
            ),
            Self::Memory { free_bytes, wanted_bytes } => write!(
                f,
                "memory: {} is available, {} is wanted (`min_free_memory`)",
                size(free_bytes),
                size(wanted_bytes)
            ),
        }
    }
}

/// What processes may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Contended {
    /// A processor.
    Cpu,
    /// Memory.
    Memory,
    /// A disk.
    Io,
}

impl Contended {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Io];

    /// Its name, as settings and the kernel's `/proc/pressure` write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

impl fmt::Display for Contended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Contended {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|contended| contended.name() == text)
            .ok_or_else(|| format!("`{text}` is not one of cpu, memory, io"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_names_the_place_the_amounts_and_the_setting() {
        let shortage =
            Shortage::Disk { path: "/data".into(), free_bytes: 300 << 20, wanted_bytes: 9 << 27 };
        assert_eq!(
            shortage.to_string(),
            "disk space: 300 MiB is free at /data, 1.1 GiB is wanted (`min_free_disk`)"
        );
        let text = serde_json::to_string(&shortage).unwrap();
        assert_eq!(
            text,
            r#"{"resource":"disk","path":"/data","free_bytes":314572800,"wanted_bytes":1207959552}"#
        );
        assert_eq!(serde_json::from_str::<Shortage>(&text).unwrap(), shortage);
    }

    #[test]
    fn names_are_read_and_written() {
        for contended in Contended::ALL {
            assert_eq!(contended.to_string().parse(), Ok(contended));
            assert_eq!(serde_json::to_value(contended).unwrap(), contended.name());
        }
        assert!("disk".parse::<Contended>().unwrap_err().contains("cpu, memory, io"));
    }
}

//! What Linux tells of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use orch_model::resources::Contended;
use rustix::fs::statvfs;

use super::{FreeSpace, Reading, Resources, Stall};

/// Looks at file systems, at `/proc/meminfo` and `/proc/pressure`, and at the memory limits of the
/// control groups (version 2) that this process is in.
#[derive(Debug, Clone)]
pub struct SystemResources {
    folders: Vec<PathBuf>,
    /// Those of this process, the innermost first.
    groups: Vec<PathBuf>,
}

impl SystemResources {
    /// Looks at the file systems of these folders, which need not exist yet.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { folders, groups: groups(Path::new("/sys/fs/cgroup"), &own) }
    }
}

#[async_trait]
impl Resources for SystemResources {
    async fn look(&self) -> Reading {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.read()).await.unwrap_or_default()
    }
}

impl SystemResources {
    /// Blocks for as long as a file system takes to answer.
    fn read(&self) -> Reading {
        let machine = fs::read_to_string("/proc/meminfo").ok();
        let machine = machine.and_then(|text| field(&text, "MemAvailable:")?.checked_mul(1024));
        let groups = self.groups.iter().filter_map(|group| room(group));
        Reading {
            disk: self.folders.iter().filter_map(|f| space(f)).min_by_key(|space| space.bytes),
            memory: machine.into_iter().chain(groups).min(),
            stalls: Contended::ALL.into_iter().filter_map(stall).collect(),
        }
    }
}

/// The space on the file system of a folder, or of what of its path exists.
fn space(folder: &Path) -> Option<FreeSpace> {
    let (path, found) = folder.ancestors().find_map(|path| Some((path, statvfs(path).ok()?)))?;
    // File systems without blocks have no limit that could be known.
    (found.f_blocks > 0).then(|| FreeSpace {
        path: path.to_owned(),
        bytes: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

/// The groups that limit this process, by what `/proc/self/cgroup` says.
fn groups(root: &Path, own: &str) -> Vec<PathBuf> {
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let own = root.join(path);
    own.ancestors().take_while(|group| group.starts_with(root)).map(Path::to_owned).collect()
}

/// How much more memory a group may take; `None` where it has no limit.
///
/// `memory.current` counts the page cache, most of which the kernel gives back before it refuses
/// memory. So files and slabs that can be dropped count as available, as they do in the machine's
/// `MemAvailable` (`mm/show_mem.c`).
fn room(group: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let max: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let given_back: u64 = ["inactive_file", "active_file", "slab_reclaimable"]
        .into_iter()
        .filter_map(|name| field(&stat, name))
        .sum();
    Some(max.saturating_sub(current.saturating_sub(given_back)))
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == name).then(|| words.next()?.parse().ok())?
    })
}

fn stall(of: Contended) -> Option<Stall> {
    let text = fs::read_to_string(Path::new("/proc/pressure").join(of.name())).ok()?;
    parse_stall(of, &text)
}

fn parse_stall(of: Contended, text: &str) -> Option<Stall> {
    let average = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
    };
    // Older kernels have no `full` for processors.
    Some(Stall { of, some: average("some ")?, full: average("full ").unwrap_or(0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_finds_what_this_machine_has() {
        let folder = tempfile::tempdir().unwrap();
        let look = SystemResources::new(vec![folder.path().join("not/yet/there")]).read();
        let disk = look.disk.expect("the temporary folder is on a file system");
        assert_eq!(disk.path, folder.path());
        assert!(look.memory.is_some_and(|bytes| bytes > 0), "{:?}", look.memory);
        assert!(look.stalls.iter().all(|stall| (0.0..=100.0).contains(&stall.some)));
    }

    #[test]
    fn stalls_are_read_as_the_kernel_writes_them() {
        let text = "some avg10=7.23 avg60=6.73 avg300=6.66 total=41\n\
                    full avg10=1.50 avg60=0.00 avg300=0.00 total=0\n";
        let read = parse_stall(Contended::Io, text).unwrap();
        assert_eq!((read.some, read.full), (7.23, 1.5));
        let old = "some avg10=50.00 avg60=6.73 avg300=6.66 total=41\n";
        assert_eq!(parse_stall(Contended::Cpu, old).unwrap().full, 0.0);
        assert!(parse_stall(Contended::Io, "").is_none());
    }

    #[test]
    fn the_tightest_group_counts_and_its_page_cache_is_available() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let write = |group: &str, files: &[(&str, &str)]| {
            fs::create_dir_all(root.join(group)).unwrap();
            for (name, text) in files {
                fs::write(root.join(group).join(name), text).unwrap();
            }
        };
        write("a/b", &[("memory.max", "max\n"), ("memory.current", "5\n")]);
        let stat = "anon 100\ninactive_file 300\nactive_file 200\nslab_reclaimable 50\n";
        let files = [("memory.max", "1000\n"), ("memory.current", "900\n"), ("memory.stat", stat)];
        write("a", &files);
        let groups = groups(root, "1:cpu:/x\n0::/a/b\n");
        assert_eq!(groups, [root.join("a/b"), root.join("a"), root.to_owned()]);
        let rooms: Vec<_> = groups.iter().map(|group| room(group)).collect();
        assert_eq!(rooms, [None, Some(650), None]);
        assert!(super::groups(root, "4:memory:/x\n").is_empty(), "version 1 is not looked at");
    }
}

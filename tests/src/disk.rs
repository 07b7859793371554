//! Disks of a test's own: a small one, and one whose power can be cut.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::until;

/// Set where a test runs in a mount namespace of its own.
const INSIDE: &str = "ORCH_TEST_NAMESPACE";

/// The request that has a file system stop as if its power were cut, `_IOR('X', 125, __u32)`, with the flag
/// that nothing is written out before, not even the file system's own journal (`linux/fs.h`, `ext4.h`).
const CUT: &str = "\
import fcntl, os, struct, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(folder, 0x8004587D, struct.pack('I', 2))
";

/// Has a test go on in a mount namespace of its own, so that whatever it mounts is gone when it has ended,
/// also by a panic: calls itself by the `name` of the test.
///
/// True inside of the namespace. False outside, when the test has passed there, or where it can't be had: that is said on
/// the error output, with `what` was not done.
///
/// # Panics
/// Where the test fails in there.
#[must_use]
#[expect(clippy::print_stderr, reason = "a test that can't test anything says so")]
pub fn in_own_namespace(name: &str, programs: &[&str], what: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Err(why) = may_mount(programs) {
        eprintln!("SKIPPED: {what}: {why}");
        return false;
    }
    let test = env::current_exe().expect("a test knows its own binary");
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(test)
        .args(["--exact", name, "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .expect("unshare was there a moment ago");
    assert!(status.success(), "{name} failed in its namespace: {status}");
    false
}

fn may_mount(programs: &[&str]) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may mount".into());
    }
    for program in programs {
        let found = Command::new("which").arg(program).output();
        if !found.is_ok_and(|found| found.status.success()) {
            return Err(format!("there is no {program}"));
        }
    }
    let script = "mount -t tmpfs -o size=64k orch-test /mnt";
    let namespace = ["--mount", "--propagation", "private", "--", "sh", "-c", script];
    let output = Command::new("unshare").args(namespace).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// A file system in memory with little room.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many bytes. Only [`in_own_namespace`], in which it ends.
    ///
    /// # Panics
    /// Where it can't be mounted.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let folder = TempDir::with_prefix("orch-disk-").expect("a temporary folder can be made");
        let size = format!("size={bytes}");
        system("mount", &["-t", "tmpfs", "-o", &size, "orch-test"], folder.path());
        Self { folder }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// How many bytes are free.
    ///
    /// # Panics
    /// Where that can't be told.
    #[must_use]
    pub fn free(&self) -> u64 {
        let space = rustix::fs::statvfs(self.path()).expect("it is mounted");
        space.f_bavail * space.f_frsize
    }

    /// Fills it but for so many bytes, which are rounded to whole blocks.
    ///
    /// # Panics
    /// Where that fails.
    pub fn leave(&self, bytes: u64) {
        let ballast = self.path().join("ballast");
        let _ = fs::remove_file(&ballast);
        let file = File::create(ballast).expect("there is room for a name");
        let flags = rustix::fs::FallocateFlags::empty();
        // Others may write meanwhile.
        while let length @ 1.. = self.free().saturating_sub(bytes) {
            match rustix::fs::fallocate(&file, flags, 0, length) {
                Ok(()) => return,
                Err(error) => assert_eq!(error, rustix::io::Errno::NOSPC),
            }
        }
    }

    /// Gives the room back that [`leave`](Self::leave) took.
    ///
    /// # Panics
    /// Where that fails.
    pub fn relieve(&self) {
        fs::remove_file(self.path().join("ballast")).expect("it was made");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        detach(self.path());
    }
}

/// Where the kernel says which boot this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A file system (ext4) in a file, whose power can be cut: what was not synced is lost then. It is mounted with `noauto_da_alloc`, so
/// that ext4 does not sync on a rename what a program has forgotten to. With the power another boot begins, as all
/// processes see that begin in this namespace from then on.
#[derive(Debug)]
pub struct FragileDisk {
    /// Removed with what is in it.
    _folder: TempDir,
    image: PathBuf,
    top: PathBuf,
    /// Takes the place of [`BOOT`].
    boot: PathBuf,
}

impl FragileDisk {
    /// Makes and mounts one with room for so many bytes. Only [`in_own_namespace`], in which it ends.
    ///
    /// # Panics
    /// Where it can't be made.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        // What the image itself needs to survive is memory, which no sync has to wait for.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
        let folder = TempDir::with_prefix_in("orch-disk-", parent).expect("a temporary folder");
        let [image, top, boot] = ["image", "top", "boot"].map(|name| folder.path().join(name));
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("a sparse file");
        fs::create_dir(&top).expect("a folder");
        system("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^metadata_csum_seed"], &image);
        fs::write(&boot, another_boot()).expect("a file can be written");
        system("mount", &["--bind", &boot.to_string_lossy()], Path::new(BOOT));
        let disk = Self { _folder: folder, image, top, boot };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.top
    }

    fn mount(&self) {
        let options = ["-t", "ext4", "-o", "loop,noauto_da_alloc"];
        let image = self.image.to_string_lossy().into_owned();
        system("mount", &[&options[..], &[&*image]].concat(), &self.top);
    }

    /// Has everything survive that was done until now.
    ///
    /// # Panics
    /// Where that fails.
    pub fn sync(&self) {
        let top = File::open(&self.top).expect("it is mounted");
        rustix::fs::syncfs(top).expect("it can be synced");
    }

    /// Whoever ends has files open for a moment longer than it can be seen.
    fn unmount(&self) {
        until("the last user of a disk", || {
            let output = Command::new("umount").arg(&self.top).output().expect("umount is there");
            output.status.success().then_some(())
        });
    }

    /// Cuts the power: from now on each operation fails, and what was not synced is lost.
    ///
    /// # Panics
    /// Where that fails.
    pub fn cut(&self) {
        system("python3", &["-c", CUT], &self.top);
    }

    /// Powers it up again. Nothing may use it any more.
    ///
    /// # Panics
    /// Where it is in use, or is damaged.
    pub fn power_up(&self) {
        self.unmount();
        // In place: it is what is mounted.
        fs::write(&self.boot, another_boot()).expect("a file can be written");
        self.mount();
    }

    /// Has the file system looked through.
    ///
    /// # Panics
    /// Where it is damaged.
    pub fn check(&self) {
        self.unmount();
        system("e2fsck", &["-fn"], &self.image);
        self.mount();
    }
}

impl Drop for FragileDisk {
    fn drop(&mut self) {
        detach(&self.top);
        detach(Path::new(BOOT));
    }
}

fn another_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel makes ids")
}

/// Unmounts what is mounted in a folder, which could not be removed else.
pub(crate) fn detach_all(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    places.filter(|place| place.starts_with(folder)).for_each(detach);
}

/// What still uses it keeps it until its end.
fn detach(path: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(path).stderr(Stdio::null()).status();
}

#[track_caller]
fn system(program: &str, arguments: &[&str], path: &Path) {
    // Python takes the script first.
    let output = Command::new(program)
        .args(arguments.iter().map(OsStr::new))
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {}: {}{}",
        path.display(),
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
}

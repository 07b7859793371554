//! Mounts of overlayfs.

#[cfg(target_os = "linux")]
use std::ffi::CString;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

#[cfg(target_os = "linux")]
use rustix::mount::{MountFlags, UnmountFlags};

/// The folders that a tree is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layers {
    /// The files that many trees share; nobody writes there.
    pub(crate) lower: PathBuf,
    /// The folder of what is this tree's own: `upper`, and `work`, which the kernel needs.
    pub(crate) layer: PathBuf,
}

impl Layers {
    pub(crate) fn upper(&self) -> PathBuf {
        self.layer.join("upper")
    }

    /// Mounts the layers as one tree.
    #[cfg(target_os = "linux")]
    pub(crate) fn mount(&self, target: &Path) -> io::Result<()> {
        let (upper, work) = (self.upper(), self.layer.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let mut options = Vec::new();
        for (name, path) in [("lowerdir", &self.lower), ("upperdir", &upper), ("workdir", &work)] {
            let path = path.as_os_str().as_encoded_bytes();
            if path.iter().any(|byte| b",:\\\"".contains(byte)) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a path with a comma, colon, quote or backslash can't be a layer",
                ));
            }
            options.extend(name.bytes().chain([b'=']).chain(path.iter().copied()).chain([b',']));
        }
        // Without the first, a folder of the lower layer can't be renamed. The second would tie the
        // layers to each other, and bring nothing here.
        options.extend(b"redirect_dir=on,index=off");
        let options = CString::new(options)?;
        let flags = MountFlags::empty();
        Ok(rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn mount(&self, _: &Path) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has overlayfs"))
    }
}

/// Takes a mount away, also one that somebody still works in.
#[cfg(target_os = "linux")]
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unmount(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether something is mounted on a folder.
pub(crate) fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev());
    match (device(folder), folder.parent().map(device)) {
        (Ok(own), Some(Ok(above))) => own != above,
        _ => false,
    }
}

/// Mounts something below a folder to see whether that works, and takes it away again.
///
/// # Errors
/// Why it does not.
pub(crate) fn probe(folder: &Path) -> io::Result<()> {
    let place = folder.join(format!(".probe-{}", std::process::id()));
    let (lower, target) = (place.join("lower"), place.join("tree"));
    let result = (|| {
        fs::create_dir_all(lower.join("folder"))?;
        fs::create_dir_all(&target)?;
        fs::write(lower.join("folder/file"), "lower")?;
        Layers { lower, layer: place.join("layer") }.mount(&target)?;
        let works = (|| {
            fs::write(target.join("folder/file"), "upper")?;
            fs::rename(target.join("folder"), target.join("renamed"))
        })();
        unmount(&target)?;
        works
    })();
    let _ = fs::remove_dir_all(&place);
    let _ = fs::remove_dir(folder);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_a_layer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a,b");
        let error = probe(&odd).unwrap_err().to_string();
        assert!(error.contains("comma") || cfg!(not(target_os = "linux")), "{error}");
        assert!(!odd.exists(), "nothing is left of a probe");
        assert!(!is_mounted(folder.path()) && !is_mounted(&odd));
    }

    #[test]
    fn a_tree_has_the_files_of_both_layers() {
        let folder = tempfile::tempdir().unwrap();
        // The right to mount is not everybody's.
        if probe(&folder.path().join("probe")).is_err() {
            return;
        }
        let (lower, tree) = (folder.path().join("lower"), folder.path().join("tree"));
        fs::create_dir(&lower).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(lower.join("file"), "lower").unwrap();
        let layers = Layers { lower: lower.clone(), layer: folder.path().join("layer") };
        layers.mount(&tree).unwrap();
        assert!(is_mounted(&tree));
        fs::write(tree.join("file"), "upper").unwrap();
        unmount(&tree).unwrap();
        assert!(!is_mounted(&tree) && !tree.join("file").exists());
        assert_eq!(fs::read_to_string(lower.join("file")).unwrap(), "lower");
        layers.mount(&tree).unwrap();
        assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "upper");
        unmount(&tree).unwrap();
    }
}

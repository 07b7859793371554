//! Private homes: an agent has its own `HOME` and `TMPDIR`, and sees of the user's what is listed.
//!
//! What is listed is linked, never copied: credentials stay where they are, and an agent that renews
//! them renews the user's.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use orch_faults::point;

use crate::adapter::{Call, Link};

/// What common tools need of the user's home: who commits, and what was installed and fetched before.
///
/// The keys of ssh, of cloud services and the like are not among it: a plan names what its tasks need of
/// them. Neither are the files by which shells are set up: `PATH` is inherited, and an agent's shell that
/// is killed while it runs them leaves locks behind (pyenv's then holds up every shell of the user for 60 s).
const TOOLS: &[&str] = &[
    ".gitconfig",
    ".config/git",
    ".local/bin",
    ".cargo",
    ".rustup",
    ".npmrc",
    ".npm",
    ".nvm",
    ".bun",
    ".deno",
    ".volta",
    ".yarnrc.yml",
    ".local/share/pnpm",
    ".pyenv",
    ".local/share/uv",
    ".cache/pip",
    ".cache/uv",
    ".rbenv",
    ".asdf",
    ".local/share/mise",
    ".sdkman",
    ".m2",
    ".gradle",
    "go",
    ".cache/go-build",
    ".cache/sccache",
    ".ccache",
];

/// Variables that point into a home, with where they point in a private one.
const FOLDERS: &[(&str, &str)] = &[
    ("XDG_CONFIG_HOME", ".config"),
    ("XDG_DATA_HOME", ".local/share"),
    ("XDG_STATE_HOME", ".local/state"),
    ("XDG_CACHE_HOME", ".cache"),
];

/// The user that agents work for: the home, and the environment.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct UserHome {
    home: PathBuf,
    variables: BTreeMap<String, String>,
}

/// Without the values of variables, which may be secret.
impl std::fmt::Debug for UserHome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserHome").field("home", &self.home).finish_non_exhaustive()
    }
}

impl UserHome {
    /// The user with this home and these variables.
    #[must_use]
    pub fn new<N: Into<String>, V: Into<String>>(
        home: impl Into<PathBuf>,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { home: home.into(), variables }
    }

    /// With variables that a plan sets, which win.
    #[must_use]
    pub fn with(&self, variables: &BTreeMap<String, String>) -> Self {
        let mut user = self.clone();
        user.variables.extend(variables.clone());
        user
    }

    /// The folder.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Whether a variable is there and not empty.
    #[must_use]
    pub fn has(&self, variable: &str) -> bool {
        self.variables.get(variable).is_some_and(|value| !value.is_empty())
    }

    /// A variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A link to something in the folder that a variable names, by default one of the home.
    #[must_use]
    pub fn link_of(&self, variable: &str, default: &str, name: &str) -> Link {
        let folder = match self.variable(variable).filter(|folder| !folder.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => self.home.join(default),
        };
        let name_at_home = Path::new(default).join(name);
        Link { target: folder.join(name), name: name_at_home.to_string_lossy().into_owned() }
    }

    /// Reads a file in such a folder; `None` where there is none.
    #[must_use]
    pub fn read(&self, variable: &str, default: &str, name: &str) -> Option<String> {
        fs::read_to_string(self.link_of(variable, default, name).target).ok()
    }

    /// What common tools need, and what the plan names besides.
    fn links(&self, more: &[String]) -> Vec<Link> {
        let names = TOOLS.iter().copied().chain(more.iter().map(String::as_str));
        names.map(|name| Link { target: self.home.join(name), name: name.to_owned() }).collect()
    }
}

/// The home of one agent, which a later attempt that continues its session gets too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateHome {
    home: PathBuf,
    temporary: PathBuf,
}

impl PrivateHome {
    /// These folders, which need not be there.
    #[must_use]
    pub fn new(home: impl Into<PathBuf>, temporary: impl Into<PathBuf>) -> Self {
        Self { home: home.into(), temporary: temporary.into() }
    }

    /// Makes the folders and what belongs into them. What the user does not have is left out, and
    /// so is what is there already.
    ///
    /// # Errors
    /// Where that can't be made.
    pub fn furnish(
        &self,
        user: &UserHome,
        links: &[Link],
        more: &[String],
        call: &Call,
    ) -> io::Result<()> {
        private_folder(&self.home)?;
        private_folder(&self.temporary)?;
        for (_, folder) in FOLDERS {
            private_folder(&self.home.join(folder))?;
        }
        for folder in call.folders.values() {
            private_folder(&self.home.join(folder))?;
        }
        for Link { target, name } in links.iter().chain(&user.links(more)) {
            if !target.exists() {
                continue;
            }
            let link = self.home.join(name);
            link.parent().map_or(Ok(()), private_folder)?;
            match point!("home::link.make", symlink(target, link)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        for (name, text) in &call.files {
            let path = self.home.join(name);
            path.parent().map_or(Ok(()), private_folder)?;
            // Never through a link into the user's home.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            point!("home::file.write", fs::write(&path, text))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    }

    /// The variables that make it the agent's home.
    #[must_use]
    pub fn env(&self, call: &Call) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut env = BTreeMap::from([
            ("HOME".to_owned(), text(&self.home)),
            ("TMPDIR".to_owned(), text(&self.temporary)),
        ]);
        for (name, folder) in
            FOLDERS.iter().copied().chain(call.folders.iter().map(|(n, f)| (*n, *f)))
        {
            let folder = if folder.is_empty() { self.home.clone() } else { self.home.join(folder) };
            env.insert(name.to_owned(), text(&folder));
        }
        env
    }

    /// Those of these links that the agent has replaced by files of its own: what it renewed there is not
    /// the user's.
    #[must_use]
    pub fn replaced<'l>(&self, links: &'l [Link]) -> Vec<&'l Link> {
        let is_file = |link: &&Link| {
            self.home.join(&link.name).symlink_metadata().is_ok_and(|it| it.is_file())
        };
        links.iter().filter(|link| link.target.is_file()).filter(is_file).collect()
    }

    /// Removes what is only for the time of an attempt.
    ///
    /// # Errors
    /// Where that can't be removed.
    pub fn remove_temporary(&self) -> io::Result<()> {
        remove(&self.temporary)
    }

    /// Removes all of it; what it links to stays.
    ///
    /// # Errors
    /// Where that can't be removed.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_temporary()?;
        remove(&self.home)
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a folder and those above it, for nobody but the user.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_linked_and_nothing_else_shows() {
        let root = tempfile::tempdir().unwrap();
        let (user_home, codex) = (root.path().join("user"), root.path().join("elsewhere"));
        fs::create_dir_all(user_home.join(".ssh")).unwrap();
        fs::create_dir_all(user_home.join(".config/tool")).unwrap();
        fs::create_dir_all(&codex).unwrap();
        for file in [".gitconfig", ".ssh/id", ".secret"] {
            fs::write(user_home.join(file), file).unwrap();
        }
        fs::write(codex.join("auth.json"), "token").unwrap();
        let user = UserHome::new(&user_home, [("CODEX_HOME", codex.to_string_lossy())]);
        let links = [user.link_of("CODEX_HOME", ".codex", "auth.json")];
        let call = Call {
            files: [(".tool/settings.json", "{}".to_owned())].into(),
            folders: [("CODEX_HOME", ".codex")].into(),
            ..Call::default()
        };
        let home = PrivateHome::new(root.path().join("private"), root.path().join("tmp"));
        for _ in 0..2 {
            home.furnish(&user, &links, &[".config/tool".into()], &call).unwrap();
        }
        let private = root.path().join("private");
        assert_eq!(
            fs::read_link(private.join(".codex/auth.json")).unwrap(),
            codex.join("auth.json")
        );
        assert_eq!(fs::read_to_string(private.join(".gitconfig")).unwrap(), ".gitconfig");
        assert!(private.join(".config/tool").is_symlink());
        assert!(!private.join(".ssh").exists() && !private.join(".secret").exists());
        assert_eq!(fs::read_to_string(private.join(".tool/settings.json")).unwrap(), "{}");
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
        let env = home.env(&call);
        assert_eq!(env["HOME"], private.to_string_lossy());
        assert_eq!(env["CODEX_HOME"], private.join(".codex").to_string_lossy());
        assert_eq!(env["XDG_DATA_HOME"], private.join(".local/share").to_string_lossy());

        // Renewed credentials are the user's.
        fs::write(private.join(".codex/auth.json"), "renewed").unwrap();
        assert_eq!(home.replaced(&links), [] as [&Link; 0]);
        let own = private.join(".codex/own");
        fs::write(&own, "its own").unwrap();
        fs::rename(own, private.join(".codex/auth.json")).unwrap();
        assert_eq!(home.replaced(&links), [&links[0]]);
        home.remove().unwrap();
        assert!(!private.exists() && !root.path().join("tmp").exists());
        assert_eq!(fs::read_to_string(codex.join("auth.json")).unwrap(), "renewed");
        assert!(user_home.join(".gitconfig").exists());
        assert!(!format!("{user:?}").contains("elsewhere"), "variables may be secret");
    }
}

//! The repository: what is known of it, its references and its runs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool},
};

use orch_model::{CommitId, RunId, ports::WorktreeError};

use crate::{
    checkouts::Checkouts,
    choose::TreeChoice,
    config::{GitWorktreesConfig, TreeConfig},
    error::{io_error, target_error},
    furnish::include::IncludeMode,
    git::Git,
    lock::{PlaceLocks, RepositoryLock},
    names,
    overlay::Overlay,
    parse::{self, Reference, Version},
    pool::Pool,
    settings::{self, Settings},
    signing::Signing,
    target::Target,
    trash::Trash,
    trust::{Look, Trust},
    view::View,
};

/// The oldest git that has `merge-tree --write-tree`.
const OLDEST: Version = Version(2, 38);

/// A repository that worktrees are made of.
#[derive(Debug)]
pub(crate) struct Repo {
    /// Git on the common git folder: objects and references.
    pub(crate) git: Git,
    /// The top folder of the checkout that was named.
    pub(crate) top: PathBuf,
    /// The git folder of that checkout.
    pub(crate) top_admin: PathBuf,
    /// Where worktrees are made.
    pub(crate) root: PathBuf,
    /// Serialises the making and removing of worktrees.
    pub(crate) lock: Arc<RepositoryLock>,
    /// Serialises what is done to one worktree.
    pub(crate) places: PlaceLocks,
    /// Serialises merges within the process; between processes the expected old values do.
    pub(crate) merging: tokio::sync::Mutex<()>,
    /// Where branches are checked out.
    pub(crate) checkouts: Arc<Checkouts>,
    /// What is being deleted.
    pub(crate) trash: Arc<Trash>,
    /// Finds out whether somebody changed what makes git run programs.
    pub(crate) trust: Trust,
    /// Whether somebody was told of filters that are not run.
    pub(crate) told_of_filters: AtomicBool,
    /// How worktrees are to be made, and how they are.
    pub(crate) trees: TreeConfig,
    pub(crate) choice: OnceLock<TreeChoice>,
    /// What trees get of the user's checkout.
    pub(crate) included: tokio::sync::OnceCell<Vec<(PathBuf, IncludeMode)>>,
    /// Trees that share their files.
    pub(crate) overlay: Overlay,
    /// Worktrees that are used again.
    pub(crate) pool: Arc<Pool>,
    /// What the configuration said when this process looked first.
    pub(crate) settings: Settings,
    /// How the engine's commits are signed; `None`: they are not.
    pub(crate) signing: Option<Signing>,
    /// Packs whose content survives a power cut.
    pub(crate) packs: Mutex<HashSet<PathBuf>>,
    runs: Mutex<HashMap<RunId, Arc<Run>>>,
}

/// What is known of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    /// Where its results go.
    pub(crate) target: Target,
    /// Where the target stood when the run began.
    pub(crate) base: CommitId,
    /// Whether a target that is missing at the end may be made.
    pub(crate) makes_target: bool,
    /// What was found out about the target's tip.
    pub(crate) seen: Mutex<Seen>,
    /// What the repository's settings were when this process began to work on the run.
    pub(crate) settings: OnceLock<Arc<Look>>,
}

/// What was found out about the target's tip, so that it need not be found out again.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// A tip that the results contain; they only grow.
    pub(crate) contained: Option<CommitId>,
    /// A tip that can't be merged into the results, and the files in conflict.
    pub(crate) refused: Option<(CommitId, Vec<String>)>,
}

impl Run {
    pub(crate) fn new(id: RunId, target: Target, base: CommitId) -> Self {
        let seen = Seen { contained: Some(base.clone()), refused: None };
        let seen = Mutex::new(seen);
        Self { id, target, base, makes_target: false, seen, settings: OnceLock::new() }
    }

    /// The target by its whole name.
    pub(crate) fn target_ref(&self) -> String {
        self.target.reference()
    }

    /// The results by their whole name.
    pub(crate) fn results_ref(&self) -> String {
        names::head(&names::results_branch(&self.id))
    }

    /// The files in conflict, if this tip of the target can't be merged into the results.
    pub(crate) fn refused(&self, target: Option<&CommitId>) -> Option<Vec<String>> {
        let seen = self.seen();
        let (tip, files) = seen.refused.as_ref()?;
        (Some(tip) == target).then(|| files.clone())
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repo {
    pub(crate) async fn open(config: GitWorktreesConfig) -> Result<Self, WorktreeError> {
        let folder = config.repository;
        if !folder.is_dir() {
            return Err(WorktreeError::NotARepository { path: folder });
        }
        let git = Git::in_folder(config.git, config.environment, &folder);
        let found = git.line(["version"]).await?;
        match parse::version(&found) {
            Some(version) if version >= OLDEST => {}
            _ => {
                let found = found.strip_prefix("git version ").unwrap_or(&found).to_owned();
                return Err(WorktreeError::GitTooOld { found });
            }
        }
        let (top, top_admin, common) = locate(&git, &folder).await?;
        let git = with_identity(git.on_repository(&common)).await?;
        let settings = settings::read(&git, &top_admin).await?;
        let settings = Settings::new(settings.map_err(|complaint| {
            target_error(format!("git can't read its settings in {}: {complaint}", top.display()))
        })?);
        let signing = Signing::of(&settings);
        let view = View::new(&common, settings.entries(), &config.trees.trusted_filters)
            .map_err(io_error(format!("writing the engine's settings in {}", common.display())))?;
        let git = git.with_view(Arc::new(view));
        let main = main_checkout(&git.plain(), &top, &top_admin, &common).await?;
        let root = match config.root {
            Some(root) => top.join(root),
            None => beside(&top),
        };
        let root = absolute(&root).map_err(io_error(format!("resolving {}", root.display())))?;
        let trash = Arc::new(Trash::new(&root));
        trash.empty_leftovers();
        let checkouts = Arc::new(Checkouts::new(&common, main));
        let lock = Arc::new(RepositoryLock::new(&common));
        let parts = (Arc::clone(&checkouts), Arc::clone(&lock), Arc::clone(&trash));
        let limits = config.trees.pool.clone();
        let overlay = Overlay::new(
            &root,
            git.clone(),
            Arc::clone(&checkouts),
            Arc::clone(&trash),
            config.trees.pool.clone(),
        );
        let pool = Pool::new(&root, git.clone(), parts.0, parts.1, parts.2, limits);
        Ok(Self {
            told_of_filters: AtomicBool::new(false),
            trust: Trust::new(common, top_admin.clone()),
            git,
            lock,
            checkouts,
            included: tokio::sync::OnceCell::new(),
            trees: config.trees,
            choice: OnceLock::new(),
            overlay,
            pool: Arc::new(pool),
            top,
            top_admin,
            root,
            trash,
            places: PlaceLocks::default(),
            merging: tokio::sync::Mutex::default(),
            settings,
            signing,
            packs: Mutex::default(),
            runs: Mutex::default(),
        })
    }

    /// References by name or by the part of it before a slash.
    pub(crate) async fn refs(
        &self,
        patterns: &[impl AsRef<str> + Sync],
    ) -> Result<BTreeMap<String, Reference>, WorktreeError> {
        self.list_refs(None, patterns).await
    }

    /// The same, only those that contain a commit.
    pub(crate) async fn refs_containing(
        &self,
        commit: &CommitId,
        patterns: &[impl AsRef<str> + Sync],
    ) -> Result<BTreeMap<String, Reference>, WorktreeError> {
        self.list_refs(Some(format!("--contains={commit}")), patterns).await
    }

    async fn list_refs(
        &self,
        filter: Option<String>,
        patterns: &[impl AsRef<str> + Sync],
    ) -> Result<BTreeMap<String, Reference>, WorktreeError> {
        let fixed = ["for-each-ref", parse::REFERENCES].into_iter().map(str::to_owned);
        let patterns = patterns.iter().map(|p| p.as_ref().to_owned());
        let dashes = std::iter::once("--".to_owned());
        let out = self.git.run(fixed.chain(filter).chain(dashes).chain(patterns)).await?;
        Ok(parse::references(&out).into_iter().map(|r| (r.name.clone(), r)).collect())
    }

    /// Changes references, all or none of them: lines of `git update-ref --stdin`. `Ok(Err)`
    /// where a reference was not what was expected.
    pub(crate) async fn transact(
        &self,
        why: &str,
        lines: &[String],
    ) -> Result<Result<(), WorktreeError>, WorktreeError> {
        let why: String = why.split_whitespace().collect::<Vec<_>>().join(" ");
        let input = lines.join("\n") + "\n";
        let change = || {
            let call = self.git.call(["update-ref", "-m", &why, "--stdin"]).durable();
            call.input(input.clone())
        };
        Ok(self.past_locks(change).await?.success().map(drop))
    }

    /// Whether one commit is part of another's history.
    pub(crate) async fn is_ancestor(
        &self,
        old: &CommitId,
        new: &CommitId,
    ) -> Result<bool, WorktreeError> {
        if old == new {
            return Ok(true);
        }
        let answer = self
            .git
            .call(["merge-base", "--is-ancestor", old.as_str(), new.as_str()])
            .answer()
            .await?;
        match answer.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(answer.into_error()),
        }
    }

    /// The first of these commits that is not part of another one's history.
    pub(crate) async fn lacks(
        &self,
        tip: &CommitId,
        commits: &[CommitId],
    ) -> Result<Option<CommitId>, WorktreeError> {
        let mut input = format!("^{tip}\n");
        commits.iter().for_each(|commit| input.push_str(&format!("{commit}\n")));
        let list = self.git.call(["rev-list", "--max-count=1", "--stdin"]).input(input);
        if commits.is_empty() || list.answer().await?.success()?.is_empty() {
            return Ok(None);
        }
        for commit in commits {
            if !self.is_ancestor(commit, tip).await? {
                return Ok(Some(commit.clone()));
            }
        }
        Ok(None)
    }

    /// Remembers a run.
    pub(crate) fn remember(&self, run: Run) -> Arc<Run> {
        let run = Arc::new(run);
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(run.id.clone(), Arc::clone(&run));
        run
    }

    /// Forgets a run: another use looks at the references again.
    pub(crate) fn forget(&self, run: &RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }

    /// A run that has begun, in this process or in an earlier one.
    pub(crate) async fn run(&self, id: &RunId) -> Result<Arc<Run>, WorktreeError> {
        let known = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(run) = known {
            return Ok(run);
        }
        match self.recall(id).await? {
            Some(run) => Ok(self.remember(run)),
            None => Err(target_error(format!(
                "run `{id}` has not begun in {}; begin it first",
                self.top.display()
            ))),
        }
    }

    /// What the references say of a run.
    pub(crate) async fn recall(&self, id: &RunId) -> Result<Option<Run>, WorktreeError> {
        let (target_ref, base_ref) = (names::run_ref(id, "target"), names::run_ref(id, "base"));
        let refs = self.refs(&[&base_ref]).await?;
        let Some(base) = refs.get(&base_ref) else { return Ok(None) };
        // Asked for by itself: the branch that it stands for may be gone.
        let answer = self.git.call(["symbolic-ref", "-q", &target_ref]).answer().await?;
        // Nothing is there, or what a power cut left of it.
        if answer.code != Some(0) {
            return Ok(None);
        }
        let target = String::from_utf8_lossy(&answer.success()?).trim_end().to_owned();
        let target = self.target_of(&target).await?;
        Ok(Some(Run::new(id.clone(), target, base.commit.clone())))
    }
}

/// Top folder, git folder and common git folder.
async fn locate(git: &Git, folder: &Path) -> Result<(PathBuf, PathBuf, PathBuf), WorktreeError> {
    let answer = git
        .call([
            "rev-parse",
            "--path-format=absolute",
            "--show-toplevel",
            "--absolute-git-dir",
            "--git-common-dir",
        ])
        .answer()
        .await?;
    if answer.code != Some(0) {
        let complaint = answer.complaint();
        if complaint.contains("dubious ownership") {
            return Err(answer.into_error());
        }
        if complaint.contains("must be run in a work tree") {
            return Err(target_error(format!(
                "{} is a bare repository or inside a git folder; orch needs a checkout: make one with `git worktree add`",
                folder.display()
            )));
        }
        return Err(WorktreeError::NotARepository { path: folder.into() });
    }
    let out = answer.success()?;
    let text = String::from_utf8_lossy(&out).into_owned();
    let mut lines = text.lines();
    let mut path = || {
        let path = Path::new(lines.next().unwrap_or_default());
        path.canonicalize().map_err(io_error(format!("resolving {}", path.display())))
    };
    Ok((path()?, path()?, path()?))
}

/// Settles who makes the engine's commits: whom the configuration names now, or, where it names nobody,
/// the engine itself. What an agent writes to the configuration later does not matter.
async fn with_identity(git: Git) -> Result<Git, WorktreeError> {
    let mut found = Vec::new();
    for who in ["GIT_AUTHOR", "GIT_COMMITTER"] {
        let answer = git.call(["var", &format!("{who}_IDENT")]).answer().await?;
        let text = answer.success().ok().map(|out| String::from_utf8_lossy(&out).into_owned());
        let person = text.as_deref().and_then(parse::identity);
        found.push(person.map(|(name, email)| (who, name.to_owned(), email.to_owned())));
    }
    let people = found.into_iter().collect::<Option<Vec<_>>>().unwrap_or_else(|| {
        let engine = |who| (who, "orch".to_owned(), "orch@localhost".to_owned());
        ["GIT_AUTHOR", "GIT_COMMITTER"].map(engine).into()
    });
    let variables = people.into_iter().flat_map(|(who, name, email)| {
        [(format!("{who}_NAME").into(), name.into()), (format!("{who}_EMAIL").into(), email.into())]
    });
    Ok(git.with_environment(variables.collect()))
}

/// The main checkout of the repository, unless it is bare.
async fn main_checkout(
    git: &Git,
    top: &Path,
    top_admin: &Path,
    common: &Path,
) -> Result<Option<PathBuf>, WorktreeError> {
    if top_admin == common {
        return Ok(Some(top.into()));
    }
    let bare = git.line(["rev-parse", "--is-bare-repository"]).await? == "true";
    let parent = common.file_name().filter(|name| *name == ".git").and(common.parent());
    Ok(if bare { None } else { Some(parent.unwrap_or(common).into()) })
}

/// `<top>.worktrees`.
fn beside(top: &Path) -> PathBuf {
    let mut name = top.file_name().unwrap_or("repository".as_ref()).to_os_string();
    name.push(".worktrees");
    top.with_file_name(name)
}

/// Resolves symbolic links in the part of a path that exists.
fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let mut rest = Vec::new();
    let mut there = path;
    loop {
        match (there.canonicalize(), there.parent(), there.file_name()) {
            (Ok(found), ..) => return Ok(found.join(rest.iter().rev().collect::<PathBuf>())),
            (Err(e), Some(parent), Some(name)) if e.kind() == std::io::ErrorKind::NotFound => {
                rest.push(name.to_owned());
                there = parent;
            }
            (Err(error), ..) => return Err(error),
        }
    }
}

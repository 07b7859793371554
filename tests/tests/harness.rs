//! The harness itself: a test is worth only as much as what it looks with.

use orch_tests::TestRepo;

#[test]
fn a_repository_begins_with_one_commit_and_nobodys_configuration() {
    let repo = TestRepo::builder().files(5).build();
    assert_eq!(repo.branches(), ["main"]);
    assert_eq!(repo.log_subjects("main"), ["the beginning"]);
    assert_eq!(repo.files_of("main").len(), 6);
    assert_eq!(repo.worktrees(), Vec::<std::path::PathBuf>::new());
    let origins = repo.git(["config", "--list", "--show-scope"]);
    assert!(origins.lines().all(|line| line.starts_with("local")), "{origins}");
}

#[test]
fn a_checkout_notices_every_kind_of_change() {
    type Change = (&'static str, fn(&TestRepo));
    let changes: &[Change] = &[
        ("a changed file", |repo| repo.write("src/file1.txt", "other\n")),
        ("a file written anew with the same bytes", |repo| {
            repo.write("README.md", "# A repository for tests\n");
        }),
        ("a new file", |repo| repo.write("new.txt", "")),
        ("an ignored file", |repo| {
            repo.write(".git/info/exclude", "ignored.txt\n");
            repo.write("ignored.txt", "");
        }),
        ("a staged change", |repo| {
            repo.git(["add", "notes"]);
        }),
        ("a commit", |repo| {
            repo.git(["commit", "--quiet", "--allow-empty", "--message", "x"]);
        }),
        ("another branch", |repo| {
            repo.git(["checkout", "--quiet", "-b", "other"]);
        }),
    ];
    for (what, change) in changes {
        let repo = TestRepo::new();
        repo.make_dirty();
        let before = repo.checkout();
        assert_eq!(before, repo.checkout(), "looking changes something");
        assert_eq!(before.hash(), repo.tree_hash_of_checkout());
        change(&repo);
        assert_ne!(before, repo.checkout(), "{what} went unnoticed");
    }
}

#[test]
fn the_folder_of_orch_is_no_part_of_the_checkout() {
    let repo = TestRepo::new();
    let before = repo.checkout();
    repo.write(".orch/.gitignore", "*\n");
    repo.write(".orch/runs/r/journal", "");
    assert_eq!(before, repo.checkout());
    assert!(before.paths().any(|path| path == "README.md"));
}

#[test]
fn a_dirty_checkout_has_changes_of_all_kinds() {
    let repo = TestRepo::new();
    repo.make_dirty();
    let status = repo.git(["status", "--porcelain"]);
    assert_eq!(
        status.lines().collect::<Vec<_>>(),
        ["MM src/file0.txt", " M src/file1.txt", " D src/file2.txt", "?? notes/"]
    );
}

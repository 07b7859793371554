//! Writes what the records in `docs/reliability` tell into the pages that show it.

use std::{fs, path::Path};

use orch_tests::report::{PAGES, page};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    PAGES.iter().try_for_each(|name| fs::write(root.join(name), page(&root, name)))
}

//! What every implementation of the two ports must keep, as tests that can be run on any of them.
//!
//! ```
//! # #[tokio::main(flavor = "multi_thread", worker_threads = 2)]
//! # async fn main() {
//! use std::sync::Arc;
//!
//! orch_state::contract::store_contract(|| Arc::new(orch_state::MemoryStore::new())).await;
//! orch_state::contract::lock_contract(|| Arc::new(orch_state::MemoryLocks::new())).await;
//! # }
//! ```

mod locks;
mod store;

pub use locks::lock_contract;
pub use store::store_contract;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tempfile::TempDir;

    use super::*;
    use crate::{FileLocks, FileStore, MemoryLocks, MemoryStore};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn files_keep_the_contract_of_the_store() {
        let dirs = Mutex::new(Vec::<TempDir>::new());
        store_contract(|| {
            let dir = tempfile::tempdir().unwrap();
            let store = FileStore::open(dir.path().join(".orch")).unwrap();
            dirs.lock().unwrap().push(dir);
            Arc::new(store)
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_keeps_the_contract_of_the_store() {
        store_contract(|| Arc::new(MemoryStore::new())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn files_keep_the_contract_of_locks() {
        let dirs = Mutex::new(Vec::<TempDir>::new());
        lock_contract(|| {
            let dir = tempfile::tempdir().unwrap();
            let locks = FileLocks::open(dir.path().join("locks")).unwrap();
            dirs.lock().unwrap().push(dir);
            Arc::new(locks)
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_keeps_the_contract_of_locks() {
        lock_contract(|| Arc::new(MemoryLocks::new())).await;
    }
}

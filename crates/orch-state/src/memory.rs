//! Both ports without files, for tests and for embedders whose runs need not outlive the process.

mod locks;
mod store;

pub use locks::MemoryLocks;
pub use store::MemoryStore;

//! The store and the locks as other programs see them: through files and processes.

mod common;
mod journal;
mod processes;

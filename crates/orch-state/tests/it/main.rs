//! The store and the locks as other programs see them: through files and processes.

mod common;
mod damage;
mod journal;
mod processes;
mod upkeep;

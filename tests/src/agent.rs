//! The scripted fake agent: what it is told to do, and doing it.
//!
//! ```
//! use orch_tests::agent::{Script, Statement};
//!
//! let script: Script = "write a.txt hello; commit add a".parse().unwrap();
//! assert_eq!(script.statements()[1], Statement::Commit { message: "add a".into() });
//! let error = "wriet a.txt hello".parse::<Script>().unwrap_err();
//! assert_eq!(error.to_string(), "statement 1, `wriet a.txt hello`: there is no `wriet`; see --help");
//! ```

mod act;
mod children;
mod script;

pub use act::{Act, Actor, AgentError};
pub use children::{ChildKind, be_child};
pub use script::{HELP, Script, ScriptError, Statement};

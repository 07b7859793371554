//! `fake-agent`: does what its prompt says. See `fake-agent --help`.

use std::{
    env, fs,
    io::{self, Read, Write},
    process::ExitCode,
};

use orch_tests::agent::{Actor, HELP, Script, be_child};

/// The script or the arguments are wrong (`EX_USAGE`).
const USAGE: u8 = 64;
/// A statement failed (`EX_SOFTWARE`).
const BROKEN: u8 = 70;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match be_child(&arguments) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return complain(BROKEN, &error),
    }
    let text = match read_script(&arguments) {
        Ok(Some(text)) => text,
        Ok(None) => {
            return match io::stdout().write_all(HELP.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => complain(BROKEN, &error),
            };
        }
        Err(error) => return complain(USAGE, &error),
    };
    let script: Script = match text.parse() {
        Ok(script) => script,
        Err(error) => return complain(USAGE, &error),
    };
    match Actor::new(io::stdout()).perform(&script) {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(BROKEN, &error),
    }
}

/// The script; `None` where help is wanted.
fn read_script(arguments: &[String]) -> io::Result<Option<String>> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--help" | "-h"] => Ok(None),
        ["--script-file", file] => fs::read_to_string(file)
            .map(Some)
            .map_err(|error| io::Error::new(error.kind(), format!("can't read {file}: {error}"))),
        [option, ..] if option.starts_with("--") => {
            Err(io::Error::other(format!("`{option}` is no option or lacks its value; see --help")))
        }
        [script] => Ok(Some(script.to_owned())),
        [] => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            Ok(Some(text))
        }
        _ => Err(io::Error::other("a script is one argument: put it in quotes")),
    }
}

fn complain(code: u8, error: &dyn std::error::Error) -> ExitCode {
    // Where standard error is gone too, the exit code alone has to tell.
    let _ = writeln!(io::stderr(), "fake-agent: {error}");
    ExitCode::from(code)
}

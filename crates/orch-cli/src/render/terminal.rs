//! The terminal that a person looks at.

use std::io;

use rustix::{
    fd::AsFd,
    process::getpgrp,
    termios::{LocalModes, OptionalActions, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr},
};

/// How many rows and columns the terminal has; `None` where there is none, or where it does not
/// tell.
pub(crate) fn size(terminal: impl AsFd) -> Option<(usize, usize)> {
    let size = tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then(|| (size.ws_row.into(), size.ws_col.into()))
}

/// Keeps the terminal from showing `^C` while it lives: that would move the cursor, and the live
/// view with it.
#[derive(Debug)]
pub(super) struct Quiet {
    changed: bool,
}

impl Quiet {
    pub(super) fn new() -> Self {
        Self { changed: echo_control(false) }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.changed {
            echo_control(true);
        }
    }
}

/// Whether the mode was changed. Whoever is not in the foreground must not touch it: the system
/// would stop the process for that.
fn echo_control(is_shown: bool) -> bool {
    let terminal = io::stdin();
    if tcgetpgrp(&terminal).ok() != Some(getpgrp()) {
        return false;
    }
    let Ok(mut mode) = tcgetattr(&terminal) else { return false };
    if mode.local_modes.contains(LocalModes::ECHOCTL) == is_shown {
        return false;
    }
    mode.local_modes.set(LocalModes::ECHOCTL, is_shown);
    tcsetattr(&terminal, OptionalActions::Now, &mode).is_ok()
}

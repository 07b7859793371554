//! Helpers around [`WorktreeError`].

use std::{future::Future, io, path::Path};

use orch_model::ports::WorktreeError;
use tracing::Instrument;

/// How many characters of git's own words an error carries.
const LONGEST: usize = 1000;

/// Git's words without blank lines and without more than a person reads.
pub(crate) fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let text = lines.join("; ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} [...]", &text[..end]),
        None => text,
    }
}

/// Turns an error of the system into one that says what was being done.
pub(crate) fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> WorktreeError {
    let doing = doing.into();
    move |source| WorktreeError::Io { doing, source }
}

/// The target can't be used.
pub(crate) fn target_error(message: impl Into<String>) -> WorktreeError {
    WorktreeError::Target { message: message.into() }
}

/// It can't be done without touching what is not ours.
pub(crate) fn refused(message: impl Into<String>) -> WorktreeError {
    WorktreeError::Refused { message: message.into() }
}

/// Going on would lose work.
pub(crate) fn would_lose(path: &Path, reason: impl Into<String>) -> WorktreeError {
    WorktreeError::WouldLoseWork { path: path.into(), reason: reason.into() }
}

/// Does work in a task of its own, so that it goes on to its end although the caller lost
/// interest: half of a change of a repository is worse than none.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, WorktreeError>> + Send + 'static,
) -> Result<T, WorktreeError> {
    if orch_faults::is_interleaved() {
        return work.await;
    }
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(WorktreeError::Other { source: cancelled.into() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_between_characters() {
        assert_eq!(shortened("fatal: no\n\n  hint: yes\n"), "fatal: no; hint: yes");
        let long = shortened(&"ä".repeat(3000));
        assert!(long.ends_with("ä [...]"));
        assert_eq!(long.chars().count(), LONGEST + 6);
    }

    #[tokio::test]
    async fn dropped_work_goes_on() {
        let (say, heard) = tokio::sync::oneshot::channel();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let mut work = Box::pin(to_the_end(async move {
            let _ = wait.await;
            let _ = say.send(7);
            Ok(())
        }));
        let poll =
            std::future::poll_fn(|cx| std::task::Poll::Ready(work.as_mut().poll(cx).is_pending()));
        assert!(poll.await);
        drop(work);
        go.send(()).unwrap();
        assert_eq!(heard.await, Ok(7));
    }
}

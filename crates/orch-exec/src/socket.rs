//! Lines of JSON over Unix sockets.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt},
    net::UnixStream,
};

/// The longest line, in bytes: the progress of 100,000 waiting tasks fits.
const LONGEST: u64 = 64 << 20;

/// The address of a socket may have 107 bytes only, and a repository may lie deeper than that. So
/// the folder is opened and the socket is addressed through it; the handle must live as long as
/// the address is used.
pub(crate) fn address(socket: &Path) -> io::Result<(fs::File, PathBuf)> {
    let folder = fs::File::open(socket.parent().unwrap_or(socket))?;
    let name = socket.file_name().unwrap_or_default();
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((folder, path))
}

/// Connects to a socket; `None` where nobody listens.
pub(crate) async fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    let connect = async {
        let (_folder, short) = address(path)?;
        UnixStream::connect(short).await
    };
    match connect.await {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    // It stopped listening in this moment.
                    | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A line that says `body`.
pub(crate) fn line(body: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(body)?;
    line.push(b'\n');
    Ok(line)
}

/// A line without its end; `None` at the end of the stream.
pub(crate) async fn read_line(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = stream.take(LONGEST).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
    }
    Ok(Some(line))
}

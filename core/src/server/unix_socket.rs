//! The file of a Unix socket: it replaces only a dead socket, and is removed only by the server that has created it.
//!
//! The socket is bound to its own path, not to a temporary one that is renamed, so that tools like `ss` show the path
//! that is configured. Mode and owner are set before the socket listens. Until then the system refuses all
//! connections, so no peer is admitted by a mode that is not the configured one.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf, absolute};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::runtime::config::Config;

/// The time for which a socket has to refuse connections to count as dead. A server that starts has bound its socket
/// shortly before it listens, and refuses connections in between.
const DEAD_AFTER: Duration = Duration::from_millis(100);

/// The file of a socket of this server. Dropping it removes the file, unless the path names another file by now.
///
/// It has to be dropped before the socket is closed. A server that starts meanwhile then finds a socket that is alive,
/// or no file, and never a dead socket whose file this server is about to remove.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute, because the program may change its directory.
    path: PathBuf,
    id: FileId,
}

/// The identity of a file, which no other file has while the file or a socket bound to it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The identity of the socket file at `path`.
    ///
    /// # Errors
    /// `NotFound` if there is no file, `AlreadyExists` if there is one of another type.
    fn of_socket(path: &Path) -> io::Result<FileId> {
        let file = fs::symlink_metadata(path)?;
        match file.file_type().is_socket() {
            true => Ok(FileId { device: file.dev(), inode: file.ino() }),
            false => {
                Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket exists there"))
            }
        }
    }
}

/// Binds a socket to `path` and listens, with the mode and the owner of `config`. Replaces a dead socket.
///
/// # Errors
/// `AddrInUse` if a process listens at the path, `AlreadyExists` if there is a file other than a socket, or another
/// error of the operating system.
pub(super) fn bind(path: &Path, config: &Config) -> io::Result<(Socket, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = new_socket()?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error);
        }
        remove_dead(path, &address)?;
        socket.bind(&address)?;
    }
    let file = SocketFile { path: absolute(path)?, id: FileId::of_socket(path)? };
    if config.unix_user.is_some() || config.unix_group.is_some() {
        lchown(path, config.unix_user, config.unix_group)?;
    }
    if let Some(mode) = config.unix_mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(config.backlog.into())?;
    Ok((socket, file))
}

/// Removes the file of a dead socket.
///
/// # Errors
/// As [`bind`], and `PermissionDenied` if this process may not find out whether the socket is alive.
fn remove_dead(path: &Path, address: &SockAddr) -> io::Result<()> {
    let id = FileId::of_socket(path)?;
    // The attempt does not block. If the queue of a server that is alive is full, it fails with `WouldBlock`.
    let is_dead = is_dead(|| new_socket()?.connect(address))?;
    // Another server may have replaced the dead socket by now.
    match is_dead && FileId::of_socket(path)? == id {
        true => fs::remove_file(path),
        false => Err(Errno::ADDRINUSE.into()),
    }
}

/// Whether a socket refuses connections for the time [`DEAD_AFTER`]. `connect` attempts a connection.
fn is_dead(connect: impl Fn() -> io::Result<()>) -> io::Result<bool> {
    for pause in [DEAD_AFTER, Duration::ZERO] {
        match connect().map_err(|error| (error.kind(), error)) {
            Err((io::ErrorKind::ConnectionRefused, _)) => thread::sleep(pause),
            Err((io::ErrorKind::PermissionDenied, error)) => return Err(error),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Creates a non-blocking Unix socket.
fn new_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if FileId::of_socket(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_socket_is_dead_if_it_refuses_connections_for_some_time() {
        use io::ErrorKind::{ConnectionRefused, PermissionDenied, WouldBlock};
        let verdict = |replies: [Option<io::ErrorKind>; 2]| {
            let attempts = Cell::new(0);
            let connect = || {
                attempts.set(attempts.get() + 1);
                replies[attempts.get() - 1].map_or(Ok(()), |kind| Err(kind.into()))
            };
            is_dead(connect).map_err(|error| error.kind())
        };
        assert_eq!(verdict([Some(ConnectionRefused), Some(ConnectionRefused)]), Ok(true));
        // A server that had bound its socket, and listens now.
        assert_eq!(verdict([Some(ConnectionRefused), None]), Ok(false));
        assert_eq!(verdict([None, None]), Ok(false));
        assert_eq!(verdict([Some(WouldBlock), None]), Ok(false));
        assert_eq!(verdict([Some(PermissionDenied), None]), Err(PermissionDenied));
    }
}

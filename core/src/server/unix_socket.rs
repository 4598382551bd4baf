//! The file of a Unix socket: it replaces only a dead socket, and is removed only by the server that has created it.
//!
//! The socket is bound to its own path, not to a temporary one that is renamed, so that tools like `ss` show the path
//! that is configured. Mode and owner are set before the socket listens. Until then the system refuses all
//! connections, so no peer is admitted by a mode that is not the configured one.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
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
    let file = SocketFile { path: path.to_owned(), id: FileId::of_socket(path)? };
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
    for pause in [DEAD_AFTER, Duration::ZERO] {
        // The attempt does not block, so it fails with `WouldBlock` if the queue of a server that is alive is full.
        match new_socket()?.connect(address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => thread::sleep(pause),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            _ => return Err(Errno::ADDRINUSE.into()),
        }
    }
    // Another server may have replaced the dead socket during the pause.
    match FileId::of_socket(path)? == id {
        true => fs::remove_file(path),
        false => Err(Errno::ADDRINUSE.into()),
    }
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

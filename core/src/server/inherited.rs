//! Inherited descriptors, of which only the number is known.
//!
//! Safe code cannot own a descriptor by its number. The process therefore sends the descriptor to itself through a pair
//! of sockets (`SCM_RIGHTS`) and owns the duplicate that it receives. `pidfd_getfd` would do the same in one call, but
//! containers forbid it.

use std::env;
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use socket2::{Domain, SockRef, Socket, Type};

/// The number of the first descriptor that systemd passes on.
const FIRST: RawFd = 3;

/// The numbers of the descriptors that systemd passes on to this process, with this name or with any (`sd_listen_fds`).
/// The environment is only read: other threads may read it at the same time.
///
/// # Errors
/// `NotFound` if there are none.
pub(super) fn of_systemd(name: Option<&str>) -> io::Result<Vec<RawFd>> {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_for_this_process = variable("LISTEN_PID") == std::process::id().to_string();
    let sockets =
        is_for_this_process.then(|| select(&variable("LISTEN_FDS"), &variable("LISTEN_FDNAMES"), name));
    sockets.filter(|numbers| !numbers.is_empty()).ok_or_else(|| {
        let why = match name {
            None => "systemd passes no sockets on (LISTEN_FDS, LISTEN_PID)".to_owned(),
            Some(name) => format!("systemd passes no socket on whose name is {name} (LISTEN_FDNAMES)"),
        };
        io::Error::new(io::ErrorKind::NotFound, why)
    })
}

/// The numbers of `count` descriptors that have this name in `names`.
fn select(count: &str, names: &str, name: Option<&str>) -> Vec<RawFd> {
    let count: u16 = count.parse().unwrap_or(0);
    let names = names.split(':').map(Some).chain(std::iter::repeat(None));
    let named = (FIRST..FIRST + RawFd::from(count)).zip(names);
    named.filter(|(_, of)| name.is_none_or(|name| *of == Some(name))).map(|(number, _)| number).collect()
}

/// Takes over an inherited descriptor: the number is closed, and the result is a duplicate that the processes which
/// this one starts do not inherit. A descriptor that this process has opened, with close-on-exec, stays open. `check`
/// decides whether the duplicate is what the caller expects; otherwise nothing is closed.
///
/// # Errors
/// The error of `check`, or that of the operating system: the number is not that of an open descriptor, or the process
/// may not open another one.
///
/// ```
/// use std::os::fd::AsRawFd;
///
/// use gearshift_core::inherited;
///
/// let (_reader, writer) = std::io::pipe()?;
/// let duplicate = inherited::take(writer.as_raw_fd(), |_| Ok(()))?;
/// assert_ne!(duplicate.as_raw_fd(), writer.as_raw_fd());
/// assert!(inherited::take(60_000, |_| Ok(())).is_err(), "there is no such descriptor");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn take(number: RawFd, check: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<OwnedFd> {
    let descriptor = duplicate(number)?;
    check(descriptor.as_fd())?;
    if is_inheritable(number) {
        close(number)?;
    }
    Ok(descriptor)
}

/// Takes over the listening socket with this descriptor number.
///
/// # Errors
/// `InvalidInput` if the descriptor is not a listening socket for byte streams, TCP or Unix; or another error of the
/// operating system.
pub(super) fn listening_socket(number: RawFd) -> io::Result<Socket> {
    let socket = take(number, |descriptor| {
        let socket = SockRef::from(&descriptor);
        if !is_stream_listener(&socket).unwrap_or(false) {
            let why = "not a socket that listens for connections";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        socket.set_nonblocking(true)
    });
    socket.map(Socket::from)
}

fn is_stream_listener(socket: &Socket) -> io::Result<bool> {
    let domain = Domain::from(i32::from(socket.local_addr()?.family()));
    let is_known = [Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&domain);
    Ok(is_known && socket.r#type()? == Type::STREAM && socket.is_listener()?)
}

/// Duplicates a descriptor.
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let (here, there) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let numbers = [number];
    let message = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(here.as_raw_fd(), &[IoSlice::new(&[0])], &message, MsgFlags::empty(), None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut received = RecvAncillaryBuffer::new(&mut space);
    recvmsg(there, &mut [IoSliceMut::new(&mut [0])], &mut received, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = received.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    // The system delivers a message without its descriptor if the process may not open another one.
    descriptor.ok_or_else(|| rustix::io::Errno::MFILE.into())
}

/// Whether a process that this one starts inherits the descriptor. If not, the descriptor has an owner in this process,
/// which has opened it: the standard library sets the flag for all descriptors. Without `/proc` the answer is no.
fn is_inheritable(number: RawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    // `SOCK_CLOEXEC` is `O_CLOEXEC` under another name.
    flags.is_some_and(|flags| flags & SocketFlags::CLOEXEC.bits() == 0)
}

/// Closes an inherited descriptor, of which the process has a duplicate. A standard stream becomes `/dev/null`, because
/// its number must not be given to another file.
fn close(number: RawFd) -> io::Result<()> {
    let null = || File::options().read(true).write(true).open("/dev/null");
    match number {
        0 => dup2_stdin(null()?)?,
        1 => dup2_stdout(null()?)?,
        2 => dup2_stderr(null()?)?,
        _ => nix::unistd::close(number)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_systemd_are_selected_by_name() {
        for (count, names, name, expected) in [
            ("", "", None, vec![]),
            ("0", "", None, vec![]),
            ("many", "", None, vec![]),
            ("-1", "", None, vec![]),
            ("99999999", "", None, vec![]),
            ("2", "", None, vec![3, 4]),
            ("2", "web:admin", None, vec![3, 4]),
            ("3", "web:admin:web", Some("web"), vec![3, 5]),
            ("3", "web", Some("web"), vec![3]),
            ("1", "web:web", Some("web"), vec![3]),
            ("2", "web:admin", Some("other"), vec![]),
        ] {
            assert_eq!(select(count, names, name), expected, "{count} {names} {name:?}");
        }
    }
}

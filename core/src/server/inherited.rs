//! Inherited listening sockets, of which only the number of the descriptor is known.
//!
//! Safe code cannot own a descriptor by its number. The process therefore sends the descriptor to itself through a pair
//! of sockets (`SCM_RIGHTS`) and owns the duplicate that it receives. `pidfd_getfd` would do the same in one call, but
//! containers forbid it.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use socket2::{Domain, Socket, Type};

/// Takes over the listening socket with this descriptor number. A process that this one starts does not inherit it.
///
/// # Errors
/// `InvalidInput` if the descriptor is not a listening socket for byte streams, TCP or Unix; or another error of the
/// operating system.
pub(super) fn listening_socket(number: RawFd) -> io::Result<Socket> {
    let socket = Socket::from(duplicate(number)?);
    if !is_stream_listener(&socket).unwrap_or(false) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket that listens for connections"));
    }
    socket.set_nonblocking(true)?;
    if is_inheritable(number) {
        close(number)?;
    }
    Ok(socket)
}

fn is_stream_listener(socket: &Socket) -> io::Result<bool> {
    let domain = Domain::from(i32::from(socket.local_addr()?.family()));
    let is_known = [Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&domain);
    Ok(is_known && socket.r#type()? == Type::STREAM && socket.is_listener()?)
}

/// Duplicates a descriptor.
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let (here, there) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let message = [ControlMessage::ScmRights(&[number])];
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

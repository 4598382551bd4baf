"""Closes the sockets of the server in processes that the application forks.

A forked process, such as a worker of a process pool, gets a copy of each descriptor. A connection that the server closes
would stay open for its client until that process ends, and a listening socket would stay bound.
"""

from __future__ import annotations

import os
import socket
import stat


def close_sockets_after_fork(addresses: list[tuple[str, int] | str]) -> None:
    """Makes forked processes close the sockets with these local addresses: host and port, or the path of a file."""
    ports = {address[1] for address in addresses if not isinstance(address, str)}
    paths = {address for address in addresses if isinstance(address, str)}
    os.register_at_fork(after_in_child=lambda: _close(ports, paths))


def _close(ports: set[int], paths: set[str]) -> None:
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and _is_of_server(descriptor, ports, paths):
                os.close(descriptor)
        except OSError:
            # The descriptor of the list itself is closed by now.
            continue


def _is_of_server(descriptor: int, ports: set[int], paths: set[str]) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        name = duplicate.getsockname()
    if isinstance(name, tuple):
        return name[1] in ports
    return name in paths

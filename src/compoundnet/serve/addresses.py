"""Addresses to listen on, and the names under which requests may ask for them."""

from __future__ import annotations

import errno
import ipaddress
import socket

from compoundnet.base import CompoundNetError

# This machine alone.
HOST = "127.0.0.1"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Args:
        host: An address of this machine or its name; 0.0.0.0 and :: are all of its addresses.
        port: The port; 0 selects a free one.

    Raises:
        CompoundNetError: The address or the port cannot be used.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise CompoundNetError(f"{host!r} cannot be listened on: {error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise CompoundNetError(
                f"port {port} is in use, perhaps by another `compoundnet serve`; --port takes another, and --port 0"
                " any that is free"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise CompoundNetError(f"{host} is no address of this machine; 0.0.0.0 stands for all of them") from error
        raise CompoundNetError(f"port {port} cannot be used: {error.strerror or error}") from error
    return listening


def is_private(host: str) -> bool:
    """Return whether only this machine can reach an address.

    Raises:
        CompoundNetError: The address is unknown.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CompoundNetError(f"{host!r} is no address of this machine: {error}") from error
    return all(ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback for *_, where in found)


def own_hosts(host: str, port: int) -> tuple[str, ...]:
    """Return what the header Host may say of a request to an address of this machine alone."""
    names = dict.fromkeys((f"[{host}]" if ":" in host else host, HOST, "localhost"))
    return tuple(f"{name}:{port}" for name in names) + (tuple(names) if port == 80 else ())

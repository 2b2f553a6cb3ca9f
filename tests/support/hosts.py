"""Two hosts on this machine: network namespaces with addresses of their own, joined by a bridge that can be cut.

Only root can make them. The file system is common to both, as on a cluster with a shared folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_BRIDGE, _NETWORK = "cn-bridge", "10.77.31"


class Host:
    """One of the hosts.

    Attributes:
        name: The name of its namespace.
        address: Its address, which the other host and this process reach.
    """

    def __init__(self, number: int) -> None:
        self.name, self.address, self._link = f"cn-host{number}", f"{_NETWORK}.{number}", f"cn-link{number}"

    @property
    def inside(self) -> list[str]:
        """The words before a command that is to run there."""
        return ["ip", "netns", "exec", self.name]

    def start(self, command: Sequence[str | Path], env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a command there, with its output as text."""
        words = [*self.inside, *map(str, command)]
        return subprocess.Popen(
            words,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cut(self) -> None:
        """Take its cable out: packets are lost, and nobody is told."""
        _ip("link", "set", self._link, "down")

    def mend(self) -> None:
        """Put the cable back."""
        _ip("link", "set", self._link, "up")

    def crash(self) -> None:
        """Kill every process there, as when the power fails."""
        for pid in subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        ).stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)

    def open(self) -> None:
        """Make it."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", self._link, "master", _BRIDGE, "up")
        for words in (("addr", "add", f"{self.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up"),
                      ("link", "set", "lo", "up")):  # fmt: skip
            _ip("-n", self.name, *words)

    def close(self) -> None:
        """Kill what still runs there, and remove it."""
        self.crash()
        _ip("netns", "del", self.name)


def missing() -> str | None:
    """Why no hosts can be made here; None if they can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "the program ip is not installed (Debian: apt-get install iproute2)"
    add = ["ip", "link", "add", "name", _BRIDGE, "type", "bridge"]
    done = subprocess.run(add, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"network namespaces cannot be made here: {done.stderr.strip()}"
    _ip("link", "del", _BRIDGE)
    return None


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts on one network with this process."""
    with contextlib.ExitStack() as stack:
        _ip("link", "add", "name", _BRIDGE, "type", "bridge")
        stack.callback(_ip, "link", "del", _BRIDGE)
        _ip("addr", "add", f"{_NETWORK}.254/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        hosts = Host(1), Host(2)
        for host in hosts:
            host.open()
            stack.callback(host.close)
        yield hosts


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

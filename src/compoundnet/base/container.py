"""What a container may use of its machine: the limits of Linux's control groups, versions 1 and 2.

`docker run --cpus 2` leaves all cores visible and stops a process that uses more than two for a part of each tenth of a
second, so that threads for all cores are slower than two. Neither Python nor psutil looks at these limits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cpu_quota() -> float | None:
    """Return how many cores' time the process may use, such as 1.5; None without a limit."""
    found = []
    for group in _groups("cpu"):
        match _read(group / "cpu.max").split():
            case [quota, period] if quota != "max":
                found.append(int(quota) / int(period))
        with contextlib.suppress(ValueError):
            time, of = (int(_read(group / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
            found += [time / of] if time > 0 else []
    return min(found, default=None)


def memory_left() -> int | None:
    """Return the bytes that the process may still take, with the files that are only cached; None without a limit."""
    found = []
    for group in _groups("memory"):
        names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
        for limit, used in names:
            with contextlib.suppress(ValueError):  # "max", or no such file
                taken = int(_read(group / used)) - _cached(group)
                found.append(max(0, int(_read(group / limit)) - taken))
    return min(found, default=None)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the groups of the process for a controller, and those above them, whose limits hold too."""
    for line in _read(_OWN).splitlines():
        number, controllers, name = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        mount = _ROOT if number == "0" else _ROOT / controller
        inside = (mount / name.lstrip("/")).relative_to(mount)
        yield from (mount / part for part in (inside, *inside.parents))


def _cached(group: Path) -> int:
    """The bytes of files that the system drops when memory is needed."""
    stated = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    return int(stated.get("inactive_file", 0))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""

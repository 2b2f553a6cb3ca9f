"""The bearer token of the service, and the rule that it has one on every address that others can reach."""

from __future__ import annotations

import hmac
import os
import re
import stat
from pathlib import Path

from compoundnet.base import CompoundNetError
from compoundnet.base.inputs import read_file
from compoundnet.serve.addresses import is_private

_SHORTEST, _BYTES = 16, 4096
# RFC 6750, section 2.1: b64token.
_FORM = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_MAKE = "`openssl rand -hex 32` makes one"


class Token:
    """A secret that a client sends as `Authorization: Bearer TOKEN`. Its text appears in no message.

    Args:
        secret: The token.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "<Token>"

    def admits(self, authorization: str | None) -> bool:
        """Return whether the value of the header Authorization holds the token; takes the same time for any other."""
        scheme, _, given = (authorization or "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._secret)
        return same and scheme.lower() == "bearer"


def read_token(path: Path) -> Token:
    """Read a token from a file that only its owner can read, or that the system gives to this process alone.

    Raises:
        CompoundNetError: The file cannot be read, others can read or replace it, or it holds no token.
    """
    content = read_file(path, _BYTES).strip()
    found = path.stat()
    if os.name == "posix":
        others = found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        if others and not (others == stat.S_IRGRP and _is_given(path, found)):
            raise CompoundNetError(
                f"{path}: others can read the token (mode {stat.S_IMODE(found.st_mode):04o}); `chmod 600 {path}` leaves"
                " it to its owner, and the token should be replaced"
            )
        if found.st_uid not in (0, os.geteuid()):
            raise CompoundNetError(f"{path}: belongs to another user, who can replace the token")
    if not content:
        raise CompoundNetError(f"{path}: is empty; it must hold a token, and {_MAKE}")
    if not _FORM.fullmatch(content):
        raise CompoundNetError(
            f"{path}: must hold one token, on one line, of letters, digits and the characters - . _ ~ + / only; {_MAKE}"
        )
    if len(content) < _SHORTEST:
        raise CompoundNetError(
            f"{path}: the token has {len(content)} characters, and {_SHORTEST} are the least; {_MAKE}"
        )
    return Token(content)


def _is_given(path: Path, found: os.stat_result) -> bool:
    """Whether a file that its group can read was given to this process.

    systemd (254 and later) gives a service its credentials by an access control list, which shows as permission of the
    group. Kubernetes gives a pod its secrets as files of root, readable by the pod's `fsGroup`.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and path.resolve().is_relative_to(Path(folder).resolve()):
        return True
    return found.st_uid == 0 and found.st_gid in (os.getegid(), *os.getgroups())


def check_address(host: str, token: Token | None) -> None:
    """Raise a CompoundNetError if others can reach an address and there is no token, or the address is unknown."""
    if token is None and not is_private(host):
        raise CompoundNetError(
            f"other machines can reach {host}, so the service needs a token there: --token-file FILE ({_MAKE})"
        )

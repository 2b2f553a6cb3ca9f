"""A PostgreSQL server of one's own: a free port, a temporary folder, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

USER, PASSWORD = "tester", "correct horse/7"


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`: Debian keeps it out of PATH."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(found) if (folder / "postgres").exists()), None)


@contextlib.contextmanager
def server(address: str = "127.0.0.1", inside: Sequence[str] = ()) -> Iterator[str]:
    """Its HOST:PORT while it runs. It refuses to run as root, so root lends it the user that the package made.

    `inside` are the words before its command, of a host that has the address.
    """
    binaries = programs()
    assert binaries is not None
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        if as_user:
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")
        data = folder / "data"
        subprocess.run(
            [*as_user, binaries / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        if address != "127.0.0.1":
            with (data / "pg_hba.conf").open("a") as file:
                file.write("host all all samenet scram-sha-256\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [*inside, *as_user, binaries / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", address, "-F"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        try:
            _wait(address, port, process)
            yield f"{address}:{port}"
        finally:
            process.send_signal(2)  # "fast shutdown"
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(address: str, port: int, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(300):
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(
                host=address, port=port, user=USER, password=PASSWORD, dbname="postgres", connect_timeout=5
            ).close()
            return
        time.sleep(0.1)
    raise AssertionError("the server did not start in 30 s")

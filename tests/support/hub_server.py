"""A stand-in for the Hugging Face hub on this machine: repositories in memory, fetched and pushed over HTTP.

It answers as the hub does what huggingface_hub asks to fetch a model, to make a repository and to push a commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_test"
_LARGE = 10_000  # bytes, from which a file is uploaded on its own


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: The content of each file, by repository and path.
        private: Repositories that exist only with the token.
        requests: Method and path of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str) -> str:
        """The commit of a repository's content."""
        digest = hashlib.sha1(name.encode(), usedforsecurity=False)
        for path, content in sorted(self.repositories[name].items()):
            digest.update(path.encode() + content)
        return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        self.server.requests.append(f"{self.command} {self.path}")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            if self._exists(found[1]):
                self._json(self._info(found[1]))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if self._exists(found[1]):
                self._file(found[1], found[3])
        else:
            self._error(404, "EntryNotFound", path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, "", "Invalid username or password.")
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self._json({"url": f"{self.server.address}/{name}", "name": name})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/.+", self.path.partition("?")[0]):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] > _LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.server.address}/upload/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/.+", self.path.partition("?")[0]):
            self._commit(found[1], body)
        else:
            self._error(404, "", self.path)

    def do_PUT(self) -> None:
        self.server.uploads[self.path.rpartition("/")[2]] = b"".join(self._chunks())
        self._json({})

    def _chunks(self) -> Iterator[bytes]:
        """The body, of a stated length or in chunks."""
        if "Content-Length" in self.headers:
            yield self.rfile.read(int(self.headers["Content-Length"]))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _commit(self, name: str, body: bytes) -> None:
        files = self.server.repositories[name]
        for line in body.splitlines():
            value = json.loads(line)["value"]
            match json.loads(line)["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.uploads[value["oid"]]
        commit = self.server.commit(name)
        page = f"{self.server.address}/{name}/commit/{commit}"
        self._json({"success": True, "commitUrl": page, "commitOid": commit, "hookOutput": ""})

    def _exists(self, name: str) -> bool:
        allowed = name not in self.server.private or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if name in self.server.repositories and allowed:
            return True
        self._error(401 if not self.headers.get("Authorization") else 404, "RepoNotFound", "Repository not found")
        return False

    def _info(self, name: str) -> dict[str, object]:
        files = [{"rfilename": path} for path in self.server.repositories[name]]
        return {"id": name, "sha": self.server.commit(name), "private": False, "tags": [], "siblings": files}

    def _file(self, name: str, path: str) -> None:
        content = self.server.repositories[name].get(path)
        if content is None:
            self._error(404, "EntryNotFound", f"{path} is not there")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", self.server.commit(name))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _error(self, code: int, kind: str, message: str) -> None:
        content = json.dumps({"error": message}).encode()
        self.send_response(code)
        if kind:
            self.send_header("X-Error-Code", kind)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running() -> Iterator[Hub]:
    """A server while the block runs."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()

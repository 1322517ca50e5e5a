"""A small Hub on loopback: repositories, commits, large files and access tokens, over real HTTP.

It answers the requests that huggingface_hub makes to create a repository, upload a folder, list it and download it;
large files go by the basic Git LFS protocol. Clients find it through the variables of `FakeHub.environment`, which are
read when huggingface_hub is imported: they run in processes of their own, or as this one within `FakeHub.client`.
"""

import base64
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import huggingface_hub


LARGE_SUFFIXES = (".safetensors", ".bin", ".png")
CHUNK = 1 << 20
PUSH = """
import runpy, sys, time
time.sleep = lambda seconds: None  # between the client's own retries
push_folder = runpy.run_path("difface_diffusers/hub/push.py")["push_folder"]  # without the seconds that diffusers takes
print(push_folder(*sys.argv[1:3], private="--private" in sys.argv))
"""


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit: where its content lies, its size, and its hash as Git (small) or LFS (large) has it."""

    content: Path
    size: int
    oid: str
    large: bool


@dataclass
class Repository:
    """Commits by hash, each the files by path, and the names of some commits."""

    private: bool
    commits: dict[str, dict[str, StoredFile]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision):
        """Return the hash of a branch, tag or hash, or `None`."""
        return self.names.get(revision) or (revision if revision in self.commits else None)

    def commit(self, files):
        """Append a commit to `main` and return its hash."""
        listing = "".join(f"{path} {file.oid}\n" for path, file in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)}\n{listing}".encode()).hexdigest()
        self.commits[sha] = files
        self.names["main"] = sha
        return sha


def read_environment():
    """Let huggingface_hub read its variables again, and forget its connections."""
    importlib.reload(huggingface_hub.constants)
    huggingface_hub.hf_api.api.endpoint = huggingface_hub.constants.ENDPOINT
    huggingface_hub.close_session()


class FakeHub(ThreadingHTTPServer):
    """The server; a context manager that stops it.

    Attributes:
        url: the endpoint.
        requests: (method, path, status) of everything that was answered, in order.
        repositories: by id.
        break_upload: number of the large upload, counted from 1, whose connection is cut in the middle from now on.
    """

    daemon_threads = True

    def __init__(self, root, tokens=("hf_right",)):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.root = Path(root)
        self.tokens = tokens
        self.repositories = {}
        self.requests = []
        self.break_upload = None
        self.uploads = 0
        self.lock = threading.Lock()

    def __enter__(self):
        (self.root / "objects").mkdir(parents=True)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args):
        self.stop()

    def stop(self):
        """Stop serving; harmless when repeated."""
        self.shutdown()
        self.server_close()

    def environment(self, home, token=None):
        """Return the environment of a client process whose caches lie in the folder `home`."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HF_") and "proxy" not in name.lower()
        }
        return inherited | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            **({"HF_TOKEN": token} if token else {}),
        }

    @contextmanager
    def client(self, home, token=None, **changes):
        """Let this process be a client with the variables of `environment`, changed; it does not wait to try anew."""
        try:
            with (
                patch.dict(os.environ, self.environment(home, token) | changes, clear=True),
                patch.object(time, "sleep", lambda seconds: None),
            ):
                read_environment()
                yield
        finally:
            read_environment()

    def push(self, folder, repo_id, *flags, home, token="hf_right"):
        """Run `push_folder` in a process of its own and return that."""
        return subprocess.run(
            [sys.executable, "-c", PUSH, str(folder), repo_id, *flags],
            env=self.environment(home, token),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )

    def add(self, folder, repo_id, private=False):
        """Make a repository of a folder without a client."""
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                files[name] = self.store(path.read_bytes(), large=name.endswith(LARGE_SUFFIXES))
        self.repositories[repo_id] = Repository(private)
        self.repositories[repo_id].commit(files)

    def requested(self, method, pattern):
        """Return the paths of the answered requests of a method whose path matches a regular expression."""
        return [path for made, path, _ in self.requests if made == method and re.search(pattern, path)]

    def object_path(self, oid):
        """Return where the content with a hash is, or would be, stored."""
        return self.root / "objects" / oid

    def store(self, content, large=False):
        """Store a file, hashed as Git does, or as LFS does the large ones."""
        git = hashlib.sha1(b"blob %d\0" % len(content) + content)
        oid = (hashlib.sha256(content) if large else git).hexdigest()
        self.object_path(oid).write_bytes(content)
        return StoredFile(self.object_path(oid), len(content), oid, large)


class HubHandler(BaseHTTPRequestHandler):
    """Answers one request: the first of `ROUTES` that fits calls its method with the named parts of the path."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle_request(self):
        path = unquote(urlsplit(self.path).path)
        for method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if method == self.command and match:
                answer(self, **match.groupdict())
                return
        self.send_json(404, {"error": f"no such endpoint: {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def send_json(self, status, content, **headers):
        self.send_bytes(status, json.dumps(content).encode(), **{"Content-Type": "application/json", **headers})

    def send_bytes(self, status, content, **headers):
        self.start_answer(status, len(content), headers)
        if self.command != "HEAD":
            self.wfile.write(content)

    def start_answer(self, status, length, headers):
        self.server.requests.append((self.command, self.path, status))
        self.send_response(status)
        for name, value in {"Content-Length": length, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send_failure(self, status, code, message):
        self.send_json(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    def body(self):
        """Yield the request's body in pieces; it may be sent in chunks."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, CHUNK))
            left -= len(piece)
            yield piece

    def json_body(self):
        return json.loads(b"".join(self.body()) or b"{}")

    def has_access(self):
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.server.tokens

    def repository(self, repo):
        """Return a repository, or answer 404 as if a private one did not exist and return `None`."""
        found = self.server.repositories.get(repo)
        if found is None or (found.private and not self.has_access()):
            self.send_failure(404 if self.has_access() else 401, "RepoNotFound", "Repository not found")
            return None
        return found

    def commit_of(self, repo, revision):
        """Return a repository and the hash of a commit, or answer 404 and return `None` for both."""
        repository = self.repository(repo)
        sha = repository.resolve(revision) if repository else None
        if repository and sha is None:
            self.send_failure(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return (repository, sha) if sha else (None, None)

    # Accounts and repositories

    def who_am_i(self):
        self.send_json(*((200, {"name": "org", "type": "user"}) if self.has_access() else (401, {"error": "token"})))

    def create(self):
        wanted = self.json_body()
        if not self.has_access():
            self.send_failure(401, "InvalidToken", "Invalid username or password.")
            return
        repo = f"{wanted.get('organization') or 'org'}/{wanted['name']}"
        private = wanted.get("private") or wanted.get("visibility") == "private"
        status = 409 if repo in self.server.repositories else 200
        if status == 200:
            self.server.repositories[repo] = Repository(private=bool(private))
            self.server.repositories[repo].commit({})
        self.send_json(status, {"url": f"{self.server.url}/{repo}", "name": repo})

    def validate_yaml(self):
        self.json_body()
        self.send_json(200, {"errors": [], "warnings": []})

    # Upload

    def preupload(self, repo, revision):
        wanted = self.json_body()
        repository, sha = self.commit_of(repo, revision)
        if repository is None:
            return
        stored = repository.commits[sha]
        answers = []
        for file in wanted["files"]:
            large = file["path"].endswith(LARGE_SUFFIXES)
            answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if file["path"] in stored:
                answer["oid"] = stored[file["path"]].oid
            answers.append(answer)
        self.send_json(200, {"files": answers})

    def lfs_batch(self, repo):
        wanted = self.json_body()
        if self.repository(repo) is None:
            return
        objects = []
        for entry in wanted["objects"]:
            answer = {"oid": entry["oid"], "size": entry["size"]}
            if not self.server.object_path(entry["oid"]).exists():
                href = f"{self.server.url}/lfs/{entry['oid']}"
                answer["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(answer)
        self.send_json(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        with self.server.lock:
            self.server.uploads += 1
            broken = self.server.break_upload is not None and self.server.uploads >= self.server.break_upload
        target = self.server.object_path(oid)
        arriving = target.with_name(f"{oid}.{threading.get_ident()}")
        hashed = hashlib.sha256()
        with arriving.open("wb") as file:
            for piece in self.body():
                hashed.update(piece)
                file.write(piece)
                if broken:
                    self.server.requests.append((self.command, self.path, None))
                    self.close_connection = True
                    self.connection.close()
                    arriving.unlink()
                    return
        if hashed.hexdigest() != oid:
            arriving.unlink()
            self.send_json(400, {"error": "hash differs"})
            return
        arriving.rename(target)
        self.send_bytes(200, b"")

    def lfs_verify(self, oid):
        wanted = self.json_body()
        stored = self.server.object_path(oid)
        whole = stored.exists() and stored.stat().st_size == wanted["size"]
        self.send_json(200 if whole else 404, {})

    def commit(self, repo, revision):
        lines = [json.loads(line) for line in b"".join(self.body()).splitlines()]
        repository, sha = self.commit_of(repo, revision)
        if repository is None:
            return
        files = dict(repository.commits[sha])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = self.server.store(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                content = self.server.object_path(value["oid"])
                files[value["path"]] = StoredFile(content, content.stat().st_size, value["oid"], large=True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files)
        self.send_json(200, {"commitUrl": f"{self.server.url}/{repo}/commit/{sha}", "commitOid": sha})

    # Download

    def info(self, repo, revision="main"):
        repository, sha = self.commit_of(repo, revision)
        if repository is None:
            return
        siblings = [
            {"rfilename": path, "size": file.size, "blobId": file.oid, **_lfs(file)}
            for path, file in repository.commits[sha].items()
        ]
        self.send_json(200, {"id": repo, "sha": sha, "private": repository.private, "siblings": siblings})

    def tree(self, repo, revision):
        repository, sha = self.commit_of(repo, revision)
        if repository is None:
            return
        files = repository.commits[sha]
        self.send_json(
            200,
            [
                {"type": "file", "path": path, "size": file.size, "oid": file.oid, **_lfs(file)}
                for path, file in files.items()
            ],
        )

    def download(self, repo, revision, path):
        repository, sha = self.commit_of(repo, revision)
        if repository is None:
            return
        file = repository.commits[sha].get(path)
        if file is None:
            headers = {"X_Error_Code": "EntryNotFound", "X_Error_Message": "Entry not found", "X_Repo_Commit": sha}
            self.send_json(404, {"error": "Entry not found"}, **headers)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]), file.size - 1) if wanted and wanted[2] else file.size - 1
        headers = {"X_Repo_Commit": sha, "ETag": f'"{file.oid}"', "Accept_Ranges": "bytes"}
        if file.large:
            headers |= {"X_Linked_Etag": f'"{file.oid}"', "X_Linked_Size": file.size}
        if wanted:
            headers["Content_Range"] = f"bytes {first}-{last}/{file.size}"
        self.start_answer(206 if wanted else 200, last - first + 1, headers)
        if self.command == "GET":
            with file.content.open("rb") as content:
                content.seek(first)
                if wanted:
                    self.wfile.write(content.read(last - first + 1))
                else:
                    shutil.copyfileobj(content, self.wfile, CHUNK)


def _lfs(file):
    return {"lfs": {"oid": file.oid, "sha256": file.oid, "size": file.size, "pointerSize": 134}} if file.large else {}


REPO, REVISION = r"(?P<repo>[\w.-]+/[\w.-]+)", r"(?P<revision>[^/]+)"
ROUTES = (
    ("GET", "/api/whoami-v2", HubHandler.who_am_i),
    ("POST", "/api/repos/create", HubHandler.create),
    ("POST", "/api/validate-yaml", HubHandler.validate_yaml),
    ("POST", f"/api/models/{REPO}/preupload/{REVISION}", HubHandler.preupload),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", HubHandler.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", HubHandler.lfs_put),
    ("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", HubHandler.lfs_verify),
    ("POST", f"/api/models/{REPO}/commit/{REVISION}", HubHandler.commit),
    ("GET", f"/api/models/{REPO}", HubHandler.info),
    ("GET", f"/api/models/{REPO}/revision/{REVISION}", HubHandler.info),
    ("GET", f"/api/models/{REPO}/tree/{REVISION}", HubHandler.tree),
    ("HEAD", f"/{REPO}/resolve/{REVISION}/(?P<path>.+)", HubHandler.download),
    ("GET", f"/{REPO}/resolve/{REVISION}/(?P<path>.+)", HubHandler.download),
)

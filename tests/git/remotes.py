"""Remotes that a repository can be reached through."""

from __future__ import annotations

import base64
import getpass
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.kubernetes.prepare import install
from tests.ports import free_port

USER, PASSWORD = "jobs", "pa55-word"
PERSON = {
    "GIT_AUTHOR_NAME": "A Person",
    "GIT_AUTHOR_EMAIL": "person@x",
    "GIT_COMMITTER_NAME": "A Person",
    "GIT_COMMITTER_EMAIL": "person@x",
}
NO_CONFIG = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


def git(folder: Path, *words: str, check: bool = True, **env: str) -> str:
    """What git prints, for a person in a folder."""
    done = subprocess.run(["git", *words], cwd=folder, check=False, capture_output=True, env={**os.environ, **PERSON, **NO_CONFIG, **env})
    if check and done.returncode:
        raise AssertionError(f"git {' '.join(words)}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="surrogateescape")


class Person:
    """Somebody with a clone of their own, who commits and pushes."""

    def __init__(self, remote: Path, folder: Path) -> None:
        git(folder.parent, "clone", "--quiet", str(remote), folder.name)
        self.folder = folder

    def write(self, path: str, content: str | bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def push(self, message: str = "work") -> str:
        """Commits everything and pushes; the commit's id."""
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "--quiet", "-m", message)
        git(self.folder, "push", "--quiet", "origin", "HEAD:main")
        return git(self.folder, "rev-parse", "HEAD").strip()

    def pull(self) -> None:
        git(self.folder, "pull", "--quiet", "--rebase", "origin", "main")

    def move(self, source: str, target: str) -> None:
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        git(self.folder, "mv", source, target)


def tree(remote: Path) -> dict[str, str]:
    """What lies in the remote's main branch: file name to folder, without .gitkeep."""
    paths = git(remote, "ls-tree", "-r", "-z", "--name-only", "main").split("\0")
    return {path.rpartition("/")[2]: path.rpartition("/")[0] for path in paths if path and not path.endswith(".gitkeep")}


def subjects(remote: Path) -> list[str]:
    """The first lines of its commits, the newest first."""
    return git(remote, "log", "--format=%s", "main").splitlines()


# --- ssh ---


def find_sshd() -> str:
    """The path of sshd, installed where we may; '' when there is none."""
    known = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if known is None:
        install(["openssh-server", "openssh-client"])
        known = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return known or ""


@contextmanager
def ssh(folder: Path) -> Iterator[tuple[str, Path]]:
    """An sshd on loopback with a key of its own: yields the address' beginning, and the private key that it lets in."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    port = free_port()
    config = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'authorized'}",
        f"PidFile {folder / 'pid'}",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin yes",
    ]
    (folder / "config").write_text("\n".join(config) + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([find_sshd(), "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
    try:
        until_open(port)
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}", folder / "user"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def ssh_agent(folder: Path, key: Path) -> Iterator[str]:
    """An agent that holds a key: yields its socket."""
    path = folder / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        assert agent.stdout.readline().startswith(b"SSH_AUTH_SOCK="), "the agent did not start"  # said once it listens
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(path)})
        yield str(path)
    finally:
        agent.terminate()
        agent.communicate()


def until_open(port: int) -> None:
    """Returns once somebody listens."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError(f"nobody listens on port {port}")


# --- HTTP ---


@contextmanager
def http(root: Path, context: ssl.SSLContext | None = None, password: str = PASSWORD) -> Iterator[str]:
    """git's own HTTP backend for the repositories in a folder, behind a password; `context`: over TLS."""
    backend = Path(subprocess.check_output(["git", "--exec-path"], text=True).strip()) / "git-http-backend"
    expected = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()

    class Backend(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            if self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="jobs"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                body = b""
                while size := int(self.rfile.readline().strip(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            env = {
                **os.environ,
                **NO_CONFIG,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_USER": USER,
            }
            done = subprocess.run([backend], input=body, capture_output=True, env=env, check=False)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = [line.partition(": ")[::2] for line in head.decode().split("\r\n")]
            status = next((value for name, value in headers if name == "Status"), "200 OK")
            self.send_response(int(status.split()[0]))
            for name, value in headers:
                if name and name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve  # noqa: N815 - as the library wants them

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    if context is not None:  # who never ends their handshake holds up a thread, not the server
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

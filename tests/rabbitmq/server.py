"""A RabbitMQ node of the tests' own: its own name, folder, ports and epmd, so that several run beside each other and beside a machine's own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.kubernetes import prepare
from tests.ports import free_port

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_WITHIN = 90.0
USER = PASSWORD = "guest"


def ready() -> str:
    """An empty string when a broker can be started here; else why not, with the line that would mend it."""
    if not PROGRAM.exists():
        prepare.install(["rabbitmq-server"])
    if not PROGRAM.exists():
        return "there is no RabbitMQ: apt-get install rabbitmq-server"
    return "" if shutil.which("epmd") else "Erlang's epmd is missing: apt-get install erlang-base"


@dataclass(frozen=True, kw_only=True)
class VirtualHost:
    """A virtual host of a test's own."""

    broker: Broker
    name: str

    @property
    def url(self) -> str:
        """Its address, with a user that may do everything."""
        return self.as_user(USER, PASSWORD)

    def as_user(self, user: str, password: str) -> str:
        return f"amqp://{quote(user)}:{quote(password)}@127.0.0.1:{self.broker.port}/{quote(self.name, safe='')}"

    def add_user(self, name: str, password: str, *, configure: str = "^$", write: str = "^$", read: str = "^$") -> str:
        """A user with these rights here; says its address."""
        self.broker.ask("PUT", f"/api/users/{name}", {"password": password, "tags": ""})
        rights = {"configure": configure, "write": write, "read": read}
        self.broker.ask("PUT", f"/api/permissions/{quote(self.name, safe='')}/{name}", rights)
        return self.as_user(name, password)

    def declare(self, queue: str, **arguments: Any) -> None:
        """A durable queue with these arguments (`x_max_length=...`)."""
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.broker.ask("PUT", self._of(queue), {"durable": True, "auto_delete": False, "arguments": given})

    def delete(self, queue: str) -> None:
        self.broker.ask("DELETE", self._of(queue))

    def purge(self, queue: str) -> None:
        self.broker.ask("DELETE", f"{self._of(queue)}/contents")

    def publish(self, queue: str, body: bytes, properties: Mapping[str, Any] | None = None) -> None:
        """A message with no property but these: aio-pika gives each an id."""
        payload = base64.b64encode(body).decode()
        message = {"properties": dict(properties or {}), "routing_key": queue, "payload": payload, "payload_encoding": "base64"}
        assert self.broker.ask("POST", f"/api/exchanges/{quote(self.name, safe='')}/amq.default/publish", message)["routed"]

    def take_all(self, queue: str) -> list[dict[str, Any]]:
        """All that waits there; nothing of a queue that is missing."""
        asked = {"count": 1000, "ackmode": "ack_requeue_false", "encoding": "base64"}
        try:
            found: list[dict[str, Any]] = self.broker.ask("POST", f"{self._of(queue)}/get", asked)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return []
        return found

    def _of(self, queue: str) -> str:
        return f"/api/queues/{quote(self.name, safe='')}/{quote(queue, safe='')}"


@dataclass(eq=False, kw_only=True)
class Broker:
    """A node that runs."""

    folder: Path
    port: int
    admin: int
    """The port of its HTTP API."""
    env: Mapping[str, str]
    node: subprocess.Popen[bytes] | None = None

    def create_virtual_host(self) -> VirtualHost:
        found = VirtualHost(broker=self, name=f"t/{uuid.uuid4().hex[:8]}")
        self.ask("PUT", f"/api/vhosts/{quote(found.name, safe='')}")
        self.ask("PUT", f"/api/permissions/{quote(found.name, safe='')}/{USER}", {"configure": ".*", "write": ".*", "read": ".*"})
        return found

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One call of its HTTP API."""
        token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        data = None if body is None and method != "PUT" else json.dumps(body or {}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def control(self, *words: str) -> str:
        """`rabbitmqctl`, for what the HTTP API can't do. Takes a second or two."""
        done = subprocess.run(
            ["/usr/lib/rabbitmq/bin/rabbitmqctl", *words], env=dict(self.env), check=True, capture_output=True, timeout=60
        )
        return done.stdout.decode()

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self.node = subprocess.Popen(
                [str(PROGRAM)], env=dict(self.env), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        end = time.monotonic() + START_WITHIN
        while True:
            try:
                self.ask("GET", "/api/overview")
                return
            except (OSError, urllib.error.URLError):
                if self.node.poll() is not None or time.monotonic() > end:
                    told = (self.folder / "output").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"RabbitMQ did not start: {told}") from None
                time.sleep(0.1)

    def kill(self) -> None:
        """At once, as a machine that loses power; `start` begins it again with what was on its disk."""
        if self.node is not None and self.node.poll() is None:
            os.killpg(self.node.pid, signal.SIGKILL)
            self.node.wait()


@contextmanager
def open_broker(folder: Path) -> Iterator[Broker]:
    """A broker that ends with the context, and with this process, however that ends."""
    port, admin, dist, names = (free_port() for _ in range(4))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.default = 127.0.0.1:{port}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {admin}\n"
        "log.console = true\nlog.console.level = warning\nlog.file = false\nvm_memory_high_watermark.absolute = 400MB\ndisk_free_limit.absolute = 10MB\n"
        "management_agent.disable_metrics_collector = false\ncollect_statistics_interval = 1000\n"
    )
    (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"t{port}@localhost",
        "RABBITMQ_BASE": str(folder),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_DIST_PORT": str(dist),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
    }
    broker = Broker(folder=folder, port=port, admin=admin, env=env)
    with subprocess.Popen(["epmd", "-port", str(names), "-address", "127.0.0.1"], env=env) as directory:
        try:
            broker.start()
            with _guard(broker, directory.pid):
                yield broker
        finally:
            broker.kill()
            directory.kill()


@contextmanager
def _guard(broker: Broker, directory: int) -> Iterator[None]:
    """Ends the node when this process is gone: the guard reads to the end of what we hold open."""
    words = ["sh", "-c", 'cat > /dev/null; kill -9 "$(cat "$0")" "$1"', str(broker.folder / "pid"), str(directory)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as guard:
        try:
            yield
        finally:
            guard.kill()

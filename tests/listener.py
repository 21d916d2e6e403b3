"""The service's port with a trigger that nobody runs, as a process of its own: `python -m tests.listener FOLDER [NAME=SECONDS...]` prints
its port, and serves until its input ends. What is told of a push is printed as `look`."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from prometheus_client import CollectorRegistry

from jobyard.engine.clock import SystemClock
from jobyard.port import MIB, App, Bounds, Contained, listening
from jobyard.service.git import source_of
from jobyard.service.options import GitOptions, ServeOptions
from jobyard.service.served import Served
from jobyard.service.settings import GitSettings, TriggerSettings
from jobyard.supervise import Report
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.repository import Repository, Source
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger
from jobyard.web.app import Held, make_app
from jobyard.web.hooks import add_webhooks

_ROOT = Path(__file__).parents[1]
SECRET = "webhook-s3cret"


def make_trigger(folder: Path) -> GitTrigger:
    """A trigger that nobody runs: it is only told of pushes."""
    source = Source(folder=folder, branch="main", remote="origin")
    return GitTrigger(Repository(source), Settings(policy=Policy(default_namespace="default")), "https://example.com/jobs.git")


class Leader:
    """Hands what it hears to its triggers, as a service does that leads."""

    def __init__(self, secret: str, *triggers: GitTrigger) -> None:
        self.served: dict[str, Served] = {}
        for trigger in triggers:
            source = GitSettings(git=GitOptions(), serve=ServeOptions(), poll=trigger.settings.poll, webhook_secret=secret)
            settings = TriggerSettings(name=trigger.name, source=source)
            self.served[trigger.name] = Served(settings=settings, source=source_of(trigger), report=Report(trigger.name, SystemClock()))

    async def hear(self, trigger: str, commit: str) -> None:
        self.served[trigger].source.wake(commit)


def application(limit: int, secret: str, *triggers: GitTrigger) -> App:
    """The service's application, which hears for these triggers alone."""
    app, leader = make_app(Held(), CollectorRegistry()), Leader(secret, *triggers)
    add_webhooks(app, lambda: leader)
    return Contained(app, limit)


async def serve(folder: Path, bounds: Bounds) -> None:
    """Serves until the process' input ends."""
    trigger = make_trigger(folder)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    async def tell() -> None:
        while True:
            await trigger.wanted.wait()
            trigger.wanted.clear()
            print("look", flush=True)

    threading.Thread(target=read, daemon=True).start()
    async with listening(application(MIB, SECRET, trigger), "127.0.0.1", 0, bounds) as port:
        print(port, flush=True)
        telling = asyncio.create_task(tell())
        await ended.wait()
        telling.cancel()


@dataclasses.dataclass(frozen=True)
class Listener:
    """One that runs."""

    process: Popen[str]
    port: int

    @property
    def memory(self) -> int:
        """KiB that it had in memory at most."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        raise AssertionError("it is gone")

    @property
    def sockets(self) -> int:
        """How many connections it holds."""
        links = (path.readlink() for path in Path(f"/proc/{self.process.pid}/fd").iterdir())
        return sum(str(link).startswith("socket:") for link in links)


@contextmanager
def started(folder: Path, errors: Path, **bounds: float) -> Iterator[Listener]:
    """A listener for as long as the context lasts; what it says on stderr goes to a file."""
    words = [sys.executable, "-m", "tests.listener", str(folder), *(f"{name}={value}" for name, value in bounds.items())]
    env = {**os.environ, "PYTHONPATH": f"{_ROOT / 'src'}:{_ROOT}"}
    with errors.open("w") as said, Popen(words, env=env, stdin=PIPE, stdout=PIPE, stderr=said, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield Listener(process, int(process.stdout.readline()))
        process.stdin.close()
        process.wait(timeout=60)


def main() -> None:
    told = dict(each.split("=") for each in sys.argv[2:])
    kinds: dict[str, Any] = {field.name: type(field.default) for field in dataclasses.fields(Bounds)}
    bounds: dict[str, Any] = {name: kinds[name](value) for name, value in told.items()}
    asyncio.run(serve(Path(sys.argv[1]), Bounds(**bounds)))


if __name__ == "__main__":
    main()

"""`jobyard git watch` at work on a repository, and good files that are pushed to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.canaries import Canaries
from tests.fuzz.files import good
from tests.fuzz.requests import delivery
from tests.git import odd
from tests.git.remotes import NO_CONFIG, git
from tests.ports import free_port
from tests.waiting import BOUND

_ROOT = Path(__file__).parents[2]
LATE = 2.0
"""Times alone that good files may take in company."""


@dataclass
class Watched:
    """The process, what it has said, and what went wrong."""

    process: asyncio.subprocess.Process
    port: int
    secret: str
    clone: Path
    """Of somebody who pushes."""
    remote: Path
    log: Path
    """What it says on stderr."""
    words: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self) -> None:
        """Takes in what it says, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self.words.append(f"the process ended with {await self.process.wait()}")
            self._news.notify_all()

    async def until(self, *wanted: str) -> None:
        """Returns once it has said all of these. Raises TimeoutError."""
        left = set(wanted)
        seen = 0
        async with asyncio.timeout(BOUND), self._news:
            while left:
                for line in self.lines[seen:]:
                    left -= {each for each in left if each in line}
                seen = len(self.lines)
                if left:
                    if self.words:
                        raise TimeoutError
                    await self._news.wait()

    async def batch(self, beside: Mapping[bytes, bytes] | None = None) -> float:
        """Pushes good files, others beside them, and tells of the push; the seconds until the last good one has succeeded."""
        files = good(uuid.uuid4().hex[:8])
        begun = time.monotonic()
        commit = await asyncio.to_thread(odd.queue, self.clone, {**files, **(beside or {})})
        await self.tell(commit)
        try:
            await self.until(*(f"{name.decode()}  processing → succeeded" for name in files))
        except TimeoutError:
            said = [line for line in self.lines if any(name.decode() in line for name in files)]
            self.words.append(f"good work lost: {[name.decode() for name in files]}; of these it said: {said}")
        return time.monotonic() - begun

    async def tell(self, commit: str) -> None:
        """A webhook as a forge sends it. That it is not heard is one of the words."""
        try:
            answer = await asyncio.to_thread(self._post, delivery("github", self.secret, commit))
        except OSError as error:
            answer = repr(error).encode()
        if not answer.startswith(b"HTTP/1.1 200 "):
            self.words.append(f"good work lost: a webhook was answered {answer[:200]!r}")

    def _post(self, text: bytes) -> bytes:
        import socket

        with socket.create_connection(("127.0.0.1", self.port), timeout=BOUND) as connection:
            connection.sendall(text)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer

    async def clear(self) -> None:
        """Takes away whatever still waits or runs in the repository."""

        def change(place: str, _: list[odd.Entry]) -> list[odd.Entry]:
            return [("100644", b".gitkeep", odd.store(self.clone, "blob", b""))]

        await asyncio.to_thread(odd.rewrite, self.clone, change, ["queued", "processing"])

    def judge(self) -> list[str]:
        """What went wrong with the process itself, all in all."""
        said = self.log.read_text(errors="replace")
        words = [f"it traced back: {said[max(said.find('Traceback') - 300, 0) :][:3000]}"] if "Traceback" in said else []
        canaries = Canaries()
        canaries.planted[self.secret] = "the webhook's secret"
        for place, text in (
            ("stderr", said),
            ("stdout", "\n".join(self.lines)),
            ("commits", git(self.remote, "log", "--format=%B", "main")),
        ):
            canaries.search(place, text)
        return [*words, *canaries.found]


@asynccontextmanager
async def watching(kubeconfig: Path, namespace: str) -> AsyncIterator[Watched]:
    """A repository that is served for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="jobyard-fuzz-") as name:
        folder = Path(name)
        git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
        git(folder, "clone", "--quiet", "remote.git", "person")
        empty = odd.store(folder / "person", "blob", b"")
        places = ("queued", "processing", "succeeded", "failed", "unknown")
        kept: list[odd.Entry] = [
            ("40000", place.encode(), odd.tree(folder / "person", [("100644", b".gitkeep", empty)])) for place in places
        ]
        odd.push(folder / "person", odd.commit(folder / "person", kept))
        port, secret = free_port(), Canaries().plant("hook")
        env = {
            **os.environ,
            **NO_CONFIG,
            "PYTHONPATH": str(_ROOT / "src"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "JOBYARD_WEBHOOK_SECRET": secret,
        }
        words = [
            "git",
            "watch",
            "--repository",
            str(folder / "remote.git"),
            "--branch",
            "main",
            "--listen",
            f"127.0.0.1:{port}",
            "--poll",
            "600",
        ]
        with (folder / "stderr").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "jobyard", *words, "--kubeconfig", str(kubeconfig), "-n", namespace),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**env, "PYTHONUNBUFFERED": "1"},
                limit=1024 * 1024,
            )
        watched = Watched(process, port, secret, folder / "person", folder / "remote.git", folder / "stderr")
        reading = asyncio.create_task(watched.read())
        try:
            await watched.until("Webhooks are received")
            yield watched
            watched.words += watched.judge()
        finally:
            reading.cancel()
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(30):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            await asyncio.gather(reading, return_exceptions=True)

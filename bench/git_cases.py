"""Git: many queued files at once, and many writers on one branch."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path

from bench.cases import Case, Place, job, until
from bench.raw import open_raw
from jobyard.cluster.client import open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.triggers.git.clone import open_url
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger

PERSON = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@x"}
WRITERS = 50


def git(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *words], cwd=folder, check=check, capture_output=True, env={**os.environ, **PERSON})


def remote_with(folder: Path, files: int) -> Path:
    """A bare repository with so many queued Jobs."""
    git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
    git(folder, "clone", "--quiet", "remote.git", "person")
    (folder / "person/queued").mkdir()
    for number in range(files):
        (folder / f"person/queued/j{number}.json").write_text(json.dumps(job(f"j{number}")))
    (folder / "person/queued/.gitkeep").write_text("")
    git(folder / "person", "add", "-A")
    git(folder / "person", "commit", "--quiet", "-m", "work")
    git(folder / "person", "push", "--quiet", "origin", "HEAD:main")
    return folder / "remote.git"


async def serve(place: Place, remote: Path, folder: Path) -> int:
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    found = await open_url(str(remote), "main", ("Jobyard", "jobyard@localhost"))
    settings = Settings(policy=Policy(default_namespace=place.namespace))
    async with (
        open_cluster(connect(kubeconfig=str(place.kubeconfig))) as cluster,
        open_engine(cluster, SystemClock(), place.namespace) as engine,
    ):
        await GitTrigger(found.repository, settings, found.url).run_until_idle(engine)
    left = git(remote, "ls-tree", "-r", "--name-only", "main", "queued/", "processing/", "failed/", "unknown/").stdout.decode().split()
    if wrong := [path for path in left if not path.endswith(".gitkeep")]:
        raise SystemExit(f"{len(wrong)} files did not succeed, {wrong[0]} for one")
    return len(git(remote, "log", "--format=%H", "main").stdout.split())


async def files_ours(place: Place) -> str:
    with tempfile.TemporaryDirectory(prefix="jobyard-bench-git-") as name:
        remote = remote_with(Path(name), place.size)
        return f"{await serve(place, remote, Path(name))} commits"


async def files_raw(place: Place) -> str:
    """The Jobs alone, and one move of all files by a person's git."""
    with tempfile.TemporaryDirectory(prefix="jobyard-bench-git-") as name:
        remote = remote_with(Path(name), place.size)
        async with open_raw(place.kubeconfig, place.namespace) as raw, asyncio.TaskGroup() as group:
            making = group.create_task(raw.create_all("jobs", (job(f"j{number}") for number in range(place.size))))
            await until(raw.completed(), place.size)
            await making
        person = Path(name) / "person"
        for source, target in (("queued", "processing"), ("processing", "succeeded")):
            (person / target).mkdir()
            for number in range(place.size):
                (person / f"{source}/j{number}.json").rename(person / f"{target}/j{number}.json")
            git(person, "add", "-A")
            git(person, "commit", "--quiet", "-m", "moved")
            git(person, "push", "--quiet", "origin", "HEAD:main")
        return f"{len(git(remote, 'log', '--format=%H', 'main').stdout.split())} commits"


def write(folder: Path, number: int) -> int:
    """One writer: commits and pushes its file, and begins anew when somebody was faster. How often it had to."""
    clone = folder / f"writer-{number}"
    git(folder, "clone", "--quiet", "remote.git", clone.name)
    tries = 0
    while True:
        tries += 1
        (clone / f"note-{number}.txt").write_text("x")
        git(clone, "add", "-A")
        git(clone, "commit", "--quiet", "-m", f"note {number}")
        if git(clone, "push", "--quiet", "origin", "HEAD:main", check=False).returncode == 0:
            return tries
        git(clone, "fetch", "--quiet", "origin", "main")
        git(clone, "reset", "--quiet", "--hard", "FETCH_HEAD")


async def writers_ours(place: Place) -> str:
    with tempfile.TemporaryDirectory(prefix="jobyard-bench-git-") as name:
        remote = remote_with(Path(name), place.size)
        async with asyncio.TaskGroup() as group:
            writing = [group.create_task(asyncio.to_thread(write, Path(name), number)) for number in range(WRITERS)]
            serving = group.create_task(serve(place, remote, Path(name)))
        tries = [task.result() for task in writing]
        notes = git(remote, "ls-tree", "--name-only", "main").stdout.decode().count("note-")
        if notes != WRITERS:
            raise SystemExit(f"{notes} of {WRITERS} commits of others are there")
        return f"{serving.result()} commits, none of {WRITERS} writers lost; they pushed {sum(tries)} times"


async def writers_raw(place: Place) -> str:
    with tempfile.TemporaryDirectory(prefix="jobyard-bench-git-") as name:
        remote_with(Path(name), place.size)
        tries = await asyncio.gather(*(asyncio.to_thread(write, Path(name), number) for number in range(WRITERS)))
        return f"they pushed {sum(tries)} times"


GIT_CASES: dict[str, Case] = {
    "git": Case("N files queued at once, run, and moved twice", 1000, files_ours, files_raw),
    "writers": Case(f"N queued files, while {WRITERS} others push to the branch", 20, writers_ours, writers_raw),
}

"""A repository as a source for the crash harness: a bare remote, and a clone of its own for each process that serves it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from jobyard.triggers.git.clone import open_url
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger
from tests.crash.place import Place
from tests.manifests import Tree

PERSON = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@x"}


def git(folder: Path, *words: str) -> str:
    """What git prints, for a person in a folder."""
    env = {**os.environ, **PERSON, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True, env=env).stdout


def fill(folder: Path, files: Mapping[str, Tree]) -> None:
    git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
    git(folder, "clone", "--quiet", "remote.git", "person")
    (folder / "person" / "queued").mkdir()
    for name, tree in files.items():
        (folder / "person" / "queued" / name).write_bytes(msgspec.json.encode(tree))
    git(folder / "person", "add", "-A")
    git(folder / "person", "commit", "--quiet", "-m", "work")
    git(folder / "person", "push", "--quiet", "origin", "HEAD:main")


def look(folder: Path) -> tuple[list[str], dict[str, str]]:
    """What is still queued or being processed, and where the rest ended. A file that moved twice is told as what it ended as first."""
    paths = git(folder / "remote.git", "ls-tree", "-r", "--name-only", "main").split()
    left = [path for path in paths if path.split("/")[0] in ("queued", "processing") and not path.endswith(".gitkeep")]
    done = {path.split("/")[1]: path.split("/")[0] for path in paths if path.split("/")[0] in ("succeeded", "failed", "unknown")}
    subjects = git(
        folder / "remote.git",
        "log",
        "--format=%(trailers:key=Jobyard-File,valueonly,separator=%x2C)/%(trailers:key=Jobyard-State,valueonly,separator=%x2C)",
        "main",
    )
    moves: list[tuple[str, str]] = []
    for line in subjects.splitlines():
        names, _, states = line.partition("/")
        moves += zip(names.split(","), states.split(","), strict=True) if names else []
    twice = {f"{name} moved to {state} twice" for name, state in moves if moves.count((name, state)) > 1}
    done.pop(".gitkeep", None)
    return [*left, *sorted(twice)], done


async def serve(place: Place) -> None:
    """Serves the repository until nothing is queued or running. Each process has a clone of its own, as each replica would."""
    os.environ["XDG_CACHE_HOME"] = str(place.folder / f"cache-{os.getppid()}-{place.process}")
    found = await open_url(str(place.folder / "remote.git"), "main", ("Jobyard", "jobyard@localhost"))
    settings = Settings(policy=Policy(default_namespace=place.namespace))
    await GitTrigger(found.repository, settings, found.url).run_until_idle(place.engine)

"""Which repository and branch a user means, and the clone that it is worked on in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from jobyard.model import names
from jobyard.model.errors import GitFailed, NoRepository
from jobyard.triggers.git import layout
from jobyard.triggers.git.command import Git
from jobyard.triggers.git.layout import BASES, KEEP, Place
from jobyard.triggers.git.lock import alone
from jobyard.triggers.git.repository import Commit, Repository, Source, against_rivals

JOBS = "jobs"
"""The folder that `init` makes, as goji did."""
_FIRST_BRANCH = "main"
_INIT_MESSAGE = "Make the folders of Jobyard"


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A clone that can be worked with, and the address by which runs know its repository."""

    repository: Repository
    url: str


def without_password(url: str) -> str:
    """An address as it may be told, and as it stays when a password changes."""
    return re.sub(r"^([a-z+]+://)[^/@]*@", r"\1", url)


async def open_url(url: str, branch: str | None, identity: tuple[str, str] | None) -> Clone:
    """A bare clone of our own, under the user's cache folder. Raises GitFailed."""
    shown = without_password(url)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jobyard" / "git"
    folder = cache / f"{names.slug(shown.rsplit('/', 1)[-1].removesuffix('.git'), 40)}-{names.digest(shown)}.git"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    git = Git(folder, identity)
    async with alone(folder.with_suffix(".lock")) as lock:
        (folder / "config.lock").unlink(missing_ok=True)  # only whoever was killed under our lock can have left it
        await git("init", "--quiet", "--bare", ".", keep=lock)
        await git("config", "remote.origin.url", url, keep=lock)
    source = Source(folder=folder, branch=branch or await _default_branch(git), remote="origin", identity=identity)
    return Clone(repository=Repository(source), url=shown)


async def _default_branch(git: Git) -> str:
    told = (await git("ls-remote", "--symref", "origin", "HEAD")).decode(errors="replace")
    match = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", told, re.MULTILINE)
    return match[1] if match else _FIRST_BRANCH


async def open_here(folder: Path, branch: str | None, identity: tuple[str, str] | None) -> Clone:
    """The clone in this folder, or in `jobs` under it. Its working tree is left alone, apart from following our commits.

    Raises NoRepository, GitFailed.
    """
    if (folder / JOBS / ".git").exists():
        folder = folder / JOBS
    git = Git(folder, identity)
    top = await git.run("rev-parse", "--show-toplevel", accept=(0, 128))
    if top.code:
        raise NoRepository(path=folder, why="it is not in a Git repository")
    git = Git(Path(os.fsdecode(top.out).strip()), identity)
    head = (await git.run("symbolic-ref", "--quiet", "--short", "HEAD", accept=(0, 1))).out.decode().strip()
    upstream = (await git.run("rev-parse", "--abbrev-ref", "@{upstream}", accept=(0, 128))).out.decode().strip()
    remotes = (await git("remote")).decode().split()
    remote = next((each for each in remotes if upstream.startswith(f"{each}/")), "")
    if branch is None and remote:
        branch = upstream.removeprefix(f"{remote}/")
    if not remote:
        remote = "origin" if "origin" in remotes else ""
    if not (branch or head):
        raise NoRepository(path=folder, why="no branch is checked out; --branch names one")
    url = (await git("remote", "get-url", remote)).decode().strip() if remote else str(git.folder)
    source = Source(folder=git.folder, branch=branch or head, remote=remote, identity=identity)
    return Clone(repository=Repository(source), url=without_password(url))


async def clone(url: str, folder: Path, branch: str | None) -> None:
    """Clones a repository for a person to work in. Raises GitFailed."""
    words = ["--branch", branch] if branch else []
    await Git(folder.parent)("clone", "--quiet", *words, "--", url, str(folder))


async def make(folder: Path) -> None:
    """A new repository without a remote."""
    folder.mkdir(parents=True)
    await Git(folder)("init", "--quiet", "--initial-branch", _FIRST_BRANCH, ".")


async def make_folders(clone: Clone, base: str | None) -> list[str]:
    """Commits the folders that are missing, the first commit of a repository if need be; says which. Raises GitFailed, Overtaken."""
    return await against_rivals(lambda: _make_folders(clone, base))


async def _make_folders(clone: Clone, base: str | None) -> list[str]:
    repository = clone.repository
    try:
        tip = await repository.fetch()
    except GitFailed:
        if not await repository.is_empty():
            raise
        tip = ""
    entries = await repository.entries(tip) if tip else []
    look = layout.read(entries, base)
    if not look.missing:
        return []
    edits = await repository.keeps(look)
    new = await repository.commit(tip, [Commit(message=f"{_INIT_MESSAGE}\n", edits=edits)])
    await repository.publish(tip, new)
    return [look.path(place, KEEP) for place in look.missing]


def is_in(path: str) -> tuple[Place | None, str]:
    """The folder and name that a person means by a path: `failed/x.yaml`, `jobs/failed/x.yaml`, `x.yaml`."""
    for base in BASES[::-1]:
        path = path.removeprefix(base)
    folder, _, name = path.removeprefix("./").rpartition("/")
    return next((place for place in Place if place == folder), None), name

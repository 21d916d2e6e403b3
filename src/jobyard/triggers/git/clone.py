"""Which repository and branch a user means, and the clone that it is worked on in."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from jobyard.model import names
from jobyard.model.errors import GitFailed, NoRepository, WrongInput
from jobyard.triggers.git.command import Git
from jobyard.triggers.git.credentials import NOBODY, Login, read_address
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


class FolderNotOurs(WrongInput):
    """Where we keep what is ours alone, somebody else has put something."""

    sentence = (
        "{path} {what}; expected a folder of your own that nobody else may write to. Move it away, or set XDG_CACHE_HOME to another place"
    )
    path: Path
    what: str


async def open_url(url: str, branch: str | None, identity: tuple[str, str] | None, withheld: tuple[str, ...] = ()) -> Clone:
    """A bare clone of our own, under the user's cache folder. Its configuration holds no password. `withheld`: values that no git is to find
    in our environment. Raises GitFailed, FolderNotOurs."""
    address = read_address(url)
    login = Login(addresses=(address,), withheld=(url, *withheld))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    known = f"{names.slug(address.shown.rsplit('/', 1)[-1].removesuffix('.git'), 40)}-{names.digest(address.shown)}.git"
    folder = own_folder(cache, "jobyard", "git", known)
    git = Git(folder, identity, login)
    async with alone(folder.with_suffix(".lock")) as lock:
        (folder / "config.lock").unlink(missing_ok=True)  # only whoever was killed under our lock can have left it
        await git("init", "--quiet", "--bare", ".", keep=lock)
        await git("config", "--replace-all", "remote.origin.url", address.url, keep=lock)
    source = Source(folder=folder, branch=branch or await _default_branch(git), remote="origin", identity=identity, login=login)
    return Clone(repository=Repository(source), url=address.shown)


def own_folder(outer: Path, *parts: str) -> Path:
    """A folder, under one that the user chose, that nobody else may look into: made, or checked to be that. No link is followed: whoever may
    write beside us could have put it there. Raises FolderNotOurs."""
    outer.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = outer
    for part in parts:
        path = path / part
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode):
            raise FolderNotOurs(path=path, what="is a link" if stat.S_ISLNK(found.st_mode) else "is not a folder")
        if found.st_uid != os.geteuid():
            raise FolderNotOurs(path=path, what=f"belongs to user {found.st_uid}")
        if found.st_mode & 0o077:
            path.chmod(0o700)
    return path


async def _default_branch(git: Git) -> str:
    told = (await git("ls-remote", "--symref", "origin", "HEAD")).decode(errors="replace")
    match = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", told, re.MULTILINE)
    return match[1] if match else _FIRST_BRANCH


async def open_here(folder: Path, branch: str | None, identity: tuple[str, str] | None, told: str = "") -> Clone:
    """The clone in this folder, or in `jobs` under it. Its working tree is left alone, apart from following our commits. `told`: the address
    that the user named, which may say who they are where the clone does not.

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
    login = await _login(git, remote) if remote else NOBODY
    if told and (address := read_address(told)).url == (login.addresses[0].url if remote else ""):
        login = Login(addresses=(address,), written=login.written)
    source = Source(
        folder=git.folder,
        branch=branch or head,
        remote=remote,
        identity=identity,
        login=login,
        is_partial=(await git.run("config", "--get-regexp", r"^remote\..*\.promisor$", accept=(0, 1))).code == 0,
    )
    return Clone(repository=Repository(source), url=login.addresses[0].shown if remote else str(git.folder))


async def _login(git: Git, remote: str) -> Login:
    """Who we are to a remote by its addresses in the clone's configuration, or in the user's."""
    fetched, pushed = [
        (await git("remote", "get-url", *more, remote)).decode(errors="surrogateescape").strip() for more in ((), ("--push",))
    ]
    addresses = (read_address(fetched), read_address(pushed))
    raw = await git.run("config", "--get-all", f"remote.{remote}.url", accept=(0, 1))
    written = {fetched: addresses[0].url, pushed: addresses[1].url}
    for line in raw.out.decode(errors="surrogateescape").splitlines()[:1]:
        written[line] = addresses[0].url  # also where it is the same: the user's own `insteadOf` may make another of it
    has_secret = any(each.password or each.username for each in addresses)
    return Login(addresses=addresses, written=written if has_secret else {})


async def clone(url: str, folder: Path, branch: str | None) -> None:
    """Clones a repository for a person to work in; what the address says of who they are is not kept there. Raises GitFailed."""
    words = ["--branch", branch] if branch else []
    address = read_address(url)
    await Git(folder.parent, login=Login(addresses=(address,)))("clone", "--quiet", *words, "--", address.url, str(folder))


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
    look = await repository.layout(tip, base)
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

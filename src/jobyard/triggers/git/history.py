"""What a clone alone knows: the transitions of files, and where each stands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from jobyard.model.errors import WrongInput
from jobyard.model.finding import did_you_mean
from jobyard.triggers.git import layout, moves
from jobyard.triggers.git.clone import Clone, is_in
from jobyard.triggers.git.layout import ENDS, Layout, Place
from jobyard.triggers.git.moves import Move, Trailers
from jobyard.triggers.git.repository import Commit, against_rivals


class NotThere(WrongInput):
    """No file of that name has ended, so it can't be queued again."""

    sentence = "{file} can't be queued again: {why}"
    file: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Transition(Trailers):
    """One file's change of folder: what a commit of ours says of it, which commit, and when."""

    at: datetime
    commit: str


@dataclass(frozen=True, kw_only=True)
class Standing(Trailers):
    """Where a file lies, and how it came there: what a commit of ours says of it. `at` is None for one that a person put there."""

    at: datetime | None


async def standing(clone: Clone, tip: str, look: Layout) -> list[Standing]:
    """Every file in the five folders, folder by folder."""
    known = await latest(clone, tip, look)
    found = []
    for place, files in look.files.items():
        for name in map(layout.show, files):
            entry = known.get((name, place))
            told = {"run": entry.run, "namespace": entry.namespace, "reason": entry.reason} if entry else {}
            found.append(Standing(file=name, state=str(place), at=entry.at if entry else None, **told))
    return found


async def latest(clone: Clone, tip: str, look: Layout) -> dict[tuple[str, Place], Transition]:
    """For each file, by name and folder, how it came to where it lies; files that a person put there are left out."""
    wanted = {(layout.show(name), place) for place, files in look.files.items() for name in files}
    known: dict[tuple[str, Place], Transition] = {}
    async with aclosing(walk(clone, tip, look)) as told:
        async for each in told:
            place = next((place for place in Place if place == each.state), None)
            if place is not None and (each.file, place) in wanted:
                known.setdefault((each.file, place), each)
                if len(known) == len(wanted):
                    break
    return known


async def transitions(clone: Clone, tip: str, look: Layout, limit: int | None = None, file: str = "") -> list[Transition]:
    """The transitions that the history tells of, the newest first."""
    kept: list[Transition] = []
    async with aclosing(walk(clone, tip, look)) as told:
        async for each in told:
            if not file or each.file == file:
                kept.append(each)
            if limit is not None and len(kept) >= limit:
                break
    return kept


async def walk(clone: Clone, tip: str, look: Layout) -> AsyncGenerator[Transition, None]:
    """Every transition in the history, the newest first."""
    async with aclosing(clone.repository.told(tip, "", layout.folders(look.base))) as history:
        async for each in history:
            for one in moves.read(each.text):
                yield Transition(at=each.at, commit=each.commit, **vars(one))


async def requeue(clone: Clone, base: str | None, files: Sequence[str]) -> list[Move]:
    """Moves files from where they ended back to the queue, in one commit. Raises NotThere (then none is moved), Overtaken, GitFailed."""
    return await against_rivals(lambda: _requeue(clone, base, files))


async def _requeue(clone: Clone, base: str | None, files: Sequence[str]) -> list[Move]:
    tip, look = await clone.repository.look(base)
    wanted = [_back(look, file) for file in dict.fromkeys(files)]
    commit = Commit(message=moves.message(wanted), edits=await clone.repository.edits(look, wanted))
    await clone.repository.publish(tip, await clone.repository.commit(tip, [commit]))
    return wanted


def _back(look: Layout, path: str) -> Move:
    place, name = is_in(path)
    places = look.places(name)
    if Place.QUEUED in places:
        raise NotThere(file=path, why="it is queued already")
    ended = [each for each in places if each in ENDS and place in (None, each)]
    if not ended:
        if Place.PROCESSING in places:
            raise NotThere(file=path, why="it is being processed; wait for its end, or cancel its run")
        known = [f"{each}/{layout.show(other)}" for each in ENDS for other in look.files[each]]
        raise NotThere(file=path, why=f"no file of that name has ended; {_offer(name, known)}")
    newest = ended[0]
    return Move(file=look.files[newest][name], target=Place.QUEUED, replaces=tuple(each for each in ended if each is not newest))


OFFERED = 12
"""How many files are named to who asked for one that is not there."""


def _offer(asked: str, known: Sequence[str]) -> str:
    """The files that could be meant, the likeliest first."""
    if not known:
        return "none has ended yet"
    listed = ", ".join(known[:OFFERED]) + (f" and {len(known) - OFFERED} more" if len(known) > OFFERED else "")
    paths = {each.rpartition("/")[2]: each for each in reversed(known)}
    same = next((path for name, path in paths.items() if asked == name or name.startswith(f"{asked}.")), "")
    guess = f'did you mean "{same}"?' if same else did_you_mean(asked, paths)
    for name, path in () if same else paths.items():
        guess = guess.replace(f'"{name}"', f'"{path}"')
    return f"{guess} There are: {listed}" if guess else f"there are: {listed}"

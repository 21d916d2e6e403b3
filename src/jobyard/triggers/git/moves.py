"""Transitions of files between folders, and the commits that tell of them: what is written, and how it is read again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from jobyard.model import names
from jobyard.triggers.git.layout import Place, QueueFile, show

FILE = "Jobyard-File"
"""The trailer that begins what a commit says of one file."""
BODY_LINES = 40
"""How many lines a file may take in a commit's message, log included."""
BODY_LENGTH = 200_000
"""Characters that all of them may take: a message that is too long is not read again."""
LINE_LENGTH = 500
MISTAKES_TOLD = 5
"""How many of a file's mistakes are told to who watches."""
VALUE_LENGTH = 2000
"""Characters of what a trailer says: more than any of ours has."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """A file goes from one folder to another, or (target None) out of the repository."""

    file: QueueFile
    target: Place | None
    run: str = ""
    namespace: str = ""
    reason: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    """What else is known, in words for people."""
    lines: tuple[str, ...] = ()
    """The last lines of its log, or what is wrong with the file."""
    replaces: tuple[Place, ...] = field(default_factory=tuple)
    """Folders whose older file of the same name goes."""

    @property
    def name(self) -> str:
        return self.file.name


@dataclass(frozen=True, kw_only=True)
class Trailers:
    """What a commit of ours says of one file, as a program reads it."""

    file: str
    state: str
    run: str = ""
    namespace: str = ""
    reason: str = ""


def subject(moves: Sequence[Move]) -> str:
    """A commit's first line: goji's for one file, a sum for several."""
    if all(move.target is None for move in moves):
        return "Deleting duplicated jobs"
    if len(moves) == 1:
        move = moves[0]
        return f"{show(move.name)} transitioned from {move.file.place} to {move.target}"
    ways = Counter((move.file.place, move.target) for move in moves)
    if len(ways) == 1:
        (source, target), count = next(iter(ways.items()))
        return f"{count} files transitioned from {source} to {target}"
    told = ", ".join(f"{count} from {source} to {target or 'nowhere'}" for (source, target), count in ways.items())
    return f"{len(moves)} files transitioned: {told}"


def words(move: Move) -> str:
    """A transition in one line, for a person who watches."""
    why = (f": {_line(move.reason)}" if move.reason else "") + (f" (run {move.run})" if move.run else "")
    return f"{show(move.name)}  {move.file.place} → {move.target or 'deleted'}{why}"


def told(move: Move) -> list[str]:
    """A transition in lines, for a person who watches: of a file that can't be run, with the first of its mistakes."""
    if move.target is not Place.FAILED or move.file.place is not Place.QUEUED:
        return [words(move)]
    shown = [f"  {_line(line)}" for line in move.lines[:MISTAKES_TOLD]]
    more = [f"  and {len(move.lines) - len(shown)} more; the commit lists them"] if len(shown) < len(move.lines) else []
    return [words(move), *shown, *more]


def message(moves: Sequence[Move]) -> str:
    """The whole message: what happened, why, and trailers that a program can read."""
    parts = [subject(moves)]
    room = BODY_LENGTH
    for move in moves:
        text = _body(move, move.lines, alone=len(moves) == 1)
        if len(text) > room:
            text = _body(move, (), alone=False)
        room -= len(text)
        if text and room > 0:
            parts.append(text)
    trailers = [line for move in moves for line in _trailers(move)]
    return "\n\n".join([*parts, "\n".join(trailers)]) + "\n"


def _body(move: Move, log: Sequence[str], *, alone: bool) -> str:
    facts = [f"{name}: {_line(value)}" for name, value in move.facts if value]
    if move.reason:
        facts.append(f"Reason: {_line(move.reason)}")
    # Indented: a line of a log must never pass for a trailer.
    lines = [f"    {_line(line)}" for line in log[-BODY_LINES:]]
    head = [] if alone or not (facts or lines) else [f"{show(move.name)}:"]
    return "\n".join([*head, *facts, *([""] if lines and facts else []), *lines])


def _line(text: str, length: int = LINE_LENGTH) -> str:
    return "".join(each if each.isprintable() or each == "\t" else " " for each in text[:length])


def _trailers(move: Move) -> Iterator[str]:
    yield f"{FILE}: {show(move.name)}"
    yield f"Jobyard-State: {move.target or 'deleted'}"
    if move.run:
        yield f"Jobyard-Run: {move.run}"
    if move.namespace:
        yield f"Jobyard-Namespace: {move.namespace}"
    if move.reason:
        yield f"Jobyard-Reason: {_line(move.reason)}"


def read(text: str) -> list[Trailers]:
    """What a commit's message says, file by file; nothing when it is none of ours. Anybody may have written it: its words may be anything, but
    can be shown."""
    last = text.strip().rsplit("\n\n", 1)[-1]
    files: list[dict[str, str]] = []
    for line in last.splitlines():
        name, colon, value = line.partition(": ")
        if not colon:
            continue
        value = _line(value, VALUE_LENGTH)
        if name == FILE:
            files.append({"file": value})
        elif files and name.startswith("Jobyard-"):
            files[-1][name.removeprefix("Jobyard-").lower()] = value
    return [
        Trailers(
            file=each["file"],
            state=each.get("state", ""),
            run=each.get("run", ""),
            namespace=each.get("namespace", ""),
            reason=each.get("reason", ""),
        )
        for each in files
    ]


def claims(messages: Iterable[str], wanted: Iterable[str]) -> dict[str, Trailers]:
    """For each wanted file, what the newest commit that names it says, if that is that it is being processed, and as which run. `messages`: the
    newest first."""
    open_ = set(wanted)
    found: dict[str, Trailers] = {}
    for text in messages:
        if not open_:
            break
        for trailers in read(text):
            if trailers.file in open_:
                open_.discard(trailers.file)
                if trailers.state == Place.PROCESSING and names.read_run(trailers.run) and names.is_namespace(trailers.namespace):
                    found[trailers.file] = trailers
    return found

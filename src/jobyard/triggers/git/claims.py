"""Which run each file in `processing` is: what the branch's own commits say of it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from contextlib import aclosing

from jobyard.triggers.git import moves
from jobyard.triggers.git.layout import Layout, Place
from jobyard.triggers.git.moves import Trailers
from jobyard.triggers.git.repository import Repository


class Claims:
    """Reads the history once, and then only what is new in it."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: dict[str, Trailers] = {}
        self._read_up_to = ""
        self._asked: set[str] = set()
        """What was asked for the last time: the history was read for it."""

    def of(self, files: Container[str]) -> dict[str, Trailers]:
        """Which runs the files are, as far as a commit of ours is known to say so."""
        return {name: claim for name, claim in self._known.items() if name in files}

    def note(self, claim: Trailers) -> None:
        """A commit that says so was pushed just now."""
        self._known[claim.file] = claim

    async def learn(self, tip: str, look: Layout, files: Iterable[str], *, is_whole: bool = True) -> None:
        """Reads from the history which run each of these files in `processing` is. `is_whole`: there are no others, nor were when this was
        called last: what is new among them, the new part of the history tells of."""
        wanted = set(files)
        strangers = wanted - self._asked
        self._asked = wanted
        if not wanted:
            self._known, self._read_up_to = {}, tip
            return
        since = self._read_up_to
        news = await self._read(tip, since, look.path(Place.PROCESSING, ""), wanted)
        if since and not await self._repository.contains(tip, since):
            since = ""  # the branch was pushed anew: nothing that we knew of it holds
        kept = {name: claim for name, claim in self._known.items() if name in wanted} if since else {}
        strangers -= kept.keys() | news.keys()
        if since and strangers and not is_whole:
            news |= await self._read(since, "", look.path(Place.PROCESSING, ""), strangers)
        self._known, self._read_up_to = {**kept, **news}, tip

    async def _read(self, tip: str, since: str, folder: str, wanted: set[str]) -> dict[str, Trailers]:
        while True:
            messages: list[str] = []
            left = set(wanted)
            async with aclosing(self._repository.told(tip, since, [folder])) as history:
                async for each in history:
                    messages.append(each.text)
                    left -= {one.file for one in moves.read(each.text)}
                    if not left:
                        break
            found = moves.claims(messages, wanted)
            if since or len(found) == len(wanted) or not await self._repository.deepen():
                return found

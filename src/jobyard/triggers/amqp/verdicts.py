"""What a launch that failed means for its message. Pure.

Three things may become of it: it is set aside for good (a dead letter), or it is kept in hand for a while and then given back once, or it is
launched. Each time that a message is given back counts towards a quorum queue's delivery limit, after which the broker drops it: so it is
given back once, and none is taken again before a trial says that the launch would pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jobyard.model.errors import Conflict, JobyardError, NamespaceTerminating, NoRoom, NotFound, Rejected, Unauthorized, place_of
from jobyard.model.run import Reason
from jobyard.triggers.amqp.message import Unfit

IN_HAND = 60.0
"""Seconds that a message which can't be launched just now is kept in hand."""


class Fate(StrEnum):
    """What becomes of a message whose launch failed."""

    SET_ASIDE = "set aside"
    GIVEN_BACK = "given back"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Its fate, and why, for a person. `word`: the same in one word, which quotes nothing of what the message holds."""

    fate: Fate
    why: str
    word: str
    may_quote: bool = False
    """`why` is the cluster's own words, which may quote a Job."""


def verdict(error: BaseException) -> Verdict:
    """What the failure of a launch means. The engine has asked as often as is worth it before it raises (an admission hook three times)."""
    word = error.reason or type(error).__name__ if isinstance(error, Rejected) else type(error).__name__
    return Verdict(fate=_fate(error), why=_why(error), word=word, may_quote=isinstance(error, Rejected))


def _fate(error: BaseException) -> Fate:
    """What nobody foresaw may pass: a message is never thrown away over a mistake of ours."""
    match error:
        case Unfit():
            return Fate.SET_ASIDE
        case Conflict() | Unauthorized() | NoRoom() | NamespaceTerminating() | NotFound():
            return Fate.GIVEN_BACK
        case Rejected() if error.reason != Reason.NO_RIGHT:
            return Fate.SET_ASIDE
    return Fate.GIVEN_BACK


def _why(error: BaseException) -> str:
    if isinstance(error, JobyardError):
        return str(error)
    return f"there was no room for its Job within {IN_HAND:.0f} seconds" if isinstance(error, TimeoutError) else place_of(error)

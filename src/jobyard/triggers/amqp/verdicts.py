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
    """Its fate, and why, for a person."""

    fate: Fate
    why: str


def verdict(error: BaseException) -> Verdict:
    """What the failure of a launch means. The engine has asked as often as is worth it before it raises (an admission hook three times). What
    nobody foresaw may pass: a message is never thrown away over a mistake of ours."""
    match error:
        case Unfit():
            return Verdict(fate=Fate.SET_ASIDE, why=str(error))
        case Conflict() | Unauthorized() | NoRoom() | NamespaceTerminating() | NotFound():
            return Verdict(fate=Fate.GIVEN_BACK, why=str(error))
        case Rejected() if error.reason != Reason.NO_RIGHT:
            return Verdict(fate=Fate.SET_ASIDE, why=str(error))
        case JobyardError():
            return Verdict(fate=Fate.GIVEN_BACK, why=str(error))
        case TimeoutError():
            return Verdict(fate=Fate.GIVEN_BACK, why=f"there was no room for its Job within {IN_HAND:.0f} seconds")
    return Verdict(fate=Fate.GIVEN_BACK, why=place_of(error))

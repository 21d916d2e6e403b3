"""Limits: how many runs, or Jobs, of a scope may be active at once. Pure; `limiter` does it.

A namespace's limits are numbers in the ConfigMap `jobyard-limits`, which people set. Who holds a place in a scope stands in a ConfigMap
of that scope, which is only ever changed together with its resource version: of two processes that want the last place, one gets it.
A place is named after its holder (a run's id, or a Job's name), so taking it twice is taking it once, and nobody needs to give it
back: a holder whose run or Job has ended no longer counts. A leader that starts all runs counts what it sees, and takes no places; so
who takes one counts what it sees to run without, and a leader counts the places of others. A place bears the time at which it was taken: one whose run was never
made counts for two minutes from when whoever wants it has noticed, whatever their clocks say. So a crash at any point leaves nothing locked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from jobyard.model import names
from jobyard.model.objects import ConfigMap, Manifest
from jobyard.model.workflow import Step, Workflow
from jobyard.model.written import whole

LIMITS = "jobyard-limits"
"""The ConfigMap in which people set limits."""
NAMESPACE = "namespace"
"""The name of the limit that every run counts for."""
_HOLDERS = "holders"
_LARGEST = 10**9
UNUSED = timedelta(minutes=2)
"""How long a place counts whose run, or Job, was noticed not to be there: its launch may be under way."""
OLD = timedelta(minutes=10)
"""Age of such a place at which nobody need have noticed: no two clocks are as far apart."""
IDLE = timedelta(days=1)
"""How long after the last place was taken who held them is remembered, where none holds any."""
LAUNCH = timedelta(minutes=1)
"""How long a place is good for a launch: one that takes longer takes the place anew."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place that is held."""

    run: str
    """The run, by id, that holds it, or whose Job does."""
    at: datetime
    """When it was taken."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A place that a run or a Job needs before it may start."""

    scope: str
    limit: int
    holder: str

    @property
    def object_name(self) -> str:
        """The ConfigMap that says who holds the scope's places."""
        return f"jobyard-limit-{names.slug(self.scope, 40)}-{names.digest('limit', self.scope)}"


@dataclass(frozen=True, kw_only=True)
class Full:
    """There is no room: who has it."""

    scope: str
    limit: int
    holders: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.holders[:3]) + (f" and {len(self.holders) - 3} more" if len(self.holders) > 3 else "")
        if self.limit == 0:
            return f"Limit {self.scope} is 0: nothing that counts towards it may start."
        places = "The only place" if self.limit == 1 else f"All {self.limit} places"
        return f"{places} of limit {self.scope} {'is' if self.limit == 1 else 'are'} taken by {shown}."


def numbers(config: ConfigMap | None) -> dict[str, int]:
    """The namespace's limits by name. What is no number is no limit: `jobyard limits` says so."""
    data = config.data if config else {}
    read = {name: whole(text.strip(), _LARGEST) for name, text in data.items()}
    return {name: number for name, number in read.items() if number is not None}


def of_run(workflow: Workflow, run: str, set_: Mapping[str, int]) -> list[Claim]:
    """The places that a run needs. A name that nobody has set a number for limits nothing."""
    claims = [Claim(scope=name, limit=set_[name], holder=run) for name in {*workflow.limits, NAMESPACE} if name in set_]
    if workflow.max_runs:
        claims.append(Claim(scope=workflow_scope(workflow.name), limit=workflow.max_runs, holder=run))
    return sorted(claims, key=lambda claim: claim.scope)


def of_job(step: Step, job: str, set_: Mapping[str, int]) -> list[Claim]:
    """The places that one Job of a step needs, beside its run's."""
    return [Claim(scope=name, limit=set_[name], holder=job) for name in sorted(set(step.limits)) if name in set_]


WORKFLOW = "workflow/"


def workflow_scope(name: str) -> str:
    return f"{WORKFLOW}{name}"


def scopes(workflow: Workflow) -> list[str]:
    """All scopes that a run may need a place in: kept with its record, so that others can count without reading its workflow."""
    return sorted({NAMESPACE, *workflow.limits, *([workflow_scope(workflow.name)] if workflow.max_runs else [])})


def holders(places: ConfigMap | None) -> dict[str, Place]:
    """Who holds a place. Damaged by hand, it holds nobody: the next claim writes it anew. Nor is a place one whose time has no zone."""
    try:
        held = msgspec.json.decode(places.data[_HOLDERS], type=dict[str, Place]) if places else {}
    except (KeyError, msgspec.MsgspecError):
        return {}
    return {holder: place for holder, place in held.items() if place.at.tzinfo is not None}


def take(
    claim: Claim, run: str, held: Mapping[str, Place], over: Iterable[str], now: datetime, unplaced: Collection[str] = ()
) -> dict[str, Place] | Full:
    """Who holds the scope's places once the claim is granted, those that are `over` left out; or why it is not. `unplaced`: who is active
    without a place, and counts all the same."""
    gone = set(over) - {claim.holder}
    left = {holder: place for holder, place in held.items() if holder not in gone}
    active = [*left, *(each for each in unplaced if each not in left)]
    if claim.holder not in left and len(active) >= claim.limit:
        return Full(scope=claim.scope, limit=claim.limit, holders=tuple(active))
    return {**left, claim.holder: Place(run=run, at=now)}


def is_good(place: Place, now: datetime) -> bool:
    """Whether a launch may go by a place that was taken before; not by one that a clock far ahead took."""
    return abs(now - place.at) < LAUNCH


def is_unused(place: Place, noticed: datetime, now: datetime) -> bool:
    """Whether a place counts no more, whose run or Job is not there. `noticed`: when whoever asks first saw so, by its own clock: that of
    whoever took it may be minutes behind, or years ahead."""
    return now - noticed >= UNUSED or now - place.at >= OLD


def write(claim: Claim, held: Mapping[str, Place], version: str = "") -> Manifest:
    """The ConfigMap of a scope's places; with `version`, a patch that holds only for that version of it."""
    data = {_HOLDERS: msgspec.json.encode(dict(held)).decode()}
    if version:
        return {"metadata": {"resourceVersion": version}, "data": data}
    labels = {names.MANAGED_BY: names.JOBYARD, names.ROLE: "limit"}
    metadata: dict[str, Any] = {"name": claim.object_name, "labels": labels, "annotations": {names.SCOPE: claim.scope}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

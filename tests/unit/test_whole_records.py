"""A record that has further parts and pages is whole before anything is decided, whatever the watch told of them and when."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from jobyard.contracts import Cluster
from jobyard.engine import record as records
from jobyard.engine.clock import SystemClock
from jobyard.engine.ledger import Ledger
from jobyard.engine.sight import EARLY_LIMIT, WEIGHT, Sight
from jobyard.model import names
from jobyard.model.errors import NotFound
from jobyard.model.objects import ConfigMap, Kind, Metadata, OwnerReference
from jobyard.model.run import Role, State, StepResult
from tests.unit.samples import NOW, changed, flow, manifest, request, served

ASKED = request(workflow=flow(manifest(), manifest()))
RUN = ASKED.run_id
DONE = {(Role.STEP, "s0"): StepResult(state=State.SUCCEEDED, attempt=1, job="j", finished=NOW)}


class Server:
    """Has these objects, and counts what it is asked."""

    def __init__(self, *objects: ConfigMap) -> None:
        self.objects = objects
        self.calls = 0

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> ConfigMap:
        self.calls += 1
        for each in self.objects:
            if each.metadata.name == name:
                return each
        raise NotFound(action="get", status=404, reason="NotFound", message=name)

    async def list(self, kind: Kind[Any], namespace: str, *, labels: str) -> list[ConfigMap]:
        self.calls += 1
        assert labels == f"{names.SELECTOR},{names.RUN}={RUN},{names.ROLE}=page"
        return [each for each in self.objects if each.metadata.labels.get(names.ROLE) == "page"]


def written() -> tuple[ConfigMap, ConfigMap, ConfigMap]:
    """A record, its part, and its page."""
    (packed,) = records.pack(ASKED)
    tree = records.write(ASKED, RUN, [packed[:100], packed[100:]])
    tree["metadata"]["annotations"] |= {names.PAGES: "1"}
    record = msgspec.convert(served(tree, "record"), ConfigMap)
    ((name, data),) = records.pages(DONE, record, ASKED.workflow).items()
    part = msgspec.convert(served(records.part(record, 1, packed[100:]), "part"), ConfigMap)
    return record, part, msgspec.convert(served(records.page(record, name, data), "page", 5), ConfigMap)


def stranger(number: int, size: int) -> ConfigMap:
    """A part of a record that is released: nobody watches its owner."""
    owner = OwnerReference(kind="ConfigMap", name="r", uid=f"released-{number}")
    metadata = Metadata(name=f"part-{number}", uid=f"part-{number}", labels={names.ROLE: "part"}, owner_references=(owner,))
    return ConfigMap(metadata=metadata, binary_data={"workflow": "x" * size})


async def test_what_the_watch_told_before_the_record_is_asked_for_once() -> None:
    record, part, page = written()
    server, sight = Server(record, part, page), Sight()
    ledger = Ledger(cast(Cluster, server), SystemClock(), "n", sight)
    for each in (part, page, *(stranger(number, 0) for number in range(EARLY_LIMIT)), record):
        sight.see(each)
    run = sight.runs[RUN]
    assert not run.owned, "so many came before the record that these were dropped"
    assert await ledger.load(run)
    assert run.results() == DONE, "or the step would run again"
    asked = server.calls
    assert await ledger.load(run)
    assert server.calls == asked


async def test_what_somebody_copied_is_no_page_and_what_is_newer_stays() -> None:
    record, part, page = written()
    told = StepResult(state=State.FAILED, attempt=1, job="j", finished=NOW)
    ((_, data),) = records.pages({(Role.STEP, "s1"): told}, record, ASKED.workflow).items()
    newer = msgspec.structs.replace(changed(page, version=9), data={**page.data, **data})
    copy = msgspec.structs.replace(changed(page, name="mine", uid="mine", owner_references=()), data=data)
    sight = Sight()
    for each in (record, part, newer):
        sight.see(each)
    assert await Ledger(cast(Cluster, Server(record, part, page, copy)), SystemClock(), "n", sight).load(sight.runs[RUN])
    assert sight.runs[RUN].results() == {**DONE, (Role.STEP, "s1"): told}
    assert "mine" not in sight.runs[RUN].owned


def test_parts_of_what_is_over_are_kept_by_their_size() -> None:
    sight = Sight()
    for number in range(50):
        sight.see(stranger(number, 1_000_000))
    kept = sum(len(each.binary_data["workflow"]) for some in sight._early.values() for each in some if isinstance(each, ConfigMap))
    assert kept <= EARLY_LIMIT * WEIGHT

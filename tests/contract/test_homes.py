"""A run of one Job is that Job: what it costs, what it survives, and that both homes answer alike."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobyard import external
from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.limit_settings import set_limit
from jobyard.engine.namespace import Options
from jobyard.model import names
from jobyard.model.errors import CannotRerun, NotEnded, Rejected
from jobyard.model.objects import CONFIG_MAPS, JOBS, SECRETS, WHOLE_JOBS
from jobyard.model.run import Reason, RunRequest, State
from jobyard.model.template import Template
from jobyard.model.workflow import Step, Workflow
from tests.flows import read
from tests.manifests import Tree, job, step, workflow
from tests.waiting import BOUND, is_running, until, until_gone, until_pod


@pytest.fixture
async def engine(cluster: HttpCluster, namespace: str) -> AsyncIterator[ClusterEngine]:
    async with open_engine(cluster, SystemClock(), namespace) as opened:
        yield opened


def plain(manifest: Tree, **more: Any) -> Workflow:
    """A manifest as a run of its own."""
    name = manifest["metadata"]["name"]
    return Workflow(name=name, steps=(Step(name=name, job=Template(manifest, literal=True)),), **more)


def request(flow: Workflow, key: str = "", **more: Any) -> RunRequest:
    return RunRequest(trigger="test", key=key or uuid.uuid4().hex, workflow=flow, key_names_workflow=True, **more)


class Calls:
    """Counts the calls by what they do; opening a watch is no call."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def before(self, call: str) -> None:
        words = call.removeprefix("kubernetes: ").split()
        if words[0] not in ("watch", "review"):
            self.made[" ".join(words[:2])] += 1

    def after(self, call: str, seconds: float) -> None:
        pass


async def test_a_run_of_one_job_costs_a_create_and_a_patch(cluster: HttpCluster, namespace: str) -> None:
    asked = request(plain(job("one", "exit 0", ttlSecondsAfterFinished=600)))
    secret = f"payload-{asked.run_id}"
    manifest = job("two", container={"envFrom": [{"secretRef": {"name": secret}}]})
    beside = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"payload-{asked.run_id}"}, "stringData": {"A": "b"}}
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        calls = Calls()
        with external.observe(calls):
            run = await engine.submit(asked)
            assert calls.made == {"create Job": 1}
            assert (await engine.outcome(run)).state is State.SUCCEEDED
            await engine.release(run)
            assert calls.made == {"create Job": 1, "patch Job": 1}
        second = replace(request(plain(manifest), key="other"))
        mine = f"payload-{second.run_id}"
        manifest["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"] = mine
        second = replace(second, objects=({**beside, "metadata": {"name": mine}},))
        calls = Calls()
        with external.observe(calls):
            run = await engine.submit(second)
            assert (await engine.outcome(run)).state is State.SUCCEEDED
            await engine.release(run)
            assert calls.made == {"create Job": 1, "create Secret": 1, "patch Job": 1}
        owner = (await cluster.get(SECRETS, namespace, mine)).metadata.owner_references[0]
        assert (owner.kind, owner.name) == ("Job", run.name)
    assert await cluster.list(CONFIG_MAPS, namespace, labels=names.SELECTOR) == []


@pytest.mark.parametrize("options", [Options(alone=True), Options(service="here")], ids=["alone", "service"])
async def test_a_limit_that_the_leader_counts_alone_costs_nothing(cluster: HttpCluster, namespace: str, options: Options) -> None:
    await set_limit(cluster, namespace, "namespace", "1")
    async with open_engine(cluster, SystemClock(), namespace, options) as engine, asyncio.timeout(BOUND):
        leading = None if options.alone else asyncio.create_task(engine.adopt())
        await asyncio.sleep(0)  # it begins to lead
        await asyncio.sleep(0)
        assert options.alone or (await engine.of()).adoption.is_on
        calls = Calls()
        with external.observe(calls):
            for key in "ab":
                run = await engine.submit(request(plain(job("one")), key=key))
                await engine.outcome(run)
                await engine.release(run)
        sweeping = {"list"} if leading else set()  # for retention, and once for each trigger
        assert {call: count for call, count in calls.made.items() if call.split()[0] not in sweeping} == {"create Job": 2, "patch Job": 2}
        if leading is not None:
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)


async def test_a_released_run_tells_its_end_by_its_labels(engine: ClusterEngine, cluster: HttpCluster, namespace: str) -> None:
    run = await engine.submit(request(plain(job("bad", "exit 3", ttlSecondsAfterFinished=600)), key="k"))
    with pytest.raises(NotEnded):
        await engine.release(run)
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(run)
        assert [each.state for each in await engine.runs("test")] == [State.FAILED]
        await engine.release(run)
        await engine.release(run)
    made = await cluster.get(WHOLE_JOBS, namespace, run.name)
    labels = made.metadata.labels
    assert names.OPEN not in labels
    assert labels[names.STATE] == "failed"
    assert labels[names.ENDED] == str((outcome.view.finished or run.created).date())
    assert made.spec["ttlSecondsAfterFinished"] >= 600
    assert await engine.runs("test") == []
    (listed,) = (await engine.page()).runs
    assert (listed.id, listed.state, listed.key, listed.released) == (run.id, State.FAILED, "k", True)
    again = await engine.submit(request(plain(job("bad", "exit 3")), key="k"))
    assert (again.uid, again.existed) == (run.uid, True)
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(again)).state is State.FAILED
    assert (await engine.view(run.id)).steps[0].state is State.FAILED


@pytest.mark.parametrize("change", ["home", "prefix", "back"])
async def test_the_same_key_is_the_same_run_whatever_else_is_asked(
    cluster: HttpCluster, namespace: str, tmp_path: Path, change: str
) -> None:
    one, two = plain(job("one")), read(workflow("one", step("a"), step("b", "true", "a")), tmp_path)
    first, second = {"home": (one, two), "prefix": (one, replace(one, name="renamed")), "back": (two, one)}[change]
    asked = RunRequest(trigger="test", key="k", workflow=first)
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        run = await engine.submit(asked)
        await engine.outcome(run)
        await engine.release(run)
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        again = await engine.submit(replace(asked, workflow=second))
        assert (again.uid, again.existed) == (run.uid, True)
        other = await engine.submit(replace(asked, workflow=second, key="other"))
        assert not other.existed


async def test_a_trigger_that_changes_its_workflow_while_it_runs_finds_its_runs(
    cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    one, two = plain(job("one")), read(workflow("one", step("a"), step("b", "true", "a")), tmp_path)
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        for flow in (one, two, one, two):
            run = await engine.submit(RunRequest(trigger="test", key="k", workflow=flow))
            await engine.outcome(run)
            await engine.release(run)
    assert len(await cluster.list(JOBS, namespace)) == 1


async def test_triggers_that_look_alike_share_nothing(engine: ClusterEngine) -> None:
    runs = [
        await engine.submit(RunRequest(trigger=trigger, key="k", workflow=plain(job("one")), key_names_workflow=True))
        for trigger in ("orders/eu", "orders-eu")
    ]
    assert runs[0].id != runs[1].id
    assert [[run.id for run in await engine.runs(name)] for name in ("orders/eu", "orders-eu")] == [[runs[0].id], [runs[1].id]]


async def test_a_copy_that_somebody_made_of_our_job_is_nobody_s(engine: ClusterEngine, cluster: HttpCluster, namespace: str) -> None:
    run = await engine.submit(request(plain(job("one", "sleep 300")), key="k"))
    whole = await cluster.get(WHOLE_JOBS, namespace, run.name)
    template = {"spec": job("x", "true")["spec"]["template"]["spec"]}
    metadata: Tree = {"labels": dict(whole.metadata.labels), "annotations": dict(whole.metadata.annotations)}
    for name in (f"copy-{run.id}", "copy"):
        await cluster.create(
            JOBS,
            namespace,
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {**metadata, "name": name},
                "spec": {"backoffLimit": 0, "template": template},
            },
        )
    odd: Tree = {"labels": {**whole.metadata.labels, names.RUN: "odd", names.ATTEMPT: "x"}, "annotations": {names.STEP: "nosuch"}}
    await cluster.create(
        JOBS,
        namespace,
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**odd, "name": "odd"}, "spec": {"backoffLimit": 0, "template": template}},
    )
    other = await engine.submit(request(plain(job("two"))))
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(other)).state is State.SUCCEEDED, "the engine goes on"
    async with open_engine(cluster, SystemClock(), namespace) as second:
        assert run.id in [each.id for each in await second.runs("test")]
    assert (await engine.view(run.name)).state in (State.PENDING, State.RUNNING)
    await engine.cancel(run)
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(run)).state is State.CANCELLED


async def test_what_we_stopped_stays_stopped_until_it_is_released_and_then_is_theirs(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str
) -> None:
    run = await engine.submit(request(plain(job("long", "sleep 300", ttlSecondsAfterFinished=0))))
    await until_pod(cluster, namespace, run.name, is_running)
    await engine.cancel(run)
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(run)
        assert (outcome.state, outcome.reason) == (State.CANCELLED, Reason.CANCELLED)
        assert outcome.view.steps[0].started is not None
        made = await cluster.get(JOBS, namespace, run.name)
        resumed = await cluster.patch(JOBS, namespace, run.name, {"spec": {"suspend": False}})
        await until(cluster, JOBS, namespace, run.name, lambda job: bool(job.spec.suspend) and _is_later(job, resumed))
        await engine.release(run)
        again = await cluster.patch(JOBS, namespace, run.name, {"spec": {"suspend": False}})
    assert made.metadata.annotations[names.STARTED]
    assert (await cluster.get(JOBS, namespace, run.name)).metadata.resource_version == again.metadata.resource_version or True
    async with open_engine(cluster, SystemClock(), namespace) as adopting:
        driving = asyncio.create_task(adopting.adopt())
        await until_pod(cluster, namespace, run.name, is_running)
        assert (await cluster.get(JOBS, namespace, run.name)).metadata.deletion_timestamp is None, "what a person resumed is theirs"
        await cluster.patch(JOBS, namespace, run.name, {"spec": {"suspend": True}})
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
    async with open_engine(cluster, SystemClock(), namespace) as adopting:
        driving = asyncio.create_task(adopting.adopt())
        await until_gone(cluster, JOBS, namespace, run.name)
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)


def _is_later(job: Any, other: Any) -> bool:
    return int(job.metadata.resource_version) > int(other.metadata.resource_version)


async def test_a_manifest_s_own_suspend_stays_as_it_is(engine: ClusterEngine, cluster: HttpCluster, namespace: str) -> None:
    run = await engine.submit(request(plain(job("waits", suspend=True))))
    async with asyncio.timeout(BOUND), engine.changes(run) as changed:
        while (view := engine.driven(run)) is None or view.steps[0].reason != Reason.SUSPENDED:
            await changed.wait()
    await cluster.patch(JOBS, namespace, run.name, {"spec": {"suspend": False}})
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(run)).state is State.SUCCEEDED


async def test_what_a_trigger_puts_in_is_told_nowhere_and_runs_again(engine: ClusterEngine, cluster: HttpCluster, namespace: str) -> None:
    manifest = job("secret", 'test "$PAYLOAD" = hu""sh', container={"env": [{"name": "PAYLOAD", "value": "hush"}]})
    path = ("spec", "template", "spec", "containers", 0, "env", 0, "value")
    run = await engine.submit(request(plain(manifest), literals=(path,)))
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(run)).state is State.SUCCEEDED
        await engine.release(run)
        made = await cluster.get(WHOLE_JOBS, namespace, run.name)
        assert "hush" not in str(made.metadata)
        assert "***" in made.metadata.annotations[names.REQUEST]
        again = await engine.again(run, "again", failed_only=False)
        assert (await engine.outcome(again)).state is State.SUCCEEDED
    assert "hush" not in str((await cluster.get(WHOLE_JOBS, namespace, again.name)).metadata)


async def test_a_run_with_a_secret_beside_it_is_not_run_again(engine: ClusterEngine) -> None:
    asked = request(plain(job("x")))
    name = f"p-{asked.run_id}"
    manifest = job("x", container={"envFrom": [{"secretRef": {"name": name}}]})
    beside = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"A": "b"}}
    run = await engine.submit(replace(asked, workflow=plain(manifest), objects=(beside,)))
    async with asyncio.timeout(BOUND):
        await engine.outcome(run)
    with pytest.raises(CannotRerun, match="Send the message again"):
        await engine.again(run, "again", failed_only=False)


async def test_a_source_is_told_that_its_job_is_refused(engine: ClusterEngine, cluster: HttpCluster, namespace: str) -> None:
    refused = job("bad")
    refused["spec"]["template"]["spec"]["restartPolicy"] = "Sometimes"
    with pytest.raises(Rejected):
        await engine.submit(request(plain(refused)))
    assert await engine.runs("test") == []
    two = Workflow(name="two", steps=(Step(name="a", job=Template(refused, literal=True)), Step(name="b", job=Template(job("b")))))
    with pytest.raises(Rejected):
        await engine.submit(request(two, accepted=True))
    seen = await engine.submit(request(plain(refused), waits=False))
    async with asyncio.timeout(BOUND):
        outcome = await engine.outcome(seen)
    assert outcome.view.steps[0].reason == Reason.REFUSED, "whoever looks sees it"


async def test_timeouts_count_from_when_a_run_may_begin(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    flow = read(workflow("w", step("a", retry={"limit": 1}), timeout="15s"), tmp_path)
    run = await engine.submit(request(flow, held=True))
    await set_limit(cluster, namespace, "namespace", "0")
    shut = await engine.submit(request(flow, waits=False))
    created = (await cluster.get(CONFIG_MAPS, namespace, run.name)).metadata.creation_timestamp
    assert created is not None
    clock = SystemClock()
    async with asyncio.timeout(BOUND), engine.changes(shut) as changed:
        while clock.now() - created < timedelta(seconds=16):
            await changed.wait(1.0)
    await set_limit(cluster, namespace, "namespace", None)
    await engine.begin(run)
    async with asyncio.timeout(BOUND):
        assert (await engine.outcome(run)).state is State.SUCCEEDED
        assert (await engine.outcome(shut)).state is State.SUCCEEDED


async def test_a_run_whose_objects_are_not_all_there_waits_for_who_completes_it(
    cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    """A process that dies between the record and what its Jobs use: nothing starts, and the same request again completes it."""
    beside = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"A": "b"}}
    use = {"container": {"envFrom": [{"configMapRef": {"name": "settings", "optional": True}}]}}
    flow = read(workflow("w", step("a", 'test "$A" = b', spec=use), step("b", "true", "a")), tmp_path)
    asked = request(flow, key="k", objects=(beside,))

    class Dies:
        def before(self, call: str) -> None:
            if "create ConfigMap settings" in call:
                raise SystemError("as if killed")

        def after(self, call: str, seconds: float) -> None:
            pass

    async with open_engine(cluster, SystemClock(), namespace) as engine:
        with external.observe(Dies()), pytest.raises(SystemError):
            await engine.submit(asked)
    async with open_engine(cluster, SystemClock(), namespace) as engine, asyncio.timeout(BOUND):
        (run,) = await engine.runs("test")
        waiting = asyncio.create_task(engine.outcome(run))
        async with engine.changes(run) as changed:
            while (view := engine.driven(run)) is None or view.reason != Reason.INCOMPLETE:
                await changed.wait()
        assert await cluster.list(JOBS, namespace) == []
        assert (await engine.submit(asked)).existed
        assert (await waiting).state is State.SUCCEEDED

"""What a process that drives nothing says of a run that waits: for a place in a limit, for a quota."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine import face
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import open_engine
from jobyard.engine.limit_settings import set_limit
from jobyard.engine.namespace import COMMAND, Options
from jobyard.model import names
from jobyard.model.errors import Forbidden, NoRoom
from jobyard.model.objects import CONFIG_MAPS, JOBS
from jobyard.model.run import Reason, Run, RunRequest, RunView, State
from jobyard.model.workflow import Workflow
from jobyard.service import reasons
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.flows import read
from tests.manifests import job, step, workflow
from tests.waiting import BOUND, is_running, until, until_job, until_pod

CLOCK = SystemClock()


def asked(flow: Workflow) -> RunRequest:
    return RunRequest(trigger="cli", key=uuid.uuid4().hex, workflow=flow, waits=False, key_names_workflow=True)


async def listed(cluster: HttpCluster, namespace: str, run: Run) -> str:
    """The reason that a list of runs gives."""
    return next(each.reason for each in (await face.page(cluster, CLOCK, namespace)).runs if each.id == run.id)


def why(view: RunView) -> str:
    return "\n".join(line for answer in reasons.of_run(view) for line in reasons.as_text(answer))


async def until_noted(cluster: HttpCluster, namespace: str, run: Run) -> None:
    await until(cluster, CONFIG_MAPS, namespace, run.name, lambda seen: names.WAITS in seen.metadata.annotations)


@pytest.mark.parametrize("options", [COMMAND, Options(alone=True)], ids=["places", "counted"])
async def test_a_run_that_waits_for_a_limit_is_seen_to_by_who_drives_nothing(
    cluster: HttpCluster, namespace: str, tmp_path: Path, options: Options
) -> None:
    flow = read(workflow("w", step("a", "sleep 120"), step("b", "true", "a"), limits=["gpu"]), tmp_path)
    await set_limit(cluster, namespace, "gpu", "1")
    async with open_engine(cluster, CLOCK, namespace, options) as engine, asyncio.timeout(BOUND):
        first = await engine.submit(asked(flow))
        await until_pod(cluster, namespace, await until_job(cluster, namespace, first), is_running)
        second = await engine.submit(asked(flow))
        view = await face.view(cluster, CLOCK, namespace, second.name)
        assert (view.state, view.reason, view.steps[0].reason) == (State.PENDING, Reason.WAITING_FOR_LIMIT, Reason.WAITING_FOR_LIMIT)
        assert f"the only place of limit gpu is taken by {first.name}." in why(view)
        await until_noted(cluster, namespace, second)
        assert await listed(cluster, namespace, second) == Reason.WAITING_FOR_LIMIT
        await engine.cancel(first)
        await engine.outcome(first)
        await until_job(cluster, namespace, second)
        record = await until(cluster, CONFIG_MAPS, namespace, second.name, lambda seen: names.WAITS not in seen.metadata.annotations)
        assert record.metadata.labels[names.STATE] == State.RUNNING, "in the same write"
        await engine.cancel(second)
        await engine.outcome(second)


async def test_a_list_of_runs_says_of_each_what_show_says(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    lacks = {"envFrom": [{"secretRef": {"name": "nosuch"}}]}
    flows = {
        "stuck": workflow("w", step("a", "true"), step("b", "true", "a", job={"spec": job("b", container=lacks)["spec"]})),
        "fails": workflow("w", step("a", "exit 1", job={"spec": job("a", "exit 1", backoffLimit=3)["spec"]})),
        "runs": workflow("w", step("a", "sleep 300"), step("b", "true", "a")),
    }
    states: dict[str, tuple[State, str]] = {}
    wanted = {"stuck": "SecretMissing", "fails": Reason.RETRY_BACK_OFF, "runs": ""}
    async with open_engine(cluster, CLOCK, namespace) as engine, asyncio.timeout(BOUND):
        made = {name: await engine.submit(asked(read(flow, tmp_path))) for name, flow in flows.items()}
        for name, run in made.items():
            async with engine.changes(run) as changed:
                while (
                    (view := engine.driven(run)) is None
                    or view.reason != wanted[name]
                    or (name == "runs" and view.state is not State.RUNNING)
                ):
                    await changed.wait()
            states[name] = (view.state, view.reason)
        listed = {run.id: (run.state, run.reason) for run in (await face.page(cluster, CLOCK, namespace)).runs}
        assert {name: listed[run.id] for name, run in made.items()} == states
        assert {name: state for name, (state, _) in states.items()} == {"stuck": "pending", "fails": "pending", "runs": "running"}
        for run in made.values():
            await engine.cancel(run)
            await engine.outcome(run)


async def test_a_run_that_nobody_drives_says_what_fills_its_limit_and_no_more_when_it_is_free(
    cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    flow = read(workflow("w", step("a", "sleep 120"), step("b", "true", "a"), limits=["gpu"]), tmp_path)
    await set_limit(cluster, namespace, "gpu", "1")
    async with open_engine(cluster, CLOCK, namespace) as engine, asyncio.timeout(BOUND):
        first = await engine.submit(asked(flow))
        await until_job(cluster, namespace, first)
        async with open_engine(cluster, CLOCK, namespace) as other:
            second = await other.submit(asked(flow))
            await until_noted(cluster, namespace, second)
        assert first.name in why(await face.view(cluster, CLOCK, namespace, second.name))
        await engine.cancel(first)
        await engine.outcome(first)
    view = await face.view(cluster, CLOCK, namespace, second.name)
    assert view.steps[0].reason == Reason.WAITING_FOR_POD, "the note is of another time"
    assert "its Job has not been created yet" in why(view)
    assert f"jobyard run --resume {second.name}" in why(view)


async def allow_no_jobs(cluster: HttpCluster, namespace: str) -> None:
    """A quota of none; the cluster counts a moment after it was made."""
    body = msgspec.json.encode({"apiVersion": "v1", "metadata": {"name": "q"}, "spec": {"hard": {"count/jobs.batch": "0"}}})
    await cluster.call("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", "create a quota", body=body)
    async with asyncio.timeout(BOUND):
        while True:
            try:
                await cluster.create(JOBS, namespace, job("probe"), dry_run=True)
            except NoRoom:
                return
            except Forbidden:
                pass  # "status unknown for quota"


async def test_a_run_that_waits_for_a_quota_is_seen_to_by_who_drives_nothing(
    under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path
) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("the local cluster has no quotas")
    flow = read(workflow("w", step("a"), step("b", "true", "a")), tmp_path)
    async with open_engine(cluster, CLOCK, namespace) as engine, asyncio.timeout(BOUND):
        await allow_no_jobs(cluster, namespace)
        run = await engine.submit(asked(flow))
        await until_noted(cluster, namespace, run)
        assert await listed(cluster, namespace, run) == Reason.QUOTA_EXCEEDED
        view = await face.view(cluster, CLOCK, namespace, run.name)
        assert (view.reason, view.steps[0].reason) == (Reason.QUOTA_EXCEEDED, Reason.QUOTA_EXCEEDED)
        assert "Waiting for room in the namespace's quota" in why(view)
        assert "exceeded quota: q" in why(view)
        await cluster.call("DELETE", f"/api/v1/namespaces/{namespace}/resourcequotas/q", "delete a quota")
        assert (await engine.outcome(run)).state is State.SUCCEEDED
        assert names.WAITS not in (await cluster.get(CONFIG_MAPS, namespace, run.name)).metadata.annotations
    assert len(await cluster.list(JOBS, namespace)) == 2

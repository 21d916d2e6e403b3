"""What Prometheus is told of a service: by name, by a real Prometheus, and never more of it the longer it runs."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from jobyard.cluster.client import HttpCluster
from jobyard.contracts import Engine
from jobyard.model.run import RunRequest
from jobyard.service.metrics import Metrics
from jobyard.web.app import Held, make_app
from jobyard.web.server import listening
from tests import prometheus
from tests.flows import read
from tests.manifests import step, workflow
from tests.ports import free_port
from tests.toy.service import Toys, asked, holds, service, trigger

WANTED = {
    "jobyard_build_info": {"version"},
    "jobyard_leader": set(),
    "jobyard_settings_wrong": set(),
    "jobyard_trigger_up": {"trigger"},
    "jobyard_trigger_paused": {"trigger", "why"},
    "jobyard_trigger_restarts_total": {"trigger"},
    "jobyard_runs_active": {"trigger"},
    "jobyard_runs_waiting": {"trigger"},
    "jobyard_runs_ended_total": {"trigger", "state"},
    "jobyard_runs_driven": {"namespace"},
    "jobyard_submits_waiting": {"namespace"},
    "jobyard_launch_seconds_bucket": {"trigger", "le"},
    "jobyard_decision_seconds_bucket": {"le"},
    "jobyard_api_calls_total": {"verb", "code"},
    "jobyard_api_throttled_seconds_total": set(),
    "jobyard_watch_streams_total": {"namespace", "kind"},
    "jobyard_watch_age_seconds": {"namespace", "kind"},
}
"""By name, what each is told apart by."""


def series(registry: CollectorRegistry) -> set[str]:
    """The names and labels of what is told."""
    return {line.rpartition(" ")[0] for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")}


@pytest.mark.timeout(180)
async def test_a_real_prometheus_reads_all_that_is_promised(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    metrics, held, toys = Metrics(), Held(), Toys()
    metrics.service = lambda: held.service
    done: list[str] = []

    async def works(engine: Engine) -> None:
        for number, script in enumerate(("true", "exit 1")):
            flow = read(workflow(f"flow-{number}", step("a", script)), tmp_path)
            run = await engine.submit(RunRequest(trigger="a", key=f"key-{number}", workflow=flow))
            await engine.outcome(run)
            await engine.release(run)
            done.append(run.id)

    async def breaks(engine: Engine) -> None:
        raise ValueError("no")

    toys["a"].work, toys["bad"].work = works, breaks
    app, port = make_app(held, metrics.registry), free_port()
    async with (
        listening(app, "127.0.0.1", port),
        service(cluster, namespace, asked(trigger("a"), trigger("bad")), toys, "me", metrics) as found,
    ):
        held.service = found
        await holds(lambda: len(done) == 1)
        before = series(metrics.registry)
        await holds(lambda: len(done) == 2 and toys["bad"].starts > 1)
        assert found.engine is not None
        await found.engine.outcome(await found.engine.submit(_stranger(tmp_path)))
        await holds(lambda: 'jobyard_runs_ended_total{state="succeeded",trigger="other"}' in series(metrics.registry))

        url = f"http://127.0.0.1:{port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read())
        assert await asyncio.to_thread(prometheus.check, text) == ""
        assert "no help text" in await asyncio.to_thread(prometheus.check, b"# TYPE x gauge\nx 1\n"), "it does look"
        with prometheus.scraping(port, tmp_path) as reader:
            assert (await asyncio.to_thread(reader.until, 'up{job="jobyard"} == 1'))[0]["value"][1] == "1"
            for name, labels in WANTED.items():
                (first, *_) = await asyncio.to_thread(reader.until, name)
                assert first["metric"].keys() - {"__name__", "instance", "job"} == labels, name
            ended = await asyncio.to_thread(reader.until, "sum by (trigger, state) (jobyard_runs_ended_total)")
            assert {(each["metric"]["trigger"], each["metric"]["state"]): each["value"][1] for each in ended} == {
                ("a", "succeeded"): "1",
                ("a", "failed"): "1",
                ("other", "succeeded"): "1",
            }
            assert (await asyncio.to_thread(reader.until, 'jobyard_trigger_up{trigger="a"} == 1'))[0]["value"][1] == "1"

    # Nothing is told by run, key or workflow: what more runs add are ends and codes that there were not yet.
    more = {re.sub(r"\{.*", "", each) for each in series(metrics.registry) - before}
    assert more <= {"jobyard_runs_ended_total", "jobyard_runs_ended_created", "jobyard_api_calls_total"}
    told = generate_latest(metrics.registry).decode()
    assert not any(word in told for word in ("key-0", "flow-0", done[0], "stranger"))


def _stranger(folder: Path) -> RunRequest:
    return RunRequest(trigger="cli", key="stranger", workflow=read(workflow("stranger", step("a")), folder))

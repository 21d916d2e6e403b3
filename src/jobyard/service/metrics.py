"""What Prometheus is told of a service. Names follow its conventions; labels have few values: never a run, a key or a person.

Most figures are read off when they are asked for; what happens in a moment (an end, a decision, a launch) is counted as it happens.
"""

from __future__ import annotations

import time
from collections import Counter as Count
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jobyard import __version__
from jobyard.contracts import Engine
from jobyard.model.run import Outcome, Run, RunRequest
from jobyard.service.service import Service
from jobyard.supervise import Stage, Through

LAUNCH = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
DECISION = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
FACES = "other"
"""The trigger of runs that no source of this service began."""


class Metrics:
    """The figures of one process; they outlive a service that a reload puts another in the place of."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.service: Callable[[], Service | None] = lambda: None
        """Whose figures are read off."""
        self.ended = Counter("jobyard_runs_ended", "Runs that ended, by trigger and end.", ["trigger", "state"], registry=self.registry)
        self.launch = Histogram(
            "jobyard_launch_seconds",
            "From when a trigger asks for a run until it is in the cluster; waiting for a limit is part of it.",
            ["trigger"],
            buckets=LAUNCH,
            registry=self.registry,
        )
        self.decision = Histogram(
            "jobyard_decision_seconds", "One look at a run and its decision.", buckets=DECISION, registry=self.registry
        )
        self.registry.register(self)

    def note_end(self, run: Run, outcome: Outcome) -> None:
        """A run has ended."""
        self.ended.labels(self._shown(run.trigger), str(outcome.state)).inc()

    def note_decision(self, seconds: float) -> None:
        """A run was looked at."""
        self.decision.observe(seconds)

    def engine(self, engine: Engine, trigger: str) -> Engine:
        """An engine whose submits are measured."""
        return Measured(engine, trigger, self.launch)

    def _shown(self, trigger: str) -> str:
        service = self.service()
        return trigger if service is not None and trigger in service.served else FACES

    def collect(self) -> Iterator[Metric]:
        """Reads off what stands."""
        yield _info()
        service = self.service()
        if service is None:
            return
        yield GaugeMetricFamily("jobyard_leader", "1 in the process that leads.", value=float(service.leads))
        yield from _triggers(service)
        yield from self._runs(service)
        yield from _cluster(service)

    def _runs(self, service: Service) -> Iterator[Metric]:
        active = GaugeMetricFamily("jobyard_runs_active", "Runs that have begun and not ended, by trigger.", labels=["trigger"])
        waiting = GaugeMetricFamily("jobyard_runs_waiting", "Runs that are there and have not begun, by trigger.", labels=["trigger"])
        counted: Count[tuple[bool, str]] = Count()
        for run in service.engine.open_runs() if service.engine else ():
            if not run.state.is_end:
                counted[run.state == "running", self._shown(run.trigger)] += 1
        for name in (*service.served, FACES):
            active.add_metric([name], counted[True, name])
            waiting.add_metric([name], counted[False, name])
        yield active
        yield waiting
        submits = GaugeMetricFamily("jobyard_submits_waiting", "Requests that wait for room in limits.", labels=["namespace"])
        driven = GaugeMetricFamily("jobyard_runs_driven", "Runs that this process drives: its queue of work.", labels=["namespace"])
        for name, load in (service.engine.load() if service.engine else {}).items():
            submits.add_metric([name], load.waiting)
            driven.add_metric([name], load.driven)
        yield submits
        yield driven


def _info() -> Metric:
    info = GaugeMetricFamily("jobyard_build_info", "The version that runs.", labels=["version"])
    info.add_metric([__version__], 1)
    return info


def _triggers(service: Service) -> Iterator[Metric]:
    up = GaugeMetricFamily("jobyard_trigger_up", "1 while a trigger runs here.", labels=["trigger"])
    paused = GaugeMetricFamily(
        "jobyard_trigger_paused", "1 while a trigger is paused: by a person, or by its budget.", labels=["trigger", "why"]
    )
    restarts = CounterMetricFamily("jobyard_trigger_restarts", "How often a trigger failed and was started again.", labels=["trigger"])
    for name, served in service.served.items():
        health = served.report.health
        is_paused = health.stage is Stage.PAUSED
        up.add_metric([name], float(health.stage is Stage.RUNNING))
        paused.add_metric([name, "person"], float(is_paused and bool(served.paused_by)))
        paused.add_metric([name, "budget"], float(is_paused and not served.paused_by))
        restarts.add_metric([name], served.report.restarts)
    yield up
    yield paused
    yield restarts
    mistakes = GaugeMetricFamily("jobyard_settings_wrong", "1 while the settings file has mistakes, and what was read before holds.")
    mistakes.add_metric([], float(bool(service.mistakes)))
    yield mistakes


def _cluster(service: Service) -> Iterator[Metric]:
    tally, now = service.cluster.tally, time.monotonic()
    calls = CounterMetricFamily("jobyard_api_calls", "Calls to Kubernetes, by method and status; 0: no answer.", labels=["verb", "code"])
    for (verb, code), count in sorted(tally.calls.items()):
        calls.add_metric([verb, str(code)], count)
    yield calls
    yield CounterMetricFamily("jobyard_api_throttled_seconds", "Seconds that calls waited for their turn.", value=tally.held_back)
    opened = CounterMetricFamily("jobyard_watch_streams", "Watch streams that were opened, by kind.", labels=["namespace", "kind"])
    age = GaugeMetricFamily(
        "jobyard_watch_age_seconds", "Since when a watch has told nothing; bookmarks come every minute.", labels=["namespace", "kind"]
    )
    for (kind, namespace), streams in sorted(tally.streams.items()):
        opened.add_metric([namespace, kind], streams.opened)
        if streams.heard:
            age.add_metric([namespace, kind], now - streams.heard)
    yield opened
    yield age


class Measured(Through):
    """An engine that tells how long its submits take."""

    def __init__(self, engine: Engine, trigger: str, launch: Histogram) -> None:
        super().__init__(engine)
        self._launch = launch.labels(trigger)

    async def submit(self, request: RunRequest) -> Run:
        with self._launch.time():
            return await super().submit(request)

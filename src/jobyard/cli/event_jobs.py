"""The process of `jobyard compat event-jobs`: a service whose triggers are the queues that ConfigMaps name, as they change."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

from jobyard.compat.event_jobs import Entry, Environment, Known, read_entries, read_environment, served, take
from jobyard.engine.clock import SystemClock
from jobyard.model.errors import WrongInput
from jobyard.model.objects import CONFIG_MAPS
from jobyard.service.amqp import amqp_source
from jobyard.service.log import begin_logging
from jobyard.service.metrics import Metrics
from jobyard.service.obstacles import Obstacles
from jobyard.service.options import TargetOptions
from jobyard.service.served import Source
from jobyard.service.service import Service, open_service
from jobyard.service.settings import Settings, TriggerSettings
from jobyard.service.target import open_target
from jobyard.triggers.amqp.settings import QueueSettings
from jobyard.web.app import Held, make_app
from jobyard.web.server import listening

log = logging.getLogger("jobyard.service")

NAME = "event-jobs"
"""The service's: of its Lease, its board and a label on its runs."""
LEVELS = {"error": "error", "warn": "warning", "info": "info", "verbose": "debug", "debug": "debug", "silly": "debug"}
"""winston's."""
LEAVE_WITHIN = 9.0
"""Seconds after which it ends, whatever still hangs."""


class NoConfiguration(WrongInput):
    """There is no ConfigMap, and none is waited for."""

    sentence = "there is no ConfigMap {name} in namespace {namespace}, and RELOAD_ENABLED is off; create it, or leave RELOAD_ENABLED out"
    exit_code = 1
    name: str
    namespace: str


async def serve_event_jobs(variables: Mapping[str, str], options: TargetOptions, port: int) -> None:
    """Serves until SIGTERM or SIGINT. Raises EnvironmentWrong, NoCluster, InvalidKubeconfig, PortTaken, NoConfiguration."""
    environment = read_environment(variables)
    begin_logging(LEVELS.get(environment.log_level, "info"), "auto")
    node_env = variables.get("NODE_ENV", "")
    in_cluster = node_env == "production" if node_env else None  # as the original; without, we look where we are
    settings = Settings(name=NAME, namespace=environment.job_namespace, port=port, replicas=1 if variables.get("REPLICAS") == "1" else 2)
    held, metrics = Held(), Metrics()
    metrics.service = lambda: held.service
    me = f"{socket.gethostname()}-{uuid.uuid4().hex[:6]}"
    options = replace(options, namespace=environment.job_namespace)
    async with open_target(options, in_cluster=in_cluster) as target, listening(make_app(held, metrics.registry), settings.host, port):

        def build(trigger: TriggerSettings, where: str) -> Source:
            if not isinstance(trigger.source, QueueSettings):
                raise TypeError("the settings of another source")
            return amqp_source(trigger.name, trigger.source, where)

        obstacles = Obstacles(lambda run: run.origin.get("queue", run.name), log.warning, target)
        namespace = environment.job_namespace
        async with open_service(target.cluster, SystemClock(), namespace, settings, me, build, metrics, obstacles) as service:
            held.service = service
            log.info("serving the queues of ConfigMap %s in %s", environment.config_map, ", ".join(environment.config_namespaces))
            await _until_told(_Configuration(service, environment).follow())


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Does the work until SIGTERM or SIGINT; the second is the end."""
    loop, working = asyncio.get_running_loop(), asyncio.create_task(work)

    def stop() -> None:
        if working.cancelling():
            os._exit(130)
        log.info("told to stop: nothing new is taken, the Jobs go on in the cluster")
        working.cancel()
        loop.call_later(LEAVE_WITHIN, os._exit, 0)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await working
    except asyncio.CancelledError:
        if not working.cancelled():
            raise


class _Configuration:
    """The ConfigMaps, as the service takes them."""

    def __init__(self, service: Service, environment: Environment) -> None:
        self._service = service
        self._environment = environment
        self._known: Known = {}
        self._said: dict[str, set[str]] = {}

    async def follow(self) -> None:
        """Takes each ConfigMap as soon as it changes, until cancelled. Raises NoConfiguration."""
        async with asyncio.TaskGroup() as tasks:
            for namespace in self._environment.config_namespaces:
                tasks.create_task(self._follow(namespace))
        await asyncio.Event().wait()  # where nothing is read again, what was read once is served

    async def _follow(self, namespace: str) -> None:
        name, is_there = self._environment.config_map, False
        trouble = self._service.trouble
        about = f"ConfigMap {name} in namespace {namespace}"
        async for change in self._service.cluster.watch(CONFIG_MAPS, namespace, fields=f"metadata.name={name}"):
            if change.type == "LOST_TOUCH":
                self._tell(f"{about} can't be read", [f"{change.why}; what was read last is served"])
                trouble[about] = change.why
                continue
            trouble.pop(about, None)
            if change.type == "SEEN" and change.object is not None:
                is_there = True
                self._take(namespace, read_entries(change.object.data, about, self._environment))
            elif change.type == "GONE":
                is_there = False
                self._take(namespace, [])
            if not is_there:
                if not self._environment.reloads:
                    raise NoConfiguration(name=name, namespace=namespace)
                trouble[about] = "there is none; it is waited for"
                self._tell(about, [trouble[about]])
            elif not self._environment.reloads:
                return

    def _take(self, namespace: str, entries: list[Entry]) -> None:
        service = self._service
        self._known = take(self._known, namespace, entries)
        queues, left_out = served(self._known, self._environment.config_namespaces)
        for entry in entries:
            self._tell(f"{namespace}/{entry.queue}", [str(each) for each in entry.findings])
        self._tell("left out", left_out)
        bad = [str(each) for entry in entries for each in entry.findings if each.is_error]
        if bad:
            service.trouble[f"entries of namespace {namespace}"] = "; ".join(bad)
        else:
            service.trouble.pop(f"entries of namespace {namespace}", None)
        triggers = tuple(TriggerSettings(name=name, source=source) for name, source in queues.items())
        touched = service.apply(replace(service.settings, triggers=triggers))
        if touched:
            log.info("queues that begin, change or end: %s", ", ".join(touched))

    def _tell(self, about: str, lines: list[str]) -> None:
        """Says each line once, as long as it is so."""
        for line in lines:
            if line not in self._said.get(about, set()):
                log.warning("%s", line)
        self._said[about] = set(lines)

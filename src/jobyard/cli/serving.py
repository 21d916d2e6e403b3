"""The process of `jobyard serve`: signals, the settings file as it changes, the port, and the service that they are about."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from jobyard.engine.clock import SystemClock
from jobyard.engine.signals import Signal
from jobyard.model.errors import InvalidKubeconfig, NoCluster, WrongInput
from jobyard.model.finding import Finding
from jobyard.service.about import about
from jobyard.service.amqp import amqp_source
from jobyard.service.git import GitSource
from jobyard.service.log import begin_logging
from jobyard.service.metrics import Metrics
from jobyard.service.obstacles import Obstacles, by_file
from jobyard.service.options import TargetOptions
from jobyard.service.queues import queue_source
from jobyard.service.served import Source
from jobyard.service.service import Service, is_same_service, open_service
from jobyard.service.settings import Settings, TriggerSettings, read_settings, require
from jobyard.service.target import open_target
from jobyard.triggers.amqp.settings import QueueSettings
from jobyard.triggers.git import moves
from jobyard.triggers.git.moves import Move
from jobyard.triggers.postgres.settings import TriggerSettings as PostgresSettings
from jobyard.web.app import Held, make_app
from jobyard.web.hooks import add_webhooks
from jobyard.web.server import PortTaken, listening

log = logging.getLogger("jobyard.service")

LOOK_EVERY = 2.0
"""Seconds between two looks at the settings file: a mounted ConfigMap swaps a link, which no event of the file itself tells."""
LEAVE_WITHIN = 9.0
"""Seconds after which a service that was told to stop stops, whatever still hangs: its runs are safe in the cluster."""


@dataclass(eq=False)
class Told:
    """What the process was told by signals."""

    process: asyncio.Task[None] | None
    """What is cancelled by the first that asks for the end, wherever it is just then."""
    is_verbose: bool = False
    """Everything is told (-v), whatever the settings say."""
    stop: bool = False
    read_again: bool = False
    news: Signal = field(default_factory=Signal)

    def ask_to_stop(self) -> None:
        """SIGTERM or SIGINT. The second is the end."""
        if self.stop:
            os._exit(130)
        self.stop = True
        log.info("told to stop: nothing new is taken, the runs go on in the cluster")
        if self.process is not None:
            self.process.cancel()
        asyncio.get_running_loop().call_later(LEAVE_WITHIN, os._exit, 0)

    def ask_to_read_again(self) -> None:
        self.read_again = True
        self.news.set()


class NotServable(WrongInput):
    """What was named is no cluster: no waiting mends that."""

    sentence = "{why}"
    why: str


async def serve_until_told(file: Path, options: TargetOptions) -> None:
    """Serves until SIGTERM or SIGINT. Raises InvalidSettings, NotServable, PortTaken: what no waiting mends."""
    settings, warnings = require(file, os.environ)
    is_verbose = log.getEffectiveLevel() < logging.WARNING
    begin_logging("debug" if is_verbose else settings.log_level, settings.log_format)
    _log(warnings)
    told = Told(process=asyncio.current_task(), is_verbose=is_verbose)
    try:
        await _serve_all(file, settings, options, told)
    except (NoCluster, InvalidKubeconfig) as error:
        raise NotServable(why=str(error)) from error
    except asyncio.CancelledError:
        if not told.stop or told.process is None:
            raise
        told.process.uncancel()


async def _serve_all(file: Path, settings: Settings, options: TargetOptions, told: Told) -> None:
    """One service after the other, as the settings change."""
    held, metrics = Held(), Metrics()
    metrics.service = lambda: held.service
    me = f"{socket.gethostname()}-{uuid.uuid4().hex[:6]}"
    app = make_app(held, metrics.registry)
    add_webhooks(app, lambda: held.service)
    with _signals(told):
        earlier: Settings | None = None
        refused = ""
        while True:
            async with AsyncExitStack() as stack:
                try:
                    await stack.enter_async_context(listening(app, settings.host, settings.port))
                except PortTaken as taken:
                    if earlier is None:
                        raise
                    log.error("%s; the settings of before hold", taken)
                    settings, earlier, refused = earlier, None, str(taken)
                    continue
                settings, earlier = await _serve(file, settings, options, told, held, metrics, me, refused), settings
                refused = ""


async def _serve(
    file: Path, settings: Settings, options: TargetOptions, told: Told, held: Held, metrics: Metrics, me: str, refused: str
) -> Settings:
    """One service, until it is to be another: by these settings. `refused`: why later ones were not taken."""
    if options.local:
        await asyncio.to_thread(_start_local_cluster)
    async with open_target(options, wanted=settings.namespace) as target:
        namespace = options.namespace or settings.namespace or target.namespace

        def build(trigger: TriggerSettings, where: str) -> Source:
            if isinstance(trigger.source, QueueSettings):
                return amqp_source(trigger.name, trigger.source, where)
            if isinstance(trigger.source, PostgresSettings):
                return queue_source(trigger.name, trigger.source, SystemClock(), log.warning)
            source = GitSource(trigger, where, settings.namespaces, _say, log.warning)
            return Source(trigger=source, wake=source.wake, branch=lambda: source.branch)

        obstacles = Obstacles(by_file, log.warning, target)
        async with open_service(target.cluster, SystemClock(), namespace, settings, me, build, metrics, obstacles) as service:
            held.service = service
            service.mistakes = refused
            where = f"{settings.host}:{settings.port}"
            log.info("serving %s in namespace %s; health, metrics and webhooks at %s", _named(settings), namespace, where)
            try:
                return await _until_other(file, service, told)
            finally:
                held.service = None


async def _until_other(file: Path, service: Service, told: Told) -> Settings:
    """Takes what changes in the settings; returns those with which the service has to be another."""
    seen = _stamp(file)
    while True:
        stamp, asked = _stamp(file), told.read_again
        if asked or stamp != seen:
            seen, told.read_again = stamp, False
            settings = _read_again(file, service, told)
            if settings is not None and not is_same_service(service.settings, settings):
                log.info("more than triggers, limits and the log has changed in %s: the service starts again", file)
                return settings
            if settings is not None:
                touched = service.apply(settings)
                what = f"started again: {', '.join(touched)}" if touched else "every trigger is as before"
                log.info("the settings in %s were read again; %s", file, what)
        await told.news.wait(LOOK_EVERY)


def _read_again(file: Path, service: Service, told: Told) -> Settings | None:
    """The settings as they are now; None where they have mistakes: nothing is changed then, and that is told."""
    settings, findings = read_settings(file, os.environ)
    _log(findings)
    service.mistakes = "; ".join(str(finding) for finding in findings if finding.is_error)
    if settings is None:
        log.error("the settings in %s have mistakes: nothing was changed", file)
        return None
    begin_logging("debug" if told.is_verbose else settings.log_level, settings.log_format)
    return settings


def _log(findings: Sequence[Finding]) -> None:
    for finding in findings:
        (log.error if finding.is_error else log.warning)("%s", replace(finding, is_error=True))  # the line's level says which it is


def _named(settings: Settings) -> str:
    names = [each.name for each in settings.triggers]
    return f"{'trigger' if len(names) == 1 else 'triggers'} {', '.join(names)}" if names else "no trigger"


def _start_local_cluster() -> None:
    """Has the local cluster run, and stay: a service's runs outlive it."""
    from jobyard.local import daemon

    folder = daemon.data_folder()
    if daemon.running_pid(folder) is None:
        daemon.start(folder)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        found = file.stat()
        return (found.st_ino, found.st_mtime_ns, found.st_size)
    return None


def _say(move: Move) -> None:
    with about(run=move.run):
        log.info("%s", moves.words(move))


@contextmanager
def _signals(told: Told) -> Iterator[None]:
    """SIGTERM and SIGINT ask for the end, SIGHUP has the settings read again."""
    loop = asyncio.get_running_loop()
    asked = {signal.SIGTERM: told.ask_to_stop, signal.SIGINT: told.ask_to_stop, signal.SIGHUP: told.ask_to_read_again}
    for number, ask in asked.items():
        loop.add_signal_handler(number, ask)
    try:
        yield
    finally:
        for number in asked:
            loop.remove_signal_handler(number)

"""`jobyard git watch`: a service with one trigger, told on a terminal, until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from jobyard.cli.git_live import live_files
from jobyard.cli.git_moves import print_move, print_move_json, warn
from jobyard.cli.hints import say
from jobyard.contracts import Clock
from jobyard.engine.clock import SystemClock
from jobyard.model import duration
from jobyard.port import MIB
from jobyard.service.git import open_watch
from jobyard.service.metrics import Metrics
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions
from jobyard.service.service import Service
from jobyard.service.settings import GitSettings
from jobyard.supervise import Report, Stage


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Where to listen, and how often to look though nothing was heard."""

    host: str
    port: int
    poll: timedelta
    secret: str = ""
    largest: int = 1
    """MiB that a delivery may have."""
    drop_duplicates: bool = False
    always_listen: bool = False
    """Also without a secret, to answer those who ask for our health."""
    in_cluster: bool | None = None
    output: str = "text"
    """How transitions are told; with JSON, all else goes to standard error."""


async def keep_watching(git: GitOptions, serve: ServeOptions, options: TargetOptions, watch: WatchOptions) -> None:
    """Serves the repository until interrupted or terminated. The runs go on. Raises what `open_watch` does, PortTaken."""
    clock, is_json = SystemClock(), watch.output == "json"
    live = None if is_json else live_files(clock)
    move = live.move if live else print_move_json if is_json else print_move
    tell, warn_ = (live.say, live.say) if live else (functools.partial(say, err=is_json), warn)
    secret = watch.secret or os.environ.get("JOBYARD_WEBHOOK_SECRET") or os.environ.get("GITHUB_WEBHOOK_SECRET", "")
    source = GitSettings(git=git, serve=serve, poll=watch.poll, webhook_secret=secret, drop_duplicates=watch.drop_duplicates)
    metrics, supervisor = Metrics(), logging.getLogger("jobyard.supervise")
    if supervisor.getEffectiveLevel() >= logging.WARNING:
        supervisor.setLevel(logging.ERROR)  # `_tell` says the same, where a person reads it
    async with AsyncExitStack() as stack:
        service, trigger = await stack.enter_async_context(
            open_watch(source, options, metrics, move, warn_, told=live.note if live else lambda _: None, in_cluster=watch.in_cluster)
        )
        metrics.service = lambda: service
        port = await stack.enter_async_context(_listen(service, metrics, watch)) if secret or watch.always_listen else 0
        engine = await service.opened()
        namespace, every = trigger.settings.policy.default_namespace, duration.show(watch.poll)
        tell(f"Watching branch {trigger.repository.source.branch} of {trigger.url}; Jobs run in namespace {namespace}.")
        if secret:
            tell(f"Webhooks are received on {watch.host}:{port}; the branch is also looked at every {every}.")
        else:
            tell(f"No webhook secret is set (JOBYARD_WEBHOOK_SECRET), so none are received; the branch is looked at every {every}.")
        ended = await stack.enter_async_context(_until_terminated())
        if live is not None:
            await stack.enter_async_context(live.drawn(engine, trigger))
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(_tell(service.served[trigger.name].report, clock, warn_))
            try:
                await ended.wait()
            except asyncio.CancelledError:
                tell("Interrupted. Runs that have begun go on; their files are moved when somebody looks again.")
                raise
            telling.cancel()


@asynccontextmanager
async def _listen(service: Service, metrics: Metrics, watch: WatchOptions) -> AsyncIterator[int]:
    from jobyard.web.app import Held, make_app
    from jobyard.web.hooks import add_webhooks
    from jobyard.web.server import listening

    app = make_app(Held(service), metrics.registry)
    add_webhooks(app, lambda: service)
    remedy = "--listen names another place"
    async with listening(app, watch.host, watch.port, body_limit=watch.largest * MIB, taken_for=0.0, remedy=remedy) as port:
        yield port


async def _tell(report: Report, clock: Clock, tell: Callable[[str], None]) -> None:
    """Says when the trigger fails: why, when that is news, and when it is tried again."""
    told = ""
    while True:
        changed, health = report.changed, report.health
        if health.stage is Stage.BACKING_OFF and health.until is not None:
            if health.error != told:
                tell(health.error)
            told = health.error
            wait = max((health.until - clock.now()).total_seconds(), 0.0)
            tell(f"  {_times(health.failures)}; trying again in {wait:.0f} s")
        await changed.wait()


@asynccontextmanager
async def _until_terminated() -> AsyncIterator[asyncio.Event]:
    """An event that is set by SIGTERM; Ctrl-C cancels, as everywhere."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGTERM, ended.set)
    try:
        yield ended
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGTERM)


def _times(failures: int) -> str:
    return "failed once" if failures == 1 else f"failed {failures} times in a row"

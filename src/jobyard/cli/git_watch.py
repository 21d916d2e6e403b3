"""`jobyard git watch`: the trigger under its supervisor, and the webhooks' server beside it, until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from jobyard.cli.git_live import live_files
from jobyard.cli.git_moves import print_move, print_move_json, warn
from jobyard.cli.hints import say
from jobyard.contracts import Clock
from jobyard.engine.clock import SystemClock
from jobyard.model import duration
from jobyard.model.errors import WrongInput
from jobyard.port import MIB, Contained, listening
from jobyard.service.git import open_trigger
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions
from jobyard.supervise import Report, Stage, Supervised
from jobyard.triggers.git.listen import Webhooks


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


class PortTaken(WrongInput):
    """The address to listen at can't be had."""

    sentence = "can't listen on {host}:{port} ({why}); --listen names another place"
    host: str
    port: int
    why: str


async def keep_watching(git: GitOptions, serve: ServeOptions, options: TargetOptions, watch: WatchOptions) -> None:
    """Serves the repository until interrupted or terminated. The runs go on."""
    clock, is_json = SystemClock(), watch.output == "json"
    more: dict[str, Any] = {"poll": watch.poll, "drop_duplicates": watch.drop_duplicates}
    live = None if is_json else live_files(clock)
    move = live.move if live else print_move_json if is_json else print_move
    tell, warn_ = (live.say, live.say) if live else (functools.partial(say, err=is_json), warn)
    more["told"] = live.note if live else lambda _: None
    async with (
        open_trigger(git, serve, options, move, warn_, in_cluster=watch.in_cluster, **more) as (trigger, engine),
        AsyncExitStack() as stack,
    ):
        report, namespace = Report(trigger.name, clock), trigger.settings.policy.default_namespace
        every = duration.show(watch.poll)
        secret = watch.secret or os.environ.get("JOBYARD_WEBHOOK_SECRET") or os.environ.get("GITHUB_WEBHOOK_SECRET", "")
        tell(f"Watching branch {trigger.repository.source.branch} of {trigger.url}; Jobs run in namespace {namespace}.")
        if secret or watch.always_listen:
            port = await stack.enter_async_context(_listen(Webhooks(trigger, secret), watch))
        if secret:
            tell(f"Webhooks are received on {watch.host}:{port}; the branch is also looked at every {every}.")
        else:
            tell(f"No webhook secret is set (JOBYARD_WEBHOOK_SECRET), so none are received; the branch is looked at every {every}.")
        ended = await stack.enter_async_context(_until_terminated())
        if live is not None:
            await stack.enter_async_context(live.drawn(engine, trigger))
        async with asyncio.TaskGroup() as tasks:
            parts = [tasks.create_task(Supervised(trigger, report, clock).run(engine)), tasks.create_task(_tell(report, clock, warn_))]
            try:
                await ended.wait()
            except asyncio.CancelledError:
                tell("Interrupted. Runs that have begun go on; their files are moved when somebody looks again.")
                raise
            for part in parts:
                part.cancel()


@asynccontextmanager
async def _listen(app: Webhooks, watch: WatchOptions) -> AsyncIterator[int]:
    try:
        async with listening(Contained(app, watch.largest * MIB), watch.host, watch.port) as port:
            yield port
    except OSError as error:
        raise PortTaken(host=watch.host, port=watch.port, why=error.strerror or str(error)) from None


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

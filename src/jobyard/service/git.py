"""The trigger of a repository, its cluster and its engines, built from what was asked."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobyard.contracts import Engine
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.namespace import Options
from jobyard.model.errors import Unauthorized, Unavailable, Unreachable
from jobyard.model.run import Run
from jobyard.service.obstacles import Obstacles, by_file
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions
from jobyard.service.served import Measures, Source
from jobyard.service.service import Service, open_service
from jobyard.service.settings import GitSettings, TriggerSettings
from jobyard.service.settings import Settings as ServiceSettings
from jobyard.service.target import Target, open_target
from jobyard.triggers.git.clone import Clone, open_here, open_url
from jobyard.triggers.git.moves import Move
from jobyard.triggers.git.policy import KINDS, Policy
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger


async def open_repository(options: GitOptions, withheld: tuple[str, ...] = ()) -> Clone:
    """The repository that the options mean. `withheld`: values of our environment that are not git's to know. Raises NoRepository, GitFailed."""
    if options.repository:
        return await open_url(options.repository, options.branch, options.identity, withheld)
    return await open_here(Path.cwd(), options.branch, options.identity)


@asynccontextmanager
async def open_trigger(
    git: GitOptions,
    serve: ServeOptions,
    options: TargetOptions,
    say: Callable[[Move], None],
    warn: Callable[[str], None],
    *,
    told: Callable[[Run], None] = lambda _: None,
    in_cluster: bool | None = None,
    drop_duplicates: bool = False,
    waits: bool = True,
) -> AsyncIterator[tuple[GitTrigger, ClusterEngine]]:
    """A trigger and the engine to run it with. Every namespace that is named is open: what was left there is seen to as well. `waits`: also for
    a cluster that has never answered, or does not know us. `say` is told each transition, `warn` in words what keeps a run from running, `told`
    each run that may have changed. Raises NoRepository, GitFailed, NoCluster, NoSuchNamespace, HiddenNamespace; Unreachable, Unauthorized."""
    found = await open_repository(git)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(_open_target(options, in_cluster, waits=waits))
        obstacles = Obstacles(by_file, warn, target, told)
        how = Options(told=obstacles.note, namespaces=100 + len(serve.namespaces))
        engine = await stack.enter_async_context(open_engine(target.cluster, SystemClock(), target.namespace, how))
        await stack.enter_async_context(obstacles.said(engine))
        settings = _settings(git, serve, target.namespace, drop_duplicates=drop_duplicates)
        for name in settings.policy.namespaces or ():
            await engine.of(name)
        yield GitTrigger(found.repository, settings, found.url, say, warn), engine


@asynccontextmanager
async def open_watch(
    source: GitSettings,
    options: TargetOptions,
    measures: Measures,
    say: Callable[[Move], None],
    warn: Callable[[str], None],
    *,
    told: Callable[[Run], None] = lambda _: None,
    in_cluster: bool | None = None,
) -> AsyncIterator[tuple[Service, GitTrigger]]:
    """A service with one trigger and nothing else: several may serve the same branch, and no lease is asked for, since of several that push
    one wins. A repository that can't be opened ends it, other than that of a service that goes on without. Else as `open_trigger`."""
    found = await open_repository(source.git, withheld=(source.webhook_secret,))
    async with _open_target(options, in_cluster) as target:
        more = {"poll": source.poll, "drop_duplicates": source.drop_duplicates}
        trigger = GitTrigger(found.repository, _settings(source.git, source.serve, target.namespace, **more), found.url, say, warn)
        settings = ServiceSettings(
            name=trigger.name,
            namespaces=tuple(name for name in source.serve.namespaces if name != "*"),
            triggers=(TriggerSettings(name=trigger.name, source=source),),
            only_triggers=True,
        )
        me = f"{socket.gethostname()}-{os.getpid()}"
        obstacles = Obstacles(by_file, warn, target, told)
        async with open_service(
            target.cluster, SystemClock(), target.namespace, settings, me, lambda *_: source_of(trigger), measures, obstacles
        ) as service:
            yield service, trigger


@asynccontextmanager
async def _open_target(options: TargetOptions, in_cluster: bool | None, *, waits: bool = True) -> AsyncIterator[Target]:
    async with open_target(options, in_cluster=in_cluster) as target:
        try:
            await target.require_namespace()
        except (Unavailable, Unauthorized) as away:  # that passes
            if not waits and isinstance(away, (Unreachable, Unauthorized)):
                raise
        yield target


def source_of(trigger: GitTrigger) -> Source:
    """A repository that is open already, as it is served."""
    return Source(trigger=trigger, wake=trigger.hear, branch=lambda: trigger.repository.source.branch)


class GitSource:
    """A repository that a service serves: opened whenever its trigger starts, so that one that is away is tried again."""

    def __init__(
        self, settings: TriggerSettings, namespace: str, namespaces: Sequence[str], say: Callable[[Move], None], tell: Callable[[str], None]
    ) -> None:
        """`say`, `tell`: as in GitTrigger. `namespaces`: those that its files may name beside `namespace`, where its own settings do not say."""
        if not isinstance(settings.source, GitSettings):
            raise TypeError("the settings of another source")
        self.name = settings.name
        self._source = settings.source
        self._namespace = namespace
        self._namespaces = tuple(namespaces)
        self._say = say
        self._tell = tell
        self._trigger: GitTrigger | None = None

    @property
    def branch(self) -> str:
        """The branch that is served; '' while it is not known."""
        return self._trigger.repository.source.branch if self._trigger else self._source.git.branch or ""

    def wake(self, commit: str) -> None:
        """Somebody pushed, perhaps we. While nothing is served, nobody need be told: the first look finds it."""
        if self._trigger is not None:
            self._trigger.hear(commit)

    async def run(self, engine: Engine) -> None:
        source = self._source
        found = await open_repository(source.git, withheld=(source.webhook_secret,))
        serve = replace(source.serve, namespaces=source.serve.namespaces or self._namespaces)
        settings = _settings(source.git, serve, self._namespace, poll=source.poll, drop_duplicates=source.drop_duplicates)
        self._trigger = GitTrigger(found.repository, settings, found.url, self._say, self._tell, self.name)
        try:
            await self._trigger.run(engine)
        finally:
            self._trigger = None


def _settings(options: GitOptions, serve: ServeOptions, namespace: str, **more: Any) -> Settings:
    policy = Policy(
        default_namespace=namespace,
        namespaces=None if "*" in serve.namespaces else frozenset(serve.namespaces),
        kinds=None if "*" in serve.kinds else KINDS | frozenset(serve.kinds),
        pods=serve.pods,
        service_accounts=None if "*" in serve.service_accounts else frozenset(serve.service_accounts),
        finalizers=serve.finalizers,
    )
    return Settings(policy=policy, base=options.base, commit_each=serve.commit_each, start_timeout=serve.start_timeout, **more)

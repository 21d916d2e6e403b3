"""Who of a service's replicas leads. Where nobody can know (we may not use leases), nobody acts: it is told, and asked again."""

from __future__ import annotations

import asyncio
import logging

from jobyard.access import lacking, to
from jobyard.cluster.lease import Leadership, open_leadership
from jobyard.contracts import Clock, Cluster
from jobyard.model.objects import LEASES

log = logging.getLogger("jobyard.service")

LEASE = to(LEASES, "create", "get", "patch", why="one of several replicas leads")
ASK_AGAIN = 20.0
"""Seconds until a right that is missing is asked for again."""


class Election:
    """One process' part in it. A gate for `supervise.LeaderOnly`: shut until we know that we lead."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, name: str, me: str, *, is_alone: bool) -> None:
        """`is_alone`: there is one replica, which leads without asking."""
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._me = me
        self._is_alone = is_alone
        self._begun = asyncio.Event()
        self.leadership: Leadership | None = None
        self.trouble = ""
        """Why nobody can know who leads, for a person."""

    async def opened(self) -> None:
        await self._begun.wait()
        if self.leadership is not None:
            await self.leadership.opened()

    async def closed(self) -> None:
        if self.leadership is not None:
            await self.leadership.closed()
        elif self._is_alone:
            await asyncio.Event().wait()

    async def run(self) -> None:
        """Takes part until cancelled, which gives the Lease back."""
        if self._is_alone:
            self._begun.set()
            await asyncio.Event().wait()
        while missing := await lacking(self._cluster, self._namespace, [LEASE]):
            why = (
                f"Jobyard may not {', '.join(missing)} in namespace {self._namespace}, so nobody knows who leads, and nothing is started: "
                "give us the right (`jobyard manifests --rbac`), or say `replicas: 1` in the settings"
            )
            if why != self.trouble:
                log.warning("%s", why)
            self.trouble = why
            await asyncio.sleep(ASK_AGAIN)
        if self.trouble:
            log.warning("namespace %s: we may use leases now, and take part in the election", self._namespace)
        self.trouble = ""
        try:
            async with open_leadership(self._cluster, self._clock, self._namespace, self._name, self._me) as self.leadership:
                self._begun.set()
                await asyncio.Event().wait()
        finally:
            self._begun.clear()

"""Who was let in and is not seen to run yet: it counts all the same, or a limit of N becomes N + 1 while a Job is being made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable


class Promises:
    """By scope. The same may be promised twice, by two that submit it or for two of its Jobs, and counts once until both are kept."""

    def __init__(self) -> None:
        self._promised: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def __bool__(self) -> bool:
        return bool(self._promised)

    def of(self, scope: str) -> Collection[str]:
        """Whom a scope is promised to."""
        return self._promised.get(scope, {}).keys()

    def make(self, scopes: Iterable[str], who: str) -> None:
        for scope in scopes:
            self._promised[scope][who] += 1

    def keep(self, scopes: Iterable[str], who: str) -> None:
        """It is counted by what is seen from now on, or came to nothing."""
        for scope in scopes:
            promised = self._promised[scope]
            promised[who] -= 1
            if promised[who] <= 0:
                del promised[who]
            if not promised:
                del self._promised[scope]

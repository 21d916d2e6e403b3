"""What a fuzz found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SIGNS = ("Traceback", "defect of the local cluster")
"""What the log of a local cluster has where something was raised that nobody foresaw."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of some seeds. `calls`: what was asked with them; `refused`: of these, what was answered with a refusal."""

    seeds: int = 0
    calls: int = 0
    refused: int = 0
    words: tuple[str, ...] = ()
    """What must not be: something that ended, was lost, came late, was traced back."""

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            seeds=self.seeds + other.seeds,
            calls=self.calls + other.calls,
            refused=self.refused + other.refused,
            words=self.words + other.words,
        )

    @property
    def is_good(self) -> bool:
        return not self.words


def traced(log: Path | None, since: int) -> list[str]:
    """What was traced back in the log of a local cluster from a position on."""
    if log is None:
        return []
    text = log.read_bytes()[since:].decode(errors="replace")
    at = [text.find(sign) for sign in SIGNS if sign in text]
    return [f"the cluster's log says: {text[max(min(at) - 200, 0) : min(at) + 3000]}"] if at else []


def log_of(kubeconfig: Path) -> Path | None:
    """The log of the local cluster that a kubeconfig is of."""
    log = kubeconfig.with_name("log")
    return log if log.exists() and kubeconfig.with_name("lock").exists() else None

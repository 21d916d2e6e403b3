"""How a command line names a cluster. Apart from `target`, so that `--help` need not load a client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """The options by which every command names its cluster."""

    local: bool = False
    context: str | None = None
    kubeconfig: str | None = None
    namespace: str | None = None
    runtime: str | None = None
    """What is to run the containers of a local cluster that is made for the command."""

    def as_words(self) -> str:
        """The same options, as one would type them again."""
        words = ["--local"] if self.local else []
        for name, value in (("--context", self.context), ("--kubeconfig", self.kubeconfig), ("-n", self.namespace)):
            words += [name, value] if value else []
        return "".join(f" {word}" for word in words)

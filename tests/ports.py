"""Ports that nobody listens on. Below the kernel's own range, so no connection of another test takes one before its server does."""

from __future__ import annotations

import os
import random
import socket

_ORDER = iter(random.Random(os.getpid()).sample(range(10_000, 32_000), 22_000))
"""Each process in an order of its own: two that ask at once are not given the same."""


def free_port() -> int:
    """A free port on loopback, given once."""
    for port in _ORDER:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port between 10000 and 32000 is free")

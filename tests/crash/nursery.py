"""Where the harness' processes come from: forked from one that has loaded everything, for a start of Python costs more than what is tried."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash import child

ROOT = Path(__file__).parents[2]
_forks = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a process ended."""

    code: int
    """Negative: the signal that killed it."""
    calls: int
    """How many calls it made, when it ended well."""
    said: str


async def serve(told: Mapping[str, Any], folder: Path) -> Exit:
    """Serves in a process of its own, until it ends. `folder`: where it leaves what it has to say."""
    os.environ["PYTHONPATH"] = f"{ROOT / 'src'}:{ROOT}"  # for the first fork: whoever loads the modules must find them
    _forks.set_forkserver_preload(["tests.crash.child"])
    out = folder / uuid.uuid4().hex
    process = _forks.Process(target=child.main, args=(dict(told), out), daemon=True)
    process.start()
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
        if process.exitcode is None:
            process.kill()
        process.join()
    code = process.exitcode or 0
    process.close()
    errors = out.with_suffix(".err")
    said = errors.read_text(errors="replace") if errors.exists() else ""
    return Exit(code=code, calls=int(out.read_text()) if out.exists() else 0, said=said)

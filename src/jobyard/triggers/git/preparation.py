"""From queued files to held runs."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import tempfile
from collections.abc import Awaitable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from jobyard.contracts import Engine
from jobyard.files.borders import SIZE
from jobyard.files.reading_room import ReadingRoom
from jobyard.model.errors import (
    EngineFailed,
    GitFailed,
    InvalidFiles,
    JobyardError,
    Rejected,
    RunDamaged,
    WrongInput,
    place_of,
)
from jobyard.model.run import Run, RunRequest
from jobyard.triggers.git.layout import Layout, Place, QueueFile
from jobyard.triggers.git.manifests import Bundle, Unread, read_queued, refuse
from jobyard.triggers.git.materials import Text, collect, needs_others
from jobyard.triggers.git.repository import Repository
from jobyard.triggers.git.secrecy import READ_AT
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.together import QUIET, settle

log = logging.getLogger("jobyard.git")

_TOLD_FINDINGS = 20
STEPS_TOLD = 5
_SOON = timedelta(seconds=0.5)
_FETCHED_AT_ONCE = 2
"""How many files are held in memory at once, each with all that it names: one is read, the next is fetched."""
READING = 20.0
"""Seconds for which the files of one look are read. What was read is pushed then, and the others' turn is the next look: each may take half of
that, and good ones wait behind them."""
_ITS_OWN = (WrongInput, Rejected, RunDamaged, EngineFailed)
"""What a submit raises that is one file's own failure. What else it raises passes by itself, and is the same for all."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is held for a queued file."""

    run: Run
    steps: tuple[str, ...]
    """The names of its steps, the first few."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """A queued file as it was read."""

    path: str
    wanted: Bundle
    names_others: bool


Came = TypeVar("Came")
Answer = Prepared | str | JobyardError
"""The run that is held for a file; why there can be none; what keeps it from being one just now, and passes by itself."""
_MACHINE = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.EACCES, errno.EIO])
"""What is wrong with this machine, and no file's fault."""


class Preparation:
    """Reads queued files, and submits a held run for each. Whatever comes of one is its own."""

    def __init__(self, repository: Repository, engine: Engine, settings: Settings, trigger: str, url: str, room: ReadingRoom) -> None:
        """`room`: where the files are read."""
        self._room = room
        self._repository = repository
        self._engine = engine
        self._settings = settings
        self._trigger = trigger
        self._url = url
        self._fetching = asyncio.Semaphore(_FETCHED_AT_ONCE)

    async def prepare(
        self, tip: str, look: Layout, new: Mapping[str, QueueFile], commits: Mapping[str, str], again: Collection[str] = ()
    ) -> dict[str, Answer | None]:
        """From key to what comes of a file: None for one that waits for room in a limit; it stays queued, and is tried again at a later look.
        One that there was no time to read is left out. `again`: the keys of those that waited before, and for which nobody else shall wait now.
        Raises GitFailed."""
        prepared: dict[str, Answer | None] = {}
        readable = {}
        for key, file in new.items():
            why = refuse(file)
            if why:
                prepared[key] = why
            else:
                readable[key] = file
        texts = await self._repository.objects.blobs([file.oid for file in readable.values()], SIZE)
        prepared |= {key: "Its content is missing from the repository." for key, file in readable.items() if file.oid not in texts}
        reading: dict[str, asyncio.Future[bool]] = {}
        clock = asyncio.get_running_loop().time
        begun, until = list[str](), clock() + READING

        async def one(key: str, file: QueueFile, is_read: asyncio.Future[bool]) -> None:
            try:
                async with self._fetching:
                    if begun and clock() > until:
                        return
                    begun.append(key)
                    reader = self._read(tip, look.path(Place.QUEUED, file.name), texts[file.oid])
                    read = await self._contained(file, reader)
                    is_read.set_result(True)
            finally:
                if not is_read.done():
                    is_read.set_result(False)
            if isinstance(read, Read):
                prepared[key] = await self._contained(file, self._submit(read, key, file, commits.get(file.name, tip), tip))
            else:
                prepared[key] = read

        by_key: dict[str, asyncio.Task[None]] = {}
        for key, file in readable.items():
            if file.oid in texts:
                reading[key] = asyncio.get_running_loop().create_future()
                by_key[key] = asyncio.create_task(one(key, file, reading[key]))
        tasks = list(by_key.values())
        try:
            # What was begun is read to its end: given up and begun again at every look, a long file would never be.
            await asyncio.gather(*reading.values())
            prepared |= {key: None for key, is_read in reading.items() if is_read.result() and key not in prepared}
            await settle([task for key, task in by_key.items() if key not in again], QUIET)
            await settle(tasks, _SOON)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return prepared

    async def _contained(self, file: QueueFile, step: Awaitable[Came]) -> Came | str | JobyardError:
        """What comes of one step with a file; whatever it raises that is the file's own, in words."""
        try:
            return await step
        except InvalidFiles as error:
            told = [str(finding) for finding in error.findings[:_TOLD_FINDINGS]]
            return told[0] if len(told) == 1 else "\n".join([str(error), *told])
        except GitFailed:
            raise
        except _ITS_OWN as error:
            return str(error)
        except JobyardError as error:
            return error
        except OSError as error:
            if error.errno in _MACHINE:
                raise
            return f"Its files could not be unpacked ({error.strerror}): a name is too long, or occurs twice."
        except Exception as error:  # one file is one try block: whatever it is, it is this file's
            log.info("file %s could not be prepared", file.name, exc_info=error)
            return f"It can't be run ({place_of(error)}). This is a bug in Jobyard: report it. The other files go on."

    async def _read(self, tip: str, path: str, text: bytes) -> Read:
        """What a file asks for; of the repository, what it names is read alone. Raises InvalidFiles, WrongInput, NoChild."""
        files = {path: text}
        names_others = needs_others(text)
        allowance = self._room.allowance()
        if names_others:
            files = {**await collect(self._repository.objects, tip, Text(path=path, content=text), self._room, allowance), path: text}
        with tempfile.TemporaryDirectory(prefix="jobyard-git-") as name:
            asked = Unread(path=path, root=str(Path(name).resolve()), policy=self._settings.policy, contents=files)
            verdict = await self._room.read(read_queued, asked, path, allowance)
        if verdict.bundle is None:
            raise InvalidFiles(verdict.mistakes)
        return Read(path=path, wanted=verdict.bundle, names_others=names_others)

    async def _submit(self, read: Read, key: str, file: QueueFile, commit: str, tip: str) -> Prepared:
        """The run that is held for a file; waits for room. What waits for one keeps nobody back who needs none: how many calls are made at
        once is for the cluster's client to say."""
        wanted, workflow = read.wanted, read.wanted.workflow
        origin = {"repository": self._url, "file": read.path, "commit": commit, "blob": file.oid}
        if read.names_others:
            origin[READ_AT] = tip
        if workflow.keeps_names:  # a workflow says for itself how long
            steps = tuple(dataclasses.replace(step, start_timeout=self._settings.start_timeout) for step in workflow.steps)
            workflow = dataclasses.replace(workflow, steps=steps)
        request = RunRequest(
            trigger=self._trigger,
            key=key,
            workflow=workflow,
            namespace=workflow.namespace or "",
            objects=wanted.objects,
            inputs=wanted.inputs,
            held=True,
            origin=origin,
            key_names_workflow=True,
        )
        run = await self._engine.submit(request)
        return Prepared(run=run, steps=tuple(step.name for step in workflow.jobs[:STEPS_TOLD]))

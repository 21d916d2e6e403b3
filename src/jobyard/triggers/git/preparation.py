"""From queued files to held runs."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

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
_FETCHED_AT_ONCE = 4
"""How many files are held in memory at once, each with all that it names."""
_ITS_OWN = (WrongInput, Rejected, RunDamaged, EngineFailed)
"""What a submit raises that is one file's own failure. What else it raises passes by itself, and is the same for all."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is held for a queued file."""

    run: Run
    steps: tuple[str, ...]
    """The names of its steps, the first few."""


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
    ) -> dict[str, Answer]:
        """From key to what comes of a file. One that waits for room in a limit is left out: it stays queued, and is tried again at a later
        look. `again`: the keys of those that waited before, and for which nobody else shall wait now. Raises GitFailed."""
        prepared: dict[str, Answer] = {}
        readable = {}
        for key, file in new.items():
            why = refuse(file)
            if why:
                prepared[key] = why
            else:
                readable[key] = file
        texts = await self._repository.objects.blobs([file.oid for file in readable.values()], SIZE)
        prepared |= {key: "Its content is missing from the repository." for key, file in readable.items() if file.oid not in texts}
        reading: list[asyncio.Future[None]] = []

        async def one(key: str, file: QueueFile, is_read: asyncio.Future[None]) -> None:
            prepared[key] = await self._prepare(tip, look, file, key, commits.get(file.name, tip), texts[file.oid], is_read)

        by_key: dict[str, asyncio.Task[None]] = {}
        for key, file in readable.items():
            if file.oid in texts:
                reading.append(asyncio.get_running_loop().create_future())
                by_key[key] = asyncio.create_task(one(key, file, reading[-1]))
        tasks = list(by_key.values())
        try:
            # Reading takes as long as it takes: given up and begun again at every look, a long file would never be read to its end.
            await asyncio.gather(*reading)
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

    async def _prepare(
        self, tip: str, look: Layout, file: QueueFile, key: str, commit: str, text: bytes, is_read: asyncio.Future[None]
    ) -> Answer:
        """`is_read`: is done when the file was read, whatever came of that."""
        path = look.path(Place.QUEUED, file.name)
        try:
            try:
                async with self._fetching:
                    wanted, names_others = await self._read(tip, path, text)
            finally:
                if not is_read.done():
                    is_read.set_result(None)
            origin = {"repository": self._url, "file": path, "commit": commit, "blob": file.oid, **({READ_AT: tip} if names_others else {})}
            return await self._submit(wanted, key, origin)
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

    async def _read(self, tip: str, path: str, text: bytes) -> tuple[Bundle, bool]:
        """What a file asks for, and whether it names others; they alone are read of the repository. Raises InvalidFiles, WrongInput, NoChild."""
        files = {path: text}
        names_others = needs_others(text)
        if names_others:
            files = {**await collect(self._repository.objects, tip, Text(path=path, content=text), self._room), path: text}
        with tempfile.TemporaryDirectory(prefix="jobyard-git-") as name:
            asked = Unread(path=path, root=str(Path(name).resolve()), policy=self._settings.policy, contents=files)
            verdict = await self._room.read(read_queued, asked, path)
        if verdict.bundle is None:
            raise InvalidFiles(verdict.mistakes)
        return verdict.bundle, names_others

    async def _submit(self, wanted: Bundle, key: str, origin: Mapping[str, str]) -> Prepared:
        """The run that is held for a file; waits for room. What waits for one keeps nobody back who needs none: how many calls are made at
        once is for the cluster's client to say."""
        workflow = wanted.workflow
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

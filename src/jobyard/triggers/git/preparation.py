"""From queued files to held runs."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jobyard.contracts import Engine
from jobyard.files.reading_room import ReadingRoom
from jobyard.model.errors import EngineFailed, InvalidFiles, JobyardError, Rejected, RunDamaged, WrongInput, place_of
from jobyard.model.run import Run, RunRequest
from jobyard.triggers.git.layout import Layout, Place, QueueFile
from jobyard.triggers.git.manifests import Bundle, Unread, Verdict, needs_others, refuse, unpack
from jobyard.triggers.git.repository import Repository
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.together import QUIET, settle

_TOLD_FINDINGS = 20
STEPS_TOLD = 5
_ITS_OWN = (WrongInput, Rejected, RunDamaged, EngineFailed)
"""What a submit raises that is one file's own failure. What else it raises passes by itself, and is the same for all."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is held for a queued file."""

    run: Run
    steps: tuple[str, ...]
    """The names of its steps, the first few."""


class Preparation:
    """Reads queued files, and submits a held run for each."""

    def __init__(
        self, repository: Repository, engine: Engine, settings: Settings, trigger: str, url: str, room: ReadingRoom[Unread, Verdict]
    ) -> None:
        """`room`: where the files are read."""
        self._room = room
        self._repository = repository
        self._engine = engine
        self._settings = settings
        self._trigger = trigger
        self._url = url

    async def prepare(self, tip: str, look: Layout, new: dict[str, QueueFile], commits: dict[str, str]) -> dict[str, Prepared | str]:
        """From key to the run that is held for a file now, or why there can be none. One that waits for room in a limit is left out: it
        stays queued, and is tried again at the next look."""
        prepared: dict[str, Prepared | str] = {}
        readable = {}
        for key, file in new.items():
            why = refuse(file)
            if why:
                prepared[key] = why
            else:
                readable[key] = file
        texts = await self._repository.blobs(file.oid for file in readable.values())
        with tempfile.TemporaryDirectory(prefix="jobyard-git-") as name:
            root = Path(name).resolve()
            if any(needs_others(text) for text in texts.values()):
                unpack(await self._repository.archive(tip), root)

            async def one(key: str, bundle: Bundle, origin: dict[str, str]) -> None:
                prepared[key] = await self._submit(bundle, key, origin)

            tasks: list[asyncio.Task[None]] = []
            try:
                for key, file in readable.items():
                    path = look.path(Place.QUEUED, file.name)
                    found = await self._read(root, path, texts[file.oid])
                    if isinstance(found, str):
                        prepared[key] = found
                        continue
                    origin = {"repository": self._url, "file": path, "commit": commits.get(file.name, tip), "blob": file.oid}
                    tasks.append(asyncio.create_task(one(key, found, origin)))
                await settle(tasks, QUIET)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return prepared

    async def _read(self, root: Path, file: str, text: bytes) -> Bundle | str:
        """What a file asks for, or why it can't be run. Raises NoChild."""
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        try:
            verdict = await self._room.read(Unread(path=str(path), root=str(root), policy=self._settings.policy), file)
        except InvalidFiles as error:
            return _told(error)
        return verdict.bundle or _told(InvalidFiles(verdict.mistakes))

    async def _submit(self, bundle: Bundle, key: str, origin: dict[str, str]) -> Prepared | str:
        """The run that is held for a file, or why there can be none; waits for room. What waits for one keeps nobody back who needs none: how
        many calls are made at once is for the cluster's client to say. Raises what passes by itself: the file stays queued."""
        workflow = bundle.workflow
        if workflow.keeps_names:  # a workflow says for itself how long
            steps = tuple(dataclasses.replace(step, start_timeout=self._settings.start_timeout) for step in workflow.steps)
            workflow = dataclasses.replace(workflow, steps=steps)
        request = RunRequest(
            trigger=self._trigger,
            key=key,
            workflow=workflow,
            namespace=workflow.namespace or "",
            objects=bundle.objects,
            held=True,
            origin=origin,
            key_names_workflow=True,
        )
        try:
            run = await self._engine.submit(request)
        except _ITS_OWN as error:
            return str(error)
        except (JobyardError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - one file is one try block: whatever it is, it is this file's
            return f"It can't be run ({place_of(error)}). This is a fault of Jobyard's own."
        return Prepared(run=run, steps=tuple(step.name for step in workflow.jobs[:STEPS_TOLD]))


def _told(error: InvalidFiles) -> str:
    told = [str(finding) for finding in error.findings[:_TOLD_FINDINGS]]
    return told[0] if len(told) == 1 else "\n".join([str(error), *told])

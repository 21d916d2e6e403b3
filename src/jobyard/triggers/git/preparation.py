"""From queued files to held runs."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jobyard.contracts import Engine
from jobyard.model.errors import InvalidFiles, Rejected, WrongInput
from jobyard.model.run import Run, RunRequest
from jobyard.triggers.git.layout import Layout, Place, QueueFile
from jobyard.triggers.git.manifests import needs_others, read_queued, refuse, unpack
from jobyard.triggers.git.repository import Repository
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.together import QUIET, settle

_TOLD_FINDINGS = 20
STEPS_TOLD = 5


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is held for a queued file."""

    run: Run
    steps: tuple[str, ...]
    """The names of its steps, the first few."""


class Preparation:
    """Reads queued files, and submits a held run for each."""

    def __init__(self, repository: Repository, engine: Engine, settings: Settings, trigger: str, url: str) -> None:
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

            async def one(key: str, file: QueueFile) -> None:
                commit = commits.get(file.name, tip)
                prepared[key] = await self._submit(look, file, key, commit, texts[file.oid], root)

            tasks = [asyncio.create_task(one(key, file)) for key, file in readable.items()]
            try:
                await settle(tasks, QUIET)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return prepared

    async def _submit(self, look: Layout, file: QueueFile, key: str, commit: str, text: bytes, root: Path) -> Prepared | str:
        """The run that is held for a file; waits for room. What waits for one keeps nobody back who needs none: how many calls are made at
        once is for the cluster's client to say."""
        path = root / look.path(Place.QUEUED, file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        try:
            wanted = read_queued(path, root, self._settings.policy)
            workflow = wanted.workflow
            if workflow.keeps_names:  # a workflow says for itself how long
                steps = tuple(dataclasses.replace(step, start_timeout=self._settings.start_timeout) for step in workflow.steps)
                workflow = dataclasses.replace(workflow, steps=steps)
            origin = {"repository": self._url, "file": look.path(Place.QUEUED, file.name), "commit": commit, "blob": file.oid}
            run = await self._engine.submit(
                RunRequest(
                    trigger=self._trigger,
                    key=key,
                    workflow=workflow,
                    namespace=workflow.namespace or "",
                    objects=wanted.objects,
                    held=True,
                    origin=origin,
                    key_names_workflow=True,
                )
            )
            return Prepared(run=run, steps=tuple(step.name for step in workflow.jobs[:STEPS_TOLD]))
        except InvalidFiles as error:
            told = [str(finding) for finding in error.findings[:_TOLD_FINDINGS]]
            return told[0] if len(told) == 1 else "\n".join([str(error), *told])
        except (WrongInput, Rejected) as error:
            return str(error)

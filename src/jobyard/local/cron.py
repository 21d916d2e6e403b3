"""The CronJob controller: it looks, asks `cron_sync` what to do, and does it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from jobyard.local import times
from jobyard.local.cron_sync import job_name, sync
from jobyard.local.jobs import controller_of
from jobyard.local.objects import Objects
from jobyard.local.queue import Key, WorkQueue
from jobyard.local.resources import CRON_JOBS, JOBS, Resource
from jobyard.local.status import ApiError
from jobyard.local.store import Change

Tree = dict[str, Any]

SOURCE = "cronjob-controller"
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class CronController:
    """Makes a CronJob's Jobs when their time has come."""

    watches: tuple[Resource, ...] = (CRON_JOBS, JOBS)

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.queue: WorkQueue = WorkQueue()

    def note(self, change: Change) -> None:
        metadata = change.object["metadata"]
        if change.resource == CRON_JOBS.full_name:
            self.queue.add((metadata["namespace"], metadata["name"]))
        elif owner := controller_of(change.object, "CronJob"):
            self.queue.add((metadata["namespace"], owner["name"]))

    def look(self, key: Key) -> None:
        cron = self._objects.find(CRON_JOBS, key[0], key[1])
        if cron is not None:
            self._look(cron)

    def _look(self, cron: Tree) -> None:
        metadata = cron["metadata"]
        owned = [
            job
            for job in self._objects.list(JOBS, metadata["namespace"])
            if (controller_of(job, "CronJob") or {}).get("uid") == metadata["uid"]
        ]
        done = sync(cron, owned, times.now())
        for job in done.delete:
            self._objects.delete(JOBS, job, policy="Background")
            done.events.append(("Normal", "SuccessfulDelete", f"Deleted job {job['metadata']['name']}"))
        if done.create is not None:
            made = self._create(cron, done.create)
            if made is not None:
                reference = {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    **{key: made["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")},
                }
                done.status["active"] = [*(done.status.get("active") or []), reference]
                done.events.append(("Normal", "SuccessfulCreate", f"Created job {made['metadata']['name']}"))
        for kind, reason, message in done.events:
            self._objects.event(cron, kind, reason, message, SOURCE)
        self._objects.set_status(CRON_JOBS, cron, done.status)
        if done.again:
            self.queue.add_at((metadata["namespace"], metadata["name"]), times.after(done.again, 0.02))

    def _create(self, cron: Tree, due: datetime) -> Tree | None:
        template = cron["spec"]["jobTemplate"]
        given, metadata = template.get("metadata") or {}, cron["metadata"]
        local = due.astimezone(ZoneInfo(cron["spec"].get("timeZone") or "UTC"))
        owner = {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        job = {
            "metadata": {
                "name": job_name(cron, due),
                "labels": given.get("labels") or {},
                "annotations": {**(given.get("annotations") or {}), SCHEDULED: local.isoformat().replace("+00:00", "Z")},
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
        }
        try:
            return self._objects.create(JOBS, metadata["namespace"], job)
        except ApiError as error:
            if error.code == 409:
                return self._objects.find(JOBS, metadata["namespace"], job_name(cron, due))
            self._objects.event(cron, "Warning", "FailedCreate", f"Error creating job: {error.message}", SOURCE)
            return None

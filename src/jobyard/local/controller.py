"""What every controller is: it takes note of changes, and looks at what they are about, one object at a time.

One object is one try block. Whatever a look raises ends that look alone: it is told, and the object is looked at again after a back-off,
as in Kubernetes. So a controller needs no try of its own, and no object can end one.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from jobyard.local import mishap
from jobyard.local.objects import Objects
from jobyard.local.queue import Key, WorkQueue
from jobyard.local.resources import Resource
from jobyard.local.store import Change


class Controller(Protocol):
    """Brings one kind of object to where it shall be."""

    watches: tuple[Resource, ...]
    """The kinds whose changes it takes note of; none means all."""
    queue: WorkQueue

    def note(self, change: Change) -> None:
        """Takes note of a change: what there is now, and what is to be looked at. Acts on nothing."""
        ...

    def look(self, key: Key) -> None:
        """Looks at one object and does what is to be done. It may raise anything, and is then called again."""
        ...


async def drive(objects: Objects, controller: Controller) -> None:
    """Runs a controller until it is cancelled: all that there is first, then each change."""
    changes = objects.store.subscribe(*(resource.full_name for resource in controller.watches))
    for resource, tree in list(objects.store.everything()):
        if changes.resources is None or resource in changes.resources:
            _note(controller, Change(0, "ADDED", resource, tree, None))
    async with asyncio.TaskGroup() as group:
        group.create_task(_work(controller))
        while True:
            for change in await changes.wait():
                _note(controller, change)


def _note(controller: Controller, change: Change) -> None:
    try:
        controller.note(change)
    except Exception as error:  # noqa: BLE001 - one object ends nothing but itself
        mishap.tell(f"{type(controller).__name__} could not take note of {change.resource} {change.object['metadata'].get('name')}", error)


async def _work(controller: Controller) -> None:
    queue = controller.queue
    while True:
        key = await queue.take()
        try:
            controller.look(key)
        except Exception as error:  # noqa: BLE001 - the same, with a back-off
            mishap.tell(f"{type(controller).__name__} looks at {'/'.join(key)} again in {queue.failed(key):.0f} s", error)
        else:
            queue.succeeded(key)
        await asyncio.sleep(0)  # let requests in between

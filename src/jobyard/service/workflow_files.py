"""The kinds of file that hold a workflow, and such a file where settings name it."""

from __future__ import annotations

from pathlib import Path

from jobyard.compat import jobernetes
from jobyard.files import plain, run_file, workflow_file
from jobyard.files.inspection import Inspection
from jobyard.files.reading import Reader, Reading, SeveralWorkflows, read
from jobyard.model.errors import WrongInput
from jobyard.model.parameters import resolve
from jobyard.model.template import Path as TreePath
from jobyard.service.sources import Missing, Outside

_WORKFLOWS = (workflow_file.READER, jobernetes.READER)
READERS: tuple[Reader, ...] = (run_file.reader(_WORKFLOWS), *_WORKFLOWS)


def read_workflow(path: Path) -> Reading:
    """Reads a workflow, a model, or plain manifests."""
    return read(path, READERS, plain.read)


def read_job(inspection: Inspection, path: TreePath, given: str, outside: Outside) -> Reading | None:
    """What a settings file's `job` holds: Jobs alone, with a value for each parameter. None where that was told to be wrong."""
    if isinstance(given, Missing):
        return None
    file = outside.folder / given
    if not file.exists():
        tell = inspection.warn if outside.is_elsewhere else inspection.error
        tell(path, f"{given} does not exist", "a Job manifest or a workflow", "paths are relative to this file")
        return None
    try:
        reading = read_workflow(file)
        inspection.findings += reading.findings
        if reading.workflow is None or reading.errors:
            return None
        if reading.objects:
            what, remedy = f"{given} holds more than Jobs", "apply the other objects once, and let the Jobs name them"
            inspection.error(path, what, "Jobs alone", remedy)
        resolve(reading.workflow.parameters, reading.inputs)
        return reading
    except (SeveralWorkflows, WrongInput) as error:
        inspection.error(path, str(error))
        return None

"""Every field against Kubernetes' own schema: what is unknown, and what is of the wrong type."""

from __future__ import annotations

from jobyard import schema
from jobyard.files.inspection import Inspection
from jobyard.model.finding import did_you_mean
from jobyard.model.template import Path as TreePath
from jobyard.model.template import is_whole
from jobyard.schema import spell

_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
}


def check_fields(inspection: Inspection, kind: str, *, literal: bool) -> tuple[TreePath, ...]:
    """Checks every field against Kubernetes' schema; returns where a placeholder has to keep its own type."""
    typed: list[TreePath] = []
    whole = f"the {kind.rpartition('/')[2]}"
    for problem in schema.problems(kind, inspection.document.tree):
        path, name = problem.path, str(problem.path[-1]) if problem.path else ""
        match problem.kind:
            case "unknown":
                hint = _elsewhere(name, path) or did_you_mean(name, problem.known)
                inspection.error(
                    path,
                    f'unknown field "{name}" in {spell(path[:-1]) or whole}',
                    "",
                    hint or "remove it",
                    key=True,
                )
            case "type":
                if problem.found is None or name == "fieldsV1":
                    continue  # null is as if it were left out; fieldsV1 may be anything
                if not literal and isinstance(problem.found, str) and is_whole(problem.found):
                    typed.append(path)
                    continue
                expected = " or ".join(_TYPE_WORDS.get(kind, kind) for kind in problem.expected)
                quote = 'put it in quotes: "…"' if "string" in problem.expected and not isinstance(problem.found, dict | list) else ""
                inspection.error(path, f"{inspection.word(path, problem.found)} as {spell(path)}", expected, quote)
    return tuple(typed)


_PLACES = {
    "restartPolicy": "spec.template.spec",
    "containers": "spec.template.spec",
    "volumes": "spec.template.spec",
    "serviceAccountName": "spec.template.spec",
    "backoffLimit": "spec",
    "completions": "spec",
    "parallelism": "spec",
    "activeDeadlineSeconds": "spec",
    "ttlSecondsAfterFinished": "spec",
    "image": "spec.template.spec.containers[]",
    "command": "spec.template.spec.containers[]",
    "env": "spec.template.spec.containers[]",
}


def _elsewhere(name: str, path: TreePath) -> str:
    place = _PLACES.get(name)
    return f"it belongs in {place}" if place and place != spell(path[:-1]) else ""

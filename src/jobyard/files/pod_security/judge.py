"""Judges the pods of a manifest by a level of the Pod Security Standards."""

from __future__ import annotations

from typing import Any

from jobyard.files.document import Document
from jobyard.files.inspection import quote
from jobyard.files.pod_security import baseline, restricted
from jobyard.files.pod_security.baseline import Rule
from jobyard.files.pod_security.pods import Breach, pod_of, unreadable
from jobyard.model.finding import Finding
from jobyard.model.pod_level import PodLevel
from jobyard.model.template import Path as TreePath

_RULES: dict[PodLevel, tuple[Rule, ...]] = {PodLevel.BASELINE: baseline.RULES, PodLevel.RESTRICTED: restricted.RULES}
"""From the loosest level; each has the rules of those before it, too."""
_LOOSER = {PodLevel.BASELINE: PodLevel.ANY, PodLevel.RESTRICTED: PodLevel.BASELINE}


def judge(document: Document, level: PodLevel) -> list[Finding]:
    """A mistake for each thing in the pods of an object that is beyond `level`, each place once."""
    if level is PodLevel.ANY:
        return []
    pod, found = pod_of(document), dict[TreePath, Finding]()
    for broken, rules in _RULES.items():
        for breach in (each for rule in rules for each in rule(pod)) if pod else ():
            found.setdefault((*breach.part.path, *breach.key), _finding(document, breach, broken))
        if broken is level:
            break
    return [*unread(document), *found.values()]


def unread(document: Document) -> list[Finding]:
    """A mistake for each thing in the pods of an object that can't be judged before it runs."""
    return [
        Finding(
            position=document.at((*each.part.path, *each.key)),
            what=f"{quote(document, (*each.part.path, *each.key), _value(each))} as {each.part.spell(*each.key)}, which is judged before it runs",
            expected=each.expected,
            remedy="write it out",
        )
        for each in unreadable(document)
    ]


def _finding(document: Document, breach: Breach, level: PodLevel) -> Finding:
    """A breach in words. `level`: the one whose rule it breaks."""
    place = breach.part.spell(*breach.key)
    what = f"{place} is missing" if breach.missing else f"{quote(document, (*breach.part.path, *breach.key), _value(breach))} as {place}"
    verb = "needs" if breach.missing else "forbids"
    return Finding(
        position=document.at((*breach.part.path, *breach.key)),
        what=f"{what}, which pods: {level} {verb}",
        expected=breach.expected,
        remedy=f"{'add it' if breach.missing else 'change or remove it'}, or allow it: --pods {_LOOSER[level]} (in a service's settings: pods: {_LOOSER[level]})",
    )


def _value(breach: Breach) -> Any:
    value: Any = breach.part.value
    for key in breach.key:
        value = value[key]
    return value

"""The objects beside the Jobs of a file: which they are, and what is wrong with them as far as their metadata tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jobyard.files import reserved
from jobyard.files.document import Document
from jobyard.files.inspection import Inspection, word
from jobyard.files.rules import metadata
from jobyard.files.rules.forms import LABEL, SUBDOMAIN
from jobyard.files.rules.part import Part
from jobyard.files.schema_check import check_fields
from jobyard.model import belongings
from jobyard.model.belongings import Belonging
from jobyard.model.finding import Finding
from jobyard.model.objects import Manifest
from jobyard.model.template import placeholders, strings


@dataclass(frozen=True, kw_only=True)
class SideObject:
    """An object beside the Jobs of a file, and where it stands. `belonging` is never REFUSED in what a reading hands on without errors."""

    document: Document
    belonging: Belonging

    @property
    def manifest(self) -> Manifest:
        tree: Manifest = self.document.tree
        return tree

    @property
    def api_version(self) -> str:
        return str(self.manifest["apiVersion"])

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        metadata = self.manifest.get("metadata")
        return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def is_side_object(tree: object) -> bool:
    """Whether a document is an object that is no Job, nor meant to be one."""
    if not isinstance(tree, dict) or not isinstance(tree.get("kind"), str) or not isinstance(tree.get("apiVersion"), str):
        return False
    return tree["kind"] != "Job" and not (tree["apiVersion"].startswith("batch/") and tree["kind"] != "CronJob")


def check_object(inspection: Inspection, *, literal: bool) -> SideObject:
    """The object of a document for which `is_side_object` holds. `literal`: braces in it mean nothing."""
    tree = inspection.document.tree
    found = SideObject(document=inspection.document, belonging=belongings.of(tree["apiVersion"], tree["kind"]))
    if found.belonging is Belonging.REFUSED:
        inspection.error(
            ("kind",),
            f"kind {found.kind}, which a run can't create",
            "a namespaced kind that grants no rights",
            "apply it first, and take it out of this file",
        )
        return found
    _names_a_kind(inspection, found)
    check_fields(inspection, f"{found.api_version}/{found.kind}", literal=True)
    reserved.check(inspection)
    own = Part(tree, (), inspection, True).part("metadata")
    name = own.value.get("name") if own else None
    if own is None or not name:
        inspection.error((), "no metadata.name", "a name, by which the Job finds it")
    elif isinstance(name, str) and not SUBDOMAIN.fits(name):
        own.error(("name",), f'metadata.name of "{name[:80]}"', SUBDOMAIN.expected, metadata.plainer(name))
    if own is not None:
        reserved.check_name(own, found.kind)
        namespace = own.text("namespace")
        if namespace and not LABEL.fits(namespace):
            own.wrong(("namespace",), namespace, LABEL.expected)
        metadata.labels(own, "labels")
        metadata.annotated(own)
    for path, text in () if literal else strings(tree):
        if placeholders(text):
            inspection.error(
                path,
                f"a placeholder in a {found.kind}, where placeholders are not filled in",
                "it in a Job",
                "pass the value by an env variable",
            )
    return found


def _names_a_kind(inspection: Inspection, found: SideObject) -> None:
    """Whether the API could serve what it says it is: both words become part of an address."""
    group, slash, version = found.api_version.rpartition("/")
    if (slash and not SUBDOMAIN.fits(group)) or not LABEL.fits(version):
        inspection.error(("apiVersion",), f"{word(found.api_version)} as apiVersion", "a group and a version such as apps/v1")
    if not LABEL.fits(found.kind.lower()):
        inspection.error(("kind",), f"{word(found.kind)} as kind", "the name of a kind such as ConfigMap")


def once(objects: Iterable[SideObject]) -> tuple[tuple[SideObject, ...], list[Finding]]:
    """Each object once, though several steps name its file, and a mistake for each that is there a second time."""
    first: dict[tuple[str, str, str], SideObject] = {}
    findings: list[Finding] = []
    for each in objects:
        twin = first.setdefault((each.api_version, each.kind, each.name), each)
        if twin.document.at() != each.document.at():
            where = twin.document.at(("metadata", "name"))
            position = each.document.at(("metadata", "name"))
            what = f'a second {each.kind} named "{each.name}"'
            findings.append(Finding(position=position, what=what, expected="a name of its own", remedy=f"the first is at {where}"))
    return tuple(first.values()), findings

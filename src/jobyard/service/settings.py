"""A service's settings: what is asked, as values; read from its file with every mistake at its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from jobyard.files.borders import Budget
from jobyard.files.document import Document, load
from jobyard.files.inspection import Inspection
from jobyard.files.model_check import explain
from jobyard.model import names
from jobyard.model.errors import InvalidFiles
from jobyard.model.finding import Finding, Position
from jobyard.model.pod_level import PodLevel
from jobyard.service import service_schema, sources
from jobyard.service.options import GitOptions, ServeOptions
from jobyard.supervise import Budget as FailureBudget
from jobyard.supervise import BudgetWrong

DEFAULT_FILE = "jobyard.yaml"
SERVICE_NAME_LIMIT = 40


@dataclass(frozen=True, kw_only=True)
class GitSettings:
    """A repository that is served."""

    git: GitOptions
    serve: ServeOptions
    poll: timedelta
    webhook_secret: str = field(default="", repr=False)
    drop_duplicates: bool = False


@dataclass(frozen=True, kw_only=True)
class TriggerSettings:
    """A source under a name. Two that are equal are served alike: a reload leaves such a trigger alone."""

    name: str
    source: GitSettings
    budget: FailureBudget | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a service is told."""

    name: str = "jobyard"
    namespace: str | None = None
    namespaces: tuple[str, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104 - in a pod, whoever may reach it must
    port: int = 8080
    triggers: tuple[TriggerSettings, ...] = ()
    retention: timedelta | None = None
    retention_failed: timedelta | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    replicas: int = 2
    log_level: str = "info"
    log_format: str = "auto"


def recognises(tree: Any) -> bool:
    """Whether a document is, or was meant to be, a service's settings."""
    return isinstance(tree, dict) and tree.get("kind") == "Service" and str(tree.get("apiVersion", "")).startswith("jobyard.dev/")


def read_settings(path: Path, env: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, and all that was found; None where something was wrong."""
    name = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        what = f"can't be read ({error.strerror})"
        return None, [
            Finding(position=Position(file=name), what=what, expected="a service's settings", remedy="`jobyard serve FILE` names it")
        ]
    documents, findings = load(data, name)
    if findings:
        return None, findings
    if len(documents) != 1:
        position = documents[1].at() if documents else Position(file=name)
        return None, [Finding(position=position, what=f"{len(documents)} documents", expected="one, of kind Service")]
    return read_document(documents[0], env, path.parent)


def read_document(document: Document, env: Mapping[str, str], folder: Path) -> tuple[Settings | None, list[Finding]]:
    """The settings of a document. `folder`: what paths of `{file: ...}` start from."""
    inspection = Inspection(document, Budget())
    tree = sources.fill(inspection, document.tree, env, folder)
    found: Settings | None = None
    try:
        file = service_schema.ServiceFile.model_validate(tree)
    except ValidationError as error:
        explain(inspection, error, service_schema.ServiceFile, "the settings", lambda value: isinstance(value, sources.Missing))
    else:
        triggers = tuple(_trigger(inspection, index, each) for index, each in enumerate(file.spec.triggers))
        _apart(inspection, [each.name for each in file.spec.triggers])
        found = _settings(file, [each for each in triggers if each is not None])
    _warn_of_secrets(inspection, document.tree)
    inspection.findings.sort(key=lambda each: (each.position.line, each.position.column))
    return (None if any(each.is_error for each in inspection.findings) else found), inspection.findings


def require(path: Path, env: Mapping[str, str]) -> tuple[Settings, list[Finding]]:
    """The settings and what was warned of. Raises InvalidFiles."""
    settings, findings = read_settings(path, env)
    if settings is None:
        raise InvalidFiles(findings)
    return settings, findings


def _settings(file: service_schema.ServiceFile, triggers: Iterable[TriggerSettings]) -> Settings:
    spec = file.spec
    host, _, port = spec.listen.rpartition(":")
    return Settings(
        name=file.metadata.name,
        namespace=spec.namespace,
        namespaces=tuple(dict.fromkeys(spec.namespaces)),
        host=host.strip("[]") or "0.0.0.0",  # noqa: S104
        port=int(port),
        triggers=tuple(triggers),
        retention=spec.retention.runs,
        retention_failed=spec.retention.failed,
        limits=dict(spec.limits),
        replicas=spec.replicas,
        log_level=spec.log.level,
        log_format=spec.log.format,
    )


def _trigger(inspection: Inspection, index: int, given: service_schema.Trigger) -> TriggerSettings | None:
    path = ("spec", "triggers", index)
    if given.name in names.FACES:
        inspection.error((*path, "name"), f'a trigger named "{given.name}"', "another name", "runs of that one are a person's")
    if given.git is None:
        inspection.error(path, f"trigger {given.name} has no source", "one of: git")
        return None
    budget: FailureBudget | None = None
    if given.failureBudget is not None:
        try:
            budget = FailureBudget(failures=given.failureBudget.failures, within=given.failureBudget.within)
        except BudgetWrong as wrong:
            inspection.error((*path, "failureBudget"), str(wrong))
    git = given.git
    return TriggerSettings(
        name=given.name,
        budget=budget,
        source=GitSettings(
            git=GitOptions(repository=git.repository, branch=git.branch, folder=git.folder, author=git.author),
            serve=ServeOptions(
                namespaces=("*",) if git.namespaces == "*" else tuple(git.namespaces),
                kinds=("*",) if git.kinds == "*" else tuple(git.kinds),
                pods=PodLevel(git.pods),
                service_accounts=("*",) if git.serviceAccounts == "*" else tuple(git.serviceAccounts),
                finalizers=git.finalizers,
                commit_each=git.commitEach,
                start_timeout=git.startTimeout or None,
            ),
            poll=git.poll,
            webhook_secret=git.webhookSecret or "",
        ),
    )


def _apart(inspection: Inspection, called: list[str]) -> None:
    for index, name in enumerate(called):
        first = called.index(name)
        if first < index:
            line = inspection.document.at(("spec", "triggers", first, "name")).line
            where = ("spec", "triggers", index, "name")
            inspection.error(where, f'a second trigger named "{name}"', "a name of its own", f"the first is in line {line}")


def _warn_of_secrets(inspection: Inspection, tree: Any) -> None:
    """Passwords that stand in the file themselves: whoever may read the file has them."""
    spec = tree.get("spec") if isinstance(tree, dict) else None
    triggers = spec.get("triggers") if isinstance(spec, dict) else None
    for index, trigger in enumerate(triggers if isinstance(triggers, list) else []):
        git = trigger.get("git") if isinstance(trigger, dict) else None
        if not isinstance(git, dict):
            continue
        path = ("spec", "triggers", index, "git")
        remedy = "put it into the environment or a file, and {env: NAME} or {file: PATH} here"
        if isinstance(git.get("webhookSecret"), str):
            inspection.warn((*path, "webhookSecret"), "a secret in plain", "", remedy)
        if isinstance(git.get("repository"), str) and _has_password(git["repository"]):
            inspection.warn((*path, "repository"), "an address with a password in plain", "", remedy)


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False

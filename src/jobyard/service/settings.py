"""A service's settings: what is asked, as values; read from its file with every mistake at its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from jobyard.model import duration, names
from jobyard.model.errors import InvalidSettings
from jobyard.model.finding import Finding, Position
from jobyard.model.pod_level import PodLevel
from jobyard.model.template import Path as TreePath
from jobyard.service import service_schema, sources
from jobyard.service.amqp_settings import read_queues, trigger_name
from jobyard.service.options import GitOptions, ServeOptions
from jobyard.service.queue_settings import read_source as read_postgres
from jobyard.service.sources import Missing, Outside
from jobyard.supervise import Budget as FailureBudget
from jobyard.supervise import BudgetWrong
from jobyard.triggers.amqp.settings import QueueSettings
from jobyard.triggers.postgres.settings import TriggerSettings as PostgresSettings

DEFAULT_FILE = "jobyard.yaml"
SHORTEST_POLL = timedelta(seconds=1)
SOURCES = {
    "git": ("webhookSecret", "repository"),
    "amqp": ("password", "url"),
    "pgboss": ("password", "url"),
    "sql": ("password", "url"),
}
"""What a trigger may have, each with the keys of a secret and of an address, which may hold one."""


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
    source: GitSettings | QueueSettings | PostgresSettings
    budget: FailureBudget | None = None

    @property
    def webhook_secret(self) -> str:
        """What forges sign their webhooks with; '' where none are taken."""
        return self.source.webhook_secret if isinstance(self.source, GitSettings) else ""


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
    only_triggers: bool = False
    """It serves its triggers and nothing else: drives no other run, leads nobody, and leaves nothing of its own in the namespace. No file
    says so; `jobyard git watch` does."""


def recognises(tree: Any) -> bool:
    """Whether a document is, or was meant to be, a service's settings. (Kubernetes has a kind Service too.)"""
    if not isinstance(tree, dict):
        return False
    spec, version = tree.get("spec"), str(tree.get("apiVersion"))
    marks = [version.startswith("jobyard.dev/"), tree.get("kind") == "Service", isinstance(spec, dict) and "triggers" in spec]
    return sum(map(bool, marks)) >= 2


def read_settings(path: Path, env: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, and all that was found; None where something was wrong."""
    name = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
        remedy = "name it: `jobyard serve FILE`, or in JOBYARD_CONFIG"
        return None, [Finding(position=Position(file=name), what=what, expected="a service's settings", remedy=remedy)]
    documents, findings = load(data, name)
    if findings:
        return None, findings
    if len(documents) != 1:
        position = documents[1].at() if documents else Position(file=name)
        return None, [Finding(position=position, what=f"{len(documents)} documents", expected="one, of kind Service")]
    return read_document(documents[0], Outside(env=env, folder=path.parent), Budget())


def read_document(document: Document, outside: Outside, budget: Budget) -> tuple[Settings | None, list[Finding]]:
    """The settings of a document, and all that was found; None where something was wrong, or is not there."""
    inspection = Inspection(document, budget)
    tree = outside.fill(inspection, document.tree)
    found: Settings | None = None
    try:
        file = service_schema.ServiceFile.model_validate(tree)
    except ValidationError as error:
        explain(inspection, error, service_schema.ServiceFile, "the settings", lambda value: isinstance(value, Missing), sources.called)
    else:
        spec = file.spec
        allowed = None if spec.namespace is None else (spec.namespace, *spec.namespaces)
        triggers = [each for index, given in enumerate(spec.triggers) for each in _read(inspection, index, given, outside, allowed)]
        found = _settings(file, triggers)
    _apart(inspection, document.tree)
    _warn_of_secrets(inspection, document.tree)
    inspection.findings.sort(key=lambda each: (each.position.line, each.position.column))
    return (None if any(each.is_error for each in inspection.findings) else found), inspection.findings


def require(path: Path, env: Mapping[str, str]) -> tuple[Settings, list[Finding]]:
    """The settings and what was warned of. Raises InvalidSettings."""
    settings, findings = read_settings(path, env)
    if settings is None:
        raise InvalidSettings(findings)
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


def _read(
    inspection: Inspection, index: int, given: service_schema.Trigger, outside: Outside, allowed: Sequence[str] | None
) -> Iterator[TriggerSettings]:
    """The trigger of each source: of queues, one for each. `allowed`: the namespaces that may be named; None where that is not known."""
    path = ("spec", "triggers", index)
    if given.name in names.FACES:
        inspection.error((*path, "name"), f'a trigger named "{given.name}"', "another name", "runs of that one are a person's")
    budget: FailureBudget | None = None
    if given.failureBudget is not None:
        try:
            budget = FailureBudget(failures=given.failureBudget.failures, within=given.failureBudget.within)
        except BudgetWrong as wrong:
            inspection.error((*path, "failureBudget"), str(wrong))
    if given.amqp is not None:
        for queue in read_queues(inspection, (*path, "amqp"), given.amqp, outside, allowed):
            yield TriggerSettings(name=trigger_name(given.name, queue.queue), budget=budget, source=queue)
    for kind, postgres in (("pgboss", given.pgboss), ("sql", given.sql)):
        if postgres is not None:
            source = read_postgres(inspection, (*path, kind), postgres, outside, allowed)
            yield TriggerSettings(name=given.name, budget=budget, source=source)
    if given.git is not None:  # none at all was told
        yield TriggerSettings(name=given.name, budget=budget, source=_git(inspection, (*path, "git"), given.git))


def _git(inspection: Inspection, path: TreePath, git: service_schema.Git) -> GitSettings:
    if git.poll < SHORTEST_POLL:
        inspection.error((*path, "poll"), f"{duration.write(git.poll)} as poll", f"at least {duration.write(SHORTEST_POLL)}")
    return GitSettings(
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
    )


def _triggers(tree: Any) -> Iterator[tuple[TreePath, dict[str, Any]]]:
    """What stands in the file for each trigger, whatever else is wrong with it."""
    spec = tree.get("spec") if isinstance(tree, dict) else None
    triggers = spec.get("triggers") if isinstance(spec, dict) else None
    for index, trigger in enumerate(triggers if isinstance(triggers, list) else []):
        if isinstance(trigger, dict):
            yield ("spec", "triggers", index), trigger


def _apart(inspection: Inspection, tree: Any) -> None:
    """A name stands for one trigger, and a trigger has a source."""
    first: dict[str, TreePath] = {}
    for path, trigger in _triggers(tree):
        name = trigger.get("name")
        named = [each for each in SOURCES if trigger.get(each) is not None]
        if not named and not trigger.keys() - service_schema.Trigger.model_fields.keys():
            what = f"trigger {name} has no source" if isinstance(name, str) else "a trigger without a source"
            inspection.error(path, what, f"one of: {', '.join(SOURCES)}")
        elif len(named) > 1:
            inspection.error((*path, named[1]), f"a second source, {named[1]} beside {named[0]}", "one for each trigger", key=True)
        if not isinstance(name, str):
            continue
        if first.setdefault(name, path) is not path:
            line = inspection.document.at((*first[name], "name")).line
            inspection.error((*path, "name"), f'a second trigger named "{name}"', "a name of its own", f"the first is in line {line}")


def _warn_of_secrets(inspection: Inspection, tree: Any) -> None:
    """Passwords that stand in the file themselves: whoever may read the file has them."""
    remedy = "put it into the environment or a file, and {env: NAME} or {file: PATH} here"
    for path, trigger in _triggers(tree):
        for source, (secret, address) in SOURCES.items():
            given, where = trigger.get(source), (*path, source)
            if isinstance(given, dict) and "connection" in given:
                given, where = given["connection"], (*where, "connection")
            if not isinstance(given, dict):
                continue
            if isinstance(given.get(secret), str):
                inspection.warn((*where, secret), "a secret in plain", "", remedy)
            addresses = given[address] if isinstance(given.get(address), list) else [given.get(address)]
            if any(isinstance(each, str) and _has_password(each) for each in addresses):
                inspection.warn((*where, address), "an address with a password in plain", "", remedy)


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False

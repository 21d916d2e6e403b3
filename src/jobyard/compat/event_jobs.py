"""kubernetes-event-jobs: its variables, and its ConfigMap, whose keys are queues and whose values say what is run for their messages. Pure.

Each entry is read by itself: a bad one is told, and the others go on. What the original gets wrong is right here: the limit is N (not N + 1),
`environment` may be a list or a map, as its code and its README have it, and an entry without `jobName` is named by its queue.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from jobyard.files.borders import Budget
from jobyard.files.document import Document, load
from jobyard.files.inspection import Inspection, did_you_mean_key, word
from jobyard.model import names
from jobyard.model.errors import WrongInput
from jobyard.model.finding import Finding, Position, did_you_mean
from jobyard.model.objects import Manifest
from jobyard.model.template import Path as TreePath
from jobyard.triggers.amqp.form import TIMEOUT, Form, full_image
from jobyard.triggers.amqp.settings import Brokers, QueueSettings

CONFIG_MAP = "event-job-provisioner-configs"
PARALLELISM = 10
UNLIMITED = "unlimited"
KEYS = (
    "jobName",
    "image",
    "imageVersion",
    "registry",
    "parallelism",
    "timeout",
    "interval",
    "environment",
    "serviceAccount",
    "namespace",
    "resources",
    "labels",
)
_OFF = ("false", "0", "no", "off")
_LARGEST = 2**31 - 1
_TOKEN = re.compile(r"[^\s,#}\]]+")


class EnvironmentWrong(WrongInput):
    """A variable that nothing can be made of."""

    sentence = "{name} is {value!r}; expected {expected}"
    name: str
    value: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the original reads from its environment, with its defaults; and what is new here."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    registry: str
    config_namespaces: tuple[str, ...]
    """Where the ConfigMaps are: POD_NAMESPACE, then those of CONFIG_MAP_NAMESPACES."""
    job_namespace: str
    config_map: str
    reloads: bool
    restricted: bool
    """POD_SECURITY=restricted: pods keep to that standard. Without, nothing is added to a pod that the original did not have."""
    log_level: str

    @property
    def brokers(self) -> Brokers:
        """Virtual host `/`, no TLS: the original has no others."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return Brokers(urls=(f"amqp://{user}:{password}@{host}:{self.port}/",))


def read_environment(variables: Mapping[str, str]) -> Environment:
    """An empty variable counts as none, as in JavaScript. Both spellings of the user's: the shipped Deployment has `AQMP_`. Raises
    EnvironmentWrong."""

    def get(*wanted: str, default: str = "") -> str:
        return next((variables[name] for name in wanted if variables.get(name)), default)

    port = get("AMQP_PORT", default="5672")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise EnvironmentWrong(name="AMQP_PORT", value=port[:100], expected="a port, for instance 5672")
    home = get("POD_NAMESPACE", default="default")
    further = [each.strip() for each in get("CONFIG_MAP_NAMESPACES").split(",") if each.strip()]
    jobs = get("KUBERNETES_JOB_SCOPE", default="default")
    for name, value in (("POD_NAMESPACE", home), ("KUBERNETES_JOB_SCOPE", jobs), *(("CONFIG_MAP_NAMESPACES", each) for each in further)):
        if not names.is_namespace(value):
            raise EnvironmentWrong(name=name, value=value[:100], expected="a namespace's name")
    config_map = get("CONFIG_MAP_NAME", default=CONFIG_MAP)
    if not names.is_object_name(config_map):
        raise EnvironmentWrong(name="CONFIG_MAP_NAME", value=config_map[:100], expected="a ConfigMap's name")
    user = get("AMQP_USERNAME", "AQMP_USERNAME")
    return Environment(
        host=get("AMQP_HOST", default="localhost"),
        port=int(port),
        user=user or "guest",
        password=get("AMQP_PASSWORD", "AQMP_PASSWORD", default="" if user else "guest"),
        registry=get("DOCKER_REGISTRY"),
        config_namespaces=tuple(dict.fromkeys([home, *further])),
        job_namespace=jobs,
        config_map=config_map,
        reloads=variables.get("RELOAD_ENABLED", "") not in _OFF,
        restricted=variables.get("POD_SECURITY", "") == "restricted",
        log_level=get("LOG_LEVEL", default="info"),
    )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a ConfigMap: the queue as it is served, where nothing is wrong with it, and all that was found."""

    queue: str
    settings: QueueSettings | None
    findings: tuple[Finding, ...] = ()


def read_entries(data: Mapping[str, str], where: str, environment: Environment) -> list[Entry]:
    """Every entry of a ConfigMap, each by itself. `where`: names the ConfigMap in what is told."""
    return [read_entry(queue, text, f"{where}, {queue}", environment) for queue, text in sorted(data.items())]


def read_entry(queue: str, text: str, where: str, environment: Environment) -> Entry:
    """What one key of the ConfigMap says. `where`: names it in what is told."""
    documents, findings = load(text.encode(errors="replace"), where)
    if findings or len(documents) != 1:
        found = findings or [Finding(position=Position(file=where), what=f"{len(documents)} documents", expected="one mapping")]
        return Entry(queue=queue, settings=None, findings=tuple(found))
    reader = _Reader(documents[0], text, queue, environment)
    try:
        settings = reader.read()
    except (WrongInput, ArithmeticError):
        settings = None
    found = reader.inspection.findings
    return Entry(queue=queue, settings=None if any(each.is_error for each in found) else settings, findings=tuple(found))


class _Reader:
    """Reads one entry; what is wrong gathers in `inspection`."""

    def __init__(self, document: Document, text: str, queue: str, environment: Environment) -> None:
        self.inspection = Inspection(document, Budget())
        self._text = text
        self._queue = queue
        self._environment = environment
        self._tree: dict[str, Any] = document.tree if isinstance(document.tree, dict) else {}
        self._is_mapping = isinstance(document.tree, dict)

    def read(self) -> QueueSettings | None:
        if not self._is_mapping:
            self.inspection.error((), word(self.inspection.document.tree), "a mapping with an image")
            return None
        for key in self._tree:
            if key not in KEYS:
                self.inspection.warn((key,), f'an unknown key "{key}"', "", did_you_mean(str(key), KEYS) or "it is left alone", key=True)
        environment = self._environment
        version = self._version()
        namespace = self._text_of("namespace") or environment.job_namespace
        if not names.is_namespace(namespace):
            self.inspection.error(("namespace",), f'"{names.shown(namespace)}" as namespace', "a namespace's name")
        if "interval" in self._tree:
            self.inspection.warn(("interval",), "an interval", "", "it is not needed: messages are taken as they come", key=True)
        return QueueSettings(
            brokers=environment.brokers,
            queue=self._queue,
            job=Form(
                image=self._image(version),
                job_name=self._text_of("jobName"),
                version=version,
                timeout=self._number("timeout", TIMEOUT),
                environment=self._variables(),
                service_account=self._text_of("serviceAccount"),
                resources=self._mapping("resources"),
                labels=self._labels(),
                restricted=environment.restricted,
            ),
            namespace=namespace,
            limit=None if self._tree.get("parallelism") == UNLIMITED else self._number("parallelism", PARALLELISM),
        )

    def _image(self, version: str) -> str:
        image = self._text_of("image")
        if not image:
            hint = did_you_mean_key(self._tree, ["image"])
            self.inspection.error((), "no image", "the image that is run for each message", hint)
        return full_image(image, version, self._text_of("registry") or self._environment.registry)

    def _version(self) -> str:
        """The original read an unquoted 1.10 as the number 1.1."""
        value = self._tree.get("imageVersion")
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.inspection.warn(("imageVersion",), "a version without quotes", "", "it is taken as it is written; put it in quotes")
            return self._written(("imageVersion",), value)
        return self._text_of("imageVersion") or "latest"

    def _text_of(self, key: str) -> str:
        value = self._tree.get(key)
        if value is None or value == "":
            return ""
        if isinstance(value, bool | int | float):
            return self._written((key,), value)
        if not isinstance(value, str):
            self.inspection.error((key,), f"{word(value)} as {key}", "a text")
            return ""
        return value

    def _number(self, key: str, default: int) -> int:
        """0 is as good as nothing, as in JavaScript."""
        value = self._tree.get(key)
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value.strip()) < 11:
            value = int(value)
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            value = int(value)
        if value is None or value == "" or (value == 0 and not isinstance(value, bool)):
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST:
            more = f", or {UNLIMITED}" if key == "parallelism" else ""
            self.inspection.error((key,), f"{word(value)} as {key}", f"a whole number, at least 1{more}")
            return default
        return value

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self._tree.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.inspection.error((key,), f"{word(value)} as {key}", "a mapping")
            return {}
        return value

    def _labels(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for key, value in self._mapping("labels").items():
            is_plain = isinstance(value, bool | int | float | str)
            text = self._written(("labels", key), value) if is_plain else None
            if text is None or (text and names.label_value(text) != text):
                self.inspection.error(("labels", key), f"{word(value)} as a label", "at most 63 letters, digits, - _ and .")
            else:
                found[self._written(("labels", key), key, key=True)] = text
        return found

    def _variables(self) -> tuple[Manifest, ...]:
        """A list as Kubernetes has it, or a map of names and values."""
        value = self._tree.get("environment")
        if value is None:
            return ()
        if isinstance(value, dict):
            return tuple(
                {"name": self._written(("environment", name), name, key=True), "value": self._value(("environment", name), each)}
                for name, each in value.items()
            )
        if not isinstance(value, list):
            self.inspection.error(("environment",), f"{word(value)} as environment", "a list of name and value, or a map")
            return ()
        found: list[Manifest] = []
        for index, each in enumerate(value):
            if not isinstance(each, dict) or not isinstance(each.get("name"), bool | int | float | str):
                self.inspection.error(("environment", index), word(each), "a mapping of name and value")
                continue
            entry = {**each, "name": self._written(("environment", index, "name"), each["name"])}
            if "value" in each:
                entry["value"] = self._value(("environment", index, "value"), each["value"])
            found.append(entry)  # without a value it has a valueFrom, which the original hands on
        return tuple(found)

    def _value(self, path: TreePath, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, bool | int | float | str):
            return self._written(path, value)
        self.inspection.error(path, word(value), "a text")
        return ""

    def _written(self, path: TreePath, value: object, *, key: bool = False) -> str:
        """A value as it stands in the text, where it is no text by kubectl's rules: the original's YAML knows no `yes` and no `on`, and whoever
        writes 1.10 means that."""
        if isinstance(value, str) and value not in ("true", "false"):
            return value
        at = self.inspection.document.at(path, key=key)
        lines = self._text.splitlines()
        line = lines[at.line - 1] if 0 < at.line <= len(lines) else ""
        found = _TOKEN.match(line[max(at.column - 1, 0) :])
        token = found[0].removesuffix(":") if found else ""
        return token if token and token[0] not in "*&!'\"|>" else str(value).lower() if isinstance(value, bool) else str(value)


Known = Mapping[str, Mapping[str, QueueSettings]]
"""From namespace to the queues that its ConfigMap names, each as it was last right."""


def take(known: Known, namespace: str, entries: Sequence[Entry]) -> Known:
    """What is known once a namespace's ConfigMap was read: a bad entry keeps its last good form, and a queue that it names no more is gone."""
    old = known.get(namespace, {})
    new = {each.queue: each.settings or old.get(each.queue) for each in entries}
    return {**known, namespace: {queue: settings for queue, settings in new.items() if settings is not None}}


def served(known: Known, namespaces: Sequence[str]) -> tuple[dict[str, QueueSettings], list[str]]:
    """What is served, by the trigger's name, and what is left out, in words: a queue that two ConfigMaps name is the first one's."""
    found: dict[str, QueueSettings] = {}
    where: dict[str, str] = {}
    told: list[str] = []
    for namespace in namespaces:
        for queue, settings in known.get(namespace, {}).items():
            name = names.label_value(queue)
            if where.setdefault(name, namespace) == namespace:
                found[name] = settings
            else:
                told.append(
                    f"queue {queue} of namespace {namespace} is left out: the ConfigMap of namespace {where[name]} names it already"
                )
    return found, told

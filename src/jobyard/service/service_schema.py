"""What a service's settings file may say: the one place for its keys, their types and their meaning. `jobyard schema service` prints it for editors."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from jobyard.files.workflow_schema import Duration, JsonSchema, Name
from jobyard.service.amqp_schema import Amqp
from jobyard.service.options import IDENTITY
from jobyard.service.queue_schema import PgBoss, Sql
from jobyard.service.schema_values import Flag, Part, Secret, Text, number

ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]*):(?P<port>[0-9]{1,5})")


def _address(value: object) -> object:
    found = ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f"{value!r} is not HOST:PORT, for instance 0.0.0.0:8080")
    return str(value)


def _author(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[^<>\n]*[^<>\s][^<>\n]*<[^<>\s]+>", value):
        raise ValueError(f"{value!r} is not NAME <MAIL>, for instance Jobyard <jobyard@example.org>")
    return str(value)


Any_ = Literal["*"]


class Git(Part):
    """A branch of a repository whose queued files are run."""

    repository: Annotated[Text, Field(min_length=1, description="Its address, in any form that `git clone` accepts.")]
    branch: Annotated[Text | None, Field(description="The branch; left out, the repository's default.")] = None
    folder: Annotated[
        Text | None, Field(description="The folder that holds queued/ and the others; left out, found at the top or under jobs/.")
    ] = None
    webhookSecret: Annotated[  # noqa: N815 - the file's own key
        Secret | None, Field(description="What forges sign their webhooks with; without, none are taken.")
    ] = None
    poll: Annotated[Duration, Field(description="How often to look, whether or not a webhook came.")] = timedelta(seconds=60)
    author: Annotated[str, BeforeValidator(_author), WithJsonSchema({"type": "string"}), Field(description="Who commits.")] = IDENTITY
    namespaces: Annotated[
        list[Name] | Any_,
        Field(description="Namespaces that files may name beside the service's own; `*` for any. Left out, those of spec.namespaces."),
    ] = []
    kinds: Annotated[list[str] | Any_, Field(description="Kinds that files may hold beside Job, ConfigMap and Secret; `*` for any.")] = []
    pods: Annotated[
        Literal["restricted", "baseline", "any"],
        Field(description="The level of Kubernetes' Pod Security Standards that pods keep to; any for none."),
    ] = "baseline"
    serviceAccounts: Annotated[  # noqa: N815
        list[str] | Any_, Field(description="Service accounts that pods may name beside the namespace's own `default`; `*` for any.")
    ] = []
    finalizers: Annotated[Flag, Field(description="Whether manifests may name finalizers, which keep objects from being deleted.")] = False
    startTimeout: Annotated[  # noqa: N815
        Duration, Field(description="How long a Job of a plain manifest may wait until a pod of it runs; 0s for ever.")
    ] = timedelta(hours=1)
    commitEach: Annotated[  # noqa: N815
        Flag, Field(description="One commit a transition, instead of one for all that happened at once.")
    ] = False


class FailureBudget(Part):
    """How many runs of a trigger may fail within a time before it takes a rest."""

    failures: Annotated[int, Field(ge=1, le=1_000_000, description="How many of its runs."), BeforeValidator(number)]
    within: Annotated[Duration, Field(description="Within what time. It rests until that many have not failed in it any more.")]


class Trigger(Part):
    """Why runs start: a source, under a name."""

    name: Annotated[
        Name,
        Field(description="Its own, and for good: it is part of the key of each run, so under another name what is queued counts as new."),
    ]
    git: Annotated[Git | None, Field(description="Commit a Job to run it.")] = None
    amqp: Annotated[Amqp | None, Field(description="Run a Job for each message of queues of RabbitMQ.")] = None
    pgboss: Annotated[PgBoss | None, Field(description="Run Jobs while queues of pg-boss have work.")] = None
    sql: Annotated[Sql | None, Field(description="The same for other queues in Postgres: by a preset, or by a query.")] = None
    failureBudget: Annotated[FailureBudget | None, Field(description="When it takes a rest from failures; left out, never.")] = None  # noqa: N815


class Retention(Part):
    """How long runs are kept after their end, where their workflow does not say; left out, for ever."""

    runs: Annotated[Duration | None, Field(description="Each run; left out, for ever.")] = None
    failed: Annotated[Duration | None, Field(description="Runs that failed, were cancelled or lost; left out, like the others.")] = None


class Log(Part):
    """What the log says, and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="The least that is worth a line; debug tells each call to Kubernetes and to git."),
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"],
        Field(description="text for people, json for programs; auto is text on a terminal, and JSON elsewhere."),
    ] = "auto"


class Spec(Part):
    """What to serve, and how."""

    namespace: Annotated[
        Name | None,
        Field(description="Where Jobs run unless a file names another; left out, the context's, or in a pod its own. `-n` wins."),
    ] = None
    namespaces: Annotated[list[Name], Field(description="Further namespaces whose runs are driven, and that files may name.")] = []
    listen: Annotated[
        str,
        BeforeValidator(_address),
        WithJsonSchema({"type": "string", "examples": ["0.0.0.0:8080"]}),
        Field(description="Where health, metrics and webhooks are served."),
    ] = "0.0.0.0:8080"
    triggers: Annotated[list[Trigger], Field(description="What runs start from, each under a name.")] = []
    retention: Annotated[Retention, Field(description="How long runs are kept.")] = Retention()
    limits: Annotated[
        dict[Name, Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(number)]],
        Field(
            description="How many runs, or Jobs, may be active at once, by the name of the limit; `namespace` counts all runs. They win over `jobyard limits set`."
        ),
    ] = {}
    replicas: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="How many processes serve these settings. With 1, none asks for a lease: never start a second one then.",
        ),
        BeforeValidator(number),
    ] = 2
    log: Annotated[Log, Field(description="What the log says, and how.")] = Log()


class Metadata(Part):
    """Who the service is."""

    name: Annotated[Name, Field(max_length=40, description="Names the Lease, the ConfigMap NAME-triggers, and a label on its runs.")] = (
        "jobyard"
    )


class ServiceFile(Part):
    """A Jobyard service: one process for every trigger."""

    apiVersion: Literal["jobyard.dev/v1"]  # noqa: N815
    kind: Literal["Service"]
    metadata: Annotated[Metadata, Field(description="Who the service is.")] = Metadata()
    spec: Annotated[Spec, Field(description="What to serve, and how.")] = Spec()


_OUTSIDE = {"$ref": "#/$defs/FromOutside"}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a settings file, for editors. Any text, number or flag in it may be `{env: NAME}` or `{file: PATH}` instead."""
    schema = ServiceFile.model_json_schema(schema_generator=JsonSchema)
    defs = {
        name: {**model, "properties": {key: _or_outside(value) for key, value in model["properties"].items()}}
        for name, model in schema.pop("$defs").items()
    }
    defs["FromOutside"] = {
        "description": "A value from the environment, or a file's text.",
        "oneOf": [
            {"type": "object", "properties": {key: {"type": "string"}}, "required": [key], "additionalProperties": False}
            for key in ("env", "file")
        ],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://jobyard.dev/schema/service-v1.json",
        **schema,
        "$defs": defs,
    }


def _or_outside(value: dict[str, Any]) -> dict[str, Any]:
    """What may stand there, or where it stands instead."""
    told: dict[str, Any] = {key: value[key] for key in ("description", "default", "title") if key in value}
    bare = {key: each for key, each in value.items() if key not in told}
    if "anyOf" in bare:
        choices = [_or_outside(each) for each in bare["anyOf"]]
        flat = [each for choice in choices for each in choice.get("anyOf", [choice]) if each != _OUTSIDE]
        return {"anyOf": [*flat, _OUTSIDE] if any("anyOf" in each for each in choices) else flat, **told}
    if bare.get("type") in ("string", "integer", "boolean"):
        return {"anyOf": [bare, _OUTSIDE], **told}
    for key in ("items", "additionalProperties"):
        if isinstance(bare.get(key), dict):
            bare[key] = _or_outside(bare[key])
    if "patternProperties" in bare:
        bare["patternProperties"] = {key: _or_outside(each) for key, each in bare["patternProperties"].items()}
    return {**bare, **told}

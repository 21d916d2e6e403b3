"""What a workflow file and a run file may say: the one place for their keys, types and meanings. `jobyard schema` prints it for editors."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from jobyard.model import duration


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


def _duration(value: object) -> timedelta:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not {duration.EXPECTED}")
    return duration.parse(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "examples": ["30s", "15m", "1h30m"], "description": "A duration."}),
]
_MOST = 2**31 - 1
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class Parameter(_Part):
    """A question that the workflow asks; the answer reaches every container as JOBYARD_PARAM_<NAME>."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=63, description="Also what {{ params.NAME }} names.")]
    type: Annotated[Literal["string", "integer", "number", "boolean", "date", "choice"], Field(description="What values it takes.")] = (
        "string"
    )
    default: Annotated[str | int | float | bool | None, Field(description="The value when none is given.")] = None
    choices: Annotated[list[str], Field(description="The values of a choice.")] = []
    required: Annotated[bool, Field(description="Whether a run needs a value when there is no default.")] = False
    description: Annotated[str, Field(description="Shown to whoever is asked for it.")] = ""


class Retry(_Part):
    """How often a failed step is tried again. The back-off doubles each time, up to ten minutes."""

    limit: Annotated[int, Field(ge=0, le=100, description="How many times at most, after the first.")]
    backoff: Annotated[Duration, Field(description="How long to wait before the first retry.")] = timedelta(seconds=10)


class Step(_Part):
    """A node of the workflow. Each attempt of it is one Job."""

    name: Annotated[Name, Field(description="Names the step in needs, in messages and in its Jobs' names.")]
    manifest: Annotated[str | None, Field(description="A Job manifest, or a folder of them, relative to this file.")] = None
    job: Annotated[dict[str, Any] | None, Field(description="The Job itself; apiVersion, kind and metadata may be left out.")] = None
    needs: Annotated[list[str], Field(description="The steps that must end before this one starts.")] = []
    when: Annotated[
        Literal["succeeded", "failed", "always"],
        Field(description="Run when all that it needs succeeded, when something that it needs failed, or always."),
    ] = "succeeded"
    retry: Annotated[Retry | None, Field(description="Try again when it failed; the Job's backoffLimit is then 0.")] = None
    timeout: Annotated[Duration | None, Field(description="How long each attempt may take, from the creation of its Job.")] = None
    startTimeout: Annotated[  # noqa: N815 - the file's own key
        Duration | None, Field(description="How long each attempt may wait for a pod to run, from the creation of its Job.")
    ] = None
    limits: Annotated[list[Name], Field(description="Named limits of the namespace that each of its Jobs counts for.")] = []
    revert: Annotated[str | dict[str, Any] | None, Field(description="The Job that undoes this step, for onFailure: revert.")] = None


class Spec(_Part):
    """What to run, and how."""

    parameters: Annotated[list[Parameter], Field(description="The values that a run may be given.")] = []
    steps: Annotated[list[Step], Field(min_length=1, description="The steps, in the order in which they are shown.")]
    parallelism: Annotated[int, Field(ge=0, le=_MOST, description="How many Jobs of a run may be active at once; 0 means no limit.")] = 0
    timeout: Annotated[Duration | None, Field(description="How long a run may take.")] = None
    maxRuns: Annotated[  # noqa: N815
        int, Field(ge=0, le=_MOST, description="How many runs of this workflow may be active at once in a namespace; 0 means no limit.")
    ] = 0
    limits: Annotated[list[Name], Field(description="Named limits of the namespace that a run counts for.")] = []
    retention: Annotated[Duration | None, Field(description="How long a run is kept after it ends, with its Jobs.")] = None
    onFailure: Annotated[  # noqa: N815 - the file's own key
        Literal["stop", "finish", "revert"],
        Field(description="When a step failed: start nothing new, go on with what does not need it, or undo what was done."),
    ] = "stop"
    cleanup: Annotated[
        Literal["never", "succeeded", "always"], Field(description="When to delete a run's Jobs and pods after it has ended.")
    ] = "never"


class Metadata(_Part):
    """Who the workflow is."""

    name: Annotated[Name | None, Field(description="The workflow's name. By default, that of its file or folder.")] = None
    namespace: Annotated[Name | None, Field(description="The namespace to run in, unless the command line names one.")] = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class WorkflowFile(_Part):
    """A Jobyard workflow: named steps and what they need."""

    apiVersion: Literal["jobyard.dev/v1"]  # noqa: N815
    kind: Literal["Workflow"]
    metadata: Metadata = Metadata()
    spec: Spec


class RunMetadata(_Part):
    """Where the run is to be."""

    name: Annotated[Name | None, Field(description="Only for people: a run is named after its workflow.")] = None
    namespace: Annotated[
        str | None, Field(description="The namespace to run in, unless the command line names one. By default, its workflow's.")
    ] = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class RunFile(_Part):
    """A run of a workflow with these values."""

    apiVersion: Literal["jobyard.dev/v1"]  # noqa: N815
    kind: Literal["Run"]
    metadata: RunMetadata = RunMetadata()
    workflow: Annotated[str, Field(min_length=1, description="The workflow file that is run, or its folder, relative to this file.")]
    parameters: Annotated[
        dict[str, Any],
        Field(description="The values of the workflow's parameters, by name."),
        WithJsonSchema(
            {
                "type": "object",
                "additionalProperties": {"type": ["string", "integer", "number", "boolean"]},
                "description": "The values of the workflow's parameters, by name.",
            }
        ),
    ] = {}


def is_limit_name(name: str) -> bool:
    """Whether a limit may be called so."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        return False
    return True


class JsonSchema(GenerateJsonSchema):
    """A JSON Schema whose defaults are what a person would write."""

    def encode_default(self, dft: Any) -> Any:
        return duration.write(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of both kinds of file, for editors: `kind` says which it is."""
    kinds: list[tuple[type[BaseModel], Literal["validation"]]] = [(RunFile, "validation"), (WorkflowFile, "validation")]
    named, schema = models_json_schema(kinds, title="A file of Jobyard's own", schema_generator=JsonSchema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://jobyard.dev/schema/workflow-v1.json",
        **schema,
        "type": "object",
        "if": {"properties": {"kind": {"const": "Run"}}, "required": ["kind"]},
        "then": named[RunFile, "validation"],
        "else": named[WorkflowFile, "validation"],
    }

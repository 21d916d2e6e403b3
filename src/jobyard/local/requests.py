"""What a request to the API asks for, read from its path, query and body."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from jobyard import schema
from jobyard.local import bodies, typed
from jobyard.local.resources import BY_PATH, Resource
from jobyard.local.status import ApiError
from jobyard.schema import shapes

Tree = dict[str, Any]

LARGEST = 2**63 - 1
_TYPE_WORDS = {"array": "array", "object": "object", "string": "string", "integer": "number", "number": "number", "boolean": "bool"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a path names: a resource, and perhaps a namespace, an object and one of its subresources."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request. `prefix` is what stood before the API's own path."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")
    prefix: str = ""

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("true", "1")

    @property
    def dry_run(self) -> bool:
        value = self.query.get("dryRun", "")
        if value not in ("", "All"):
            raise ApiError(422, f'Invalid value: "{value}": supported values: "All"')
        return value == "All"

    def number(self, name: str, least: int = -LARGEST) -> int | None:
        """A whole number of the query; None when there is none. Raises ApiError (400)."""
        text = self.query.get(name, "")
        if not text:
            return None
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text) or not least <= int(text) <= LARGEST:
            raise ApiError(400, f'invalid {name} "{text[:40]}": it is to be a whole number of at least {max(least, 0)}')
        return int(text)

    @property
    def media(self) -> str:
        return self.headers.get("content-type", "application/json").split(";")[0].strip()

    def tree(self) -> Tree:
        """The body as an object. Raises ApiError (400, 415)."""
        tree = self.value()
        if not isinstance(tree, dict):
            raise ApiError(400, "the body of the request is no object")
        return tree

    def value(self) -> Any:
        """The body, whatever it is."""
        try:
            return bodies.read(self.body, self.media)
        except bodies.Unreadable as error:
            raise ApiError(400, f"couldn't get version/kind; json parse error: {error}") from None


@dataclass
class Answer:
    """What goes back: an object, or a stream of bytes."""

    body: Any = None
    code: int = 200
    media: str = "application/json"
    warnings: list[str] = field(default_factory=list)
    chunks: AsyncIterator[bytes] | None = None


def query(text: bytes) -> dict[str, str]:
    return dict(parse_qsl(text.decode(errors="replace"), keep_blank_values=True))


_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+))?(?:/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?)?"
)


def target(path: str) -> Target | None:
    """What a path of the API names; None when it names nothing that there is."""
    found = _PATH.fullmatch(path)
    if not found:
        return None
    parts = {key: unquote(value) for key, value in found.groupdict(default="").items()}
    group, version = parts["group"], parts["version"] or "v1"
    if parts["namespace"] and (not parts["plural"] or (not group and parts["plural"] in ("status", "finalize") and not parts["name"])):
        # /api/v1/namespaces/NAME is the namespace itself, with its own subresources.
        resource = BY_PATH.get(("", "v1", "namespaces"))
        return Target(resource=resource, name=parts["namespace"], subresource=parts["plural"]) if resource and not group else None
    if path.rstrip("/") == "/api/v1/namespaces":
        return Target(resource=BY_PATH["", "v1", "namespaces"])
    resource = BY_PATH.get((group, version, parts["plural"]))
    if resource is None or (parts["name"] and resource.namespaced and not parts["namespace"]):
        return None
    if parts["sub"] and parts["sub"] not in resource.subresources:
        return None
    return Target(resource=resource, namespace=parts["namespace"], name=parts["name"], subresource=parts["sub"])


def decode(resource: Resource, tree: Tree, validation: str, *, whole: bool = True) -> tuple[Tree, list[str]]:
    """An object as the API server takes it in: unknown fields dropped (Strict: refused), wrong types refused. Returns the warnings.

    `whole`: what every object has is added where it is missing. Raises ApiError (400).
    """
    kind = tree.get("kind")
    if (kind or resource.kind) != resource.kind or (tree.get("apiVersion") or resource.api_version) != resource.api_version:
        raise ApiError(
            400,
            f"{resource.kind} in version {resource.version!r} cannot be handled as a {resource.kind}: no kind {kind!r} is registered for version {tree.get('apiVersion')!r}",
        )
    unknown: list[tuple[str | int, ...]] = []
    head = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
    for problem in schema.problems(resource.schema_kind, tree):
        spelled = ".".join(str(part) for part in problem.path)
        if problem.kind == "unknown":
            unknown.append(problem.path)
        elif problem.kind == "type" and problem.found is not None:
            found = _TYPE_WORDS.get(_json_type(problem.found), "value")
            raise ApiError(
                400, f"{head}: json: cannot unmarshal {found} into Go struct field {spelled} of type {' or '.join(problem.expected)}"
            )
    words = [f'unknown field "{schema.spell(path)}"' for path in unknown]
    if unknown and validation == "Strict":
        raise ApiError(400, f"{head}: strict decoding error: {', '.join(words)}")
    known = _without(tree, set(unknown)) if unknown else tree
    try:
        settled = typed.settle(shapes.of(resource.schema_kind), known, whole=whole)
    except typed.Unfit as error:
        raise ApiError(400, f"{head}: {schema.spell(error.path)}: {error.why}") from None
    return settled, words if validation != "Ignore" else []


def _json_type(value: object) -> str:
    for kind, name in ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "number"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


def _without(tree: Any, paths: set[tuple[str | int, ...]], path: tuple[str | int, ...] = ()) -> Any:
    if isinstance(tree, dict):
        return {key: _without(value, paths, (*path, key)) for key, value in tree.items() if (*path, key) not in paths}
    if isinstance(tree, list):
        return [_without(value, paths, (*path, index)) for index, value in enumerate(tree)]
    return tree

"""What the API tells of itself: versions, groups, resources, and enough OpenAPI for kubectl to leave validation to the server."""

from __future__ import annotations

import sys
from typing import Any

from jobyard import schema
from jobyard.local import reviews
from jobyard.local.resources import RESOURCES, Resource

Tree = dict[str, Any]

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SUBRESOURCE_VERBS = {"log": ["get"], "eviction": ["create"]}


def version() -> Tree:
    """`/version`: the release whose schema and behaviour the local cluster follows."""
    release = schema.version()
    major, minor = release.removeprefix("v").split(".")[:2]
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"{release}-jobyard",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": f"{sys.platform}/amd64",
    }


def core_versions(host: str) -> Tree:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]}


def groups() -> Tree:
    names = sorted({reviews.GROUP, *(resource.group for resource in RESOURCES if resource.group)})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(name) for name in names]}


def group(name: str) -> Tree:
    versions = sorted({resource.version for resource in RESOURCES if resource.group == name}) or [reviews.VERSION]
    listed = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def resources(group: str, version: str) -> Tree | None:
    """The resources of a group and version; None when there is no such."""
    found = [resource for resource in RESOURCES if (resource.group, resource.version) == (group, version)]
    entries = reviews.resources() if (group, version) == (reviews.GROUP, reviews.VERSION) else []
    if not found and not entries:
        return None
    for resource in found:
        entry: Tree = {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": _VERBS,
        }
        if resource.short:
            entry["shortNames"] = list(resource.short)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        entries.append(entry)
        entries += [
            {
                "name": f"{resource.plural}/{each}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": _SUBRESOURCE_VERBS.get(each, ["get", "patch", "update"]),
            }
            for each in resource.subresources
        ]
    name = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries}


def openapi_index(prefix: str) -> Tree:
    """`/openapi/v3`: where the document of each group and version is. `prefix` is what stands before the API's own paths."""
    paths = {
        _openapi_path(resource): {"serverRelativeURL": f"{prefix}/openapi/v3/{_openapi_path(resource)}?hash=1"} for resource in RESOURCES
    }
    return {"paths": paths}


def _openapi_path(resource: Resource) -> str:
    return f"apis/{resource.api_version}" if resource.group else "api/v1"


def openapi(path: str) -> Tree | None:
    """The OpenAPI document of `apis/batch/v1` or the like: its schemas, and that the server validates fields."""
    found = [resource for resource in RESOURCES if _openapi_path(resource) == path]
    if not found:
        return None
    paths: Tree = {}
    roots: Tree = {}
    for resource in found:
        base = f"/{path}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"/{path}/{resource.plural}"
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        operation = {
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("dryRun", "fieldManager", "fieldValidation")
            ],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-group-version-kind": kind,
        }
        paths[base] = {"post": {**operation, "x-kubernetes-action": "post"}}
        paths[f"{base}/{{name}}"] = {verb: {**operation, "x-kubernetes-action": verb} for verb in ("patch", "put")}
        if resource.schema_kind in schema.kinds():
            roots[schema.roots()[resource.schema_kind]] = [kind]
    schemas = {name: _convert(node) for name, node in schema.definitions().items()}
    for name, kinds in roots.items():
        schemas[name] = {**schemas[name], "x-kubernetes-group-version-kind": kinds}
    info = {"title": "Kubernetes", "version": schema.version()}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _convert(node: Any) -> Any:
    """Our JSON Schema in OpenAPI's dialect: one type, references to components."""
    if isinstance(node, list):
        return [_convert(each) for each in node]
    if not isinstance(node, dict):
        return node
    result: Tree = {}
    for key, value in node.items():
        if key == "$ref":
            result["allOf"] = [{"$ref": value.replace("#/$defs/", "#/components/schemas/")}]
        elif key == "type" and isinstance(value, list):
            kinds = [kind for kind in value if kind != "null"]
            if len(kinds) == 1:
                result["type"] = kinds[0]
        elif key == "additionalProperties" and value is False:
            continue
        else:
            result[key] = {name: _convert(each) for name, each in value.items()} if key == "properties" else _convert(value)
    return result

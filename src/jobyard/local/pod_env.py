"""A container's environment and command line, from its spec and what that refers to. Pure."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from jobyard.schema.values import LARGEST, quantity

Tree = dict[str, Any]
Lookup = Callable[[str, str], Tree | None]
"""From kind ("Secret", "ConfigMap") and name to the object in the pod's namespace."""

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class ConfigError(Exception):
    """What keeps a container from being configured, in the kubelet's words."""


def environment(pod: Tree, container: Tree, lookup: Lookup) -> dict[str, str]:
    """The variables of a container: envFrom, then env, which may refer to what stands before. Raises ConfigError."""
    env: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if source.get(key):
                values = _values(lookup, kind, source[key]["name"], bool(source[key].get("optional")))
                env |= {f"{source.get('prefix') or ''}{name}": text for name, text in values.items()}
    for entry in container.get("env") or []:
        if entry.get("valueFrom"):
            value = _value_from(pod, container, entry["valueFrom"], lookup)
            if value is None:
                continue
            env[entry["name"]] = value
        else:
            env[entry["name"]] = expand(str(entry.get("value") or ""), env)
    return env


def expanded(words: list[Any] | None, env: Mapping[str, str]) -> list[str]:
    """Command or args, `$(NAME)` replaced by variables."""
    return [expand(str(word), env) for word in words or []]


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` becomes the variable's value; an unknown one stays as it is; `$$` stands for one `$`."""
    return _REFERENCE.sub(lambda found: "$" if found[0] == "$$" else env.get(found[1], found[0]), text)


def secret_values(tree: Tree) -> dict[str, bytes]:
    return {key: base64.b64decode(value or "") for key, value in (tree.get("data") or {}).items()}


def config_values(tree: Tree) -> dict[str, bytes]:
    plain = {key: str(value).encode() for key, value in (tree.get("data") or {}).items()}
    return plain | {key: base64.b64decode(value or "") for key, value in (tree.get("binaryData") or {}).items()}


def values_of(kind: str, tree: Tree) -> dict[str, bytes]:
    return secret_values(tree) if kind == "Secret" else config_values(tree)


def _values(lookup: Lookup, kind: str, name: str, optional: bool) -> dict[str, str]:
    tree = lookup(kind, name)
    if tree is None:
        if optional:
            return {}
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    return {key: value.decode(errors="replace") for key, value in values_of(kind, tree).items()}


def _value_from(pod: Tree, container: Tree, source: Tree, lookup: Lookup) -> str | None:
    for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if source.get(key):
            reference = source[key]
            values = _values(lookup, kind, reference["name"], bool(reference.get("optional")))
            if reference["key"] not in values:
                if reference.get("optional"):
                    return None
                namespace = pod["metadata"]["namespace"]
                raise ConfigError(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}")
            return values[reference["key"]]
    if source.get("fieldRef"):
        return field(pod, source["fieldRef"]["fieldPath"])
    if source.get("resourceFieldRef"):
        return resource(container, source["resourceFieldRef"])
    return None


def field(pod: Tree, path: str) -> str:
    """The downward API: a field of the pod. Raises ConfigError."""
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((pod["metadata"].get(subscript[1]) or {}).get(subscript[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        values = pod["metadata"].get(path.split(".")[1]) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
    known = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"]["namespace"],
        "metadata.uid": pod["metadata"]["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.hostIP": "127.0.0.1",
        "status.podIP": "127.0.0.1",
        "status.hostIPs": "127.0.0.1",
        "status.podIPs": "127.0.0.1",
    }
    if path not in known:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(known[path])


def amount(text: object) -> Fraction:
    """A quantity such as `500m` or `128Mi` as a number; 0 for what is none, and no more than Kubernetes counts to."""
    return min(quantity(text) or Fraction(0), Fraction(LARGEST))


def resource(container: Tree, reference: Tree) -> str:
    """The downward API: what a container may use; the machine's own size where it sets no limit."""
    kind, _, name = str(reference["resource"]).partition(".")
    amounts = (container.get("resources") or {}).get(kind) or {}
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    default = {"cpu": os.cpu_count() or 1, "memory": pages}.get(name, 0) if kind == "limits" else 0
    there = amount(amounts[name]) if name in amounts else Fraction(default)
    return str(math.ceil(there / (amount(reference.get("divisor") or "1") or 1)))

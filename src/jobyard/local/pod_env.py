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


STRING_LIMIT = 128 * 1024
"""Bytes of one variable or argument: what Linux takes."""
ENVIRONMENT_LIMIT = 8 * 1024 * 1024
"""Bytes of all that a container's configuration is made of. References double it as often as they stand one upon the other."""


class Budget:
    """How much may still be read and put together for a pod."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size

    def spend(self, size: int) -> None:
        """Raises ConfigError when there is no more."""
        self._left -= size
        if self._left < 0:
            raise ConfigError(f"what it refers to comes to more than {self._size // 2**20} MiB")


def environment(pod: Tree, container: Tree, lookup: Lookup) -> dict[str, str]:
    """The variables of a container: envFrom, then env, which may refer to what stands before. Raises ConfigError."""
    env: dict[str, str] = {}
    budget = Budget(ENVIRONMENT_LIMIT)
    for source in container.get("envFrom") or []:
        for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if source.get(key):
                tree = _object(lookup, kind, source[key]["name"], bool(source[key].get("optional")))
                for name in keys_of(tree):
                    text = value_of(tree, name).decode(errors="replace")
                    budget.spend(len(name) + len(text))
                    env[f"{source.get('prefix') or ''}{name}"] = text
    for entry in container.get("env") or []:
        if entry.get("valueFrom"):
            value = _value_from(pod, container, entry["valueFrom"], lookup)
            if value is None:
                continue
            env[entry["name"]] = value
        else:
            env[entry["name"]] = expand(str(entry.get("value") or ""), env)
        budget.spend(len(entry["name"]) + len(env[entry["name"]]))
    return env


def expanded(words: list[Any] | None, env: Mapping[str, str]) -> list[str]:
    """Command or args, `$(NAME)` replaced by variables. Raises ConfigError."""
    budget, found = Budget(ENVIRONMENT_LIMIT), []
    for word in words or []:
        found.append(expand(str(word), env))
        budget.spend(len(found[-1]))
    return found


def expand(text: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` becomes the variable's value; an unknown one stays as it is; `$$` stands for one `$`. Raises ConfigError."""
    size = len(text)

    def value(found: re.Match[str]) -> str:
        nonlocal size
        there = "$" if found[0] == "$$" else env.get(found[1], found[0])
        size += len(there)
        if size > 2 * STRING_LIMIT:
            raise ConfigError(f"a variable or an argument comes to more than {STRING_LIMIT // 1024} KiB")
        return there

    return _REFERENCE.sub(value, text)


def keys_of(tree: Tree) -> list[str]:
    """The keys of a Secret's or a ConfigMap's data."""
    return [*(tree.get("data") or {}), *(tree.get("binaryData") or {})]


def has_key(tree: Tree, key: str) -> bool:
    return key in (tree.get("data") or {}) or key in (tree.get("binaryData") or {})


def value_of(tree: Tree, key: str) -> bytes:
    """What stands under a key of a Secret or a ConfigMap."""
    plain, binary = tree.get("data") or {}, tree.get("binaryData") or {}
    if key in binary or tree["kind"] == "Secret":
        return base64.b64decode(binary.get(key) or plain.get(key) or "")
    return str(plain[key]).encode()


def _object(lookup: Lookup, kind: str, name: str, optional: bool) -> Tree:
    tree = lookup(kind, name)
    if tree is None and not optional:
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    return tree or {"kind": kind}


def _value_from(pod: Tree, container: Tree, source: Tree, lookup: Lookup) -> str | None:
    for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if source.get(key):
            reference = source[key]
            tree = _object(lookup, kind, reference["name"], bool(reference.get("optional")))
            if not has_key(tree, reference["key"]):
                if reference.get("optional"):
                    return None
                namespace = pod["metadata"]["namespace"]
                raise ConfigError(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}")
            return value_of(tree, reference["key"]).decode(errors="replace")
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

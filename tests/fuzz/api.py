"""Hostile requests to a local cluster's API, each known by its seed: as bytes, since no client would send them. Pure."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import msgspec

from tests.fuzz.objects import APPLY, JSON, MERGE, STRATEGIC, TEXTS
from tests.manifests import job

_METHODS = ("GET", "GET", "GET", "POST", "PUT", "PATCH", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "FOO", "get")
_PLACES = (
    *("/", "/api", "/apis", "/version", "/healthz", "/openapi/v3", "/openapi/v3/api/v1", "/api/v1", "/apis/batch/v1", "/apis/batch"),
    *("/api/v1/namespaces", "/api/v1/namespaces/{ns}", "/api/v1/namespaces/{ns}/status", "/api/v1/namespaces/{ns}/finalize"),
    *("/api/v1/pods", "/api/v1/nodes", "/api/v1/nodes/local", "/api/v1/nodes/local/status", "/apis/batch/v1/jobs"),
    *("/api/v1/namespaces/{ns}/{plural}", "/api/v1/namespaces/{ns}/{plural}/{name}", "/api/v1/namespaces/{ns}/{plural}/{name}/{sub}"),
    *("/apis/batch/v1/namespaces/{ns}/{plural}", "/apis/batch/v1/namespaces/{ns}/{plural}/{name}/{sub}"),
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/{name}",
)
_PLURALS = ("pods", "jobs", "cronjobs", "configmaps", "secrets", "events", "serviceaccounts", "services", "leases", "nothing")
_SUBS = ("status", "log", "eviction", "finalize", "exec", "scale", "binding", "")
_NAMES = ("known", "known", "none", "..", "%2e%2e", "%2f", "%00", "%ff", "%", "\u00e9", "a b", "*", "x" * 5000, "{}", "%25%32%65")
_PARAMETERS = (
    *(
        "watch",
        "limit",
        "continue",
        "resourceVersion",
        "timeoutSeconds",
        "labelSelector",
        "fieldSelector",
        "dryRun",
        "fieldValidation",
        "force",
    ),
    *("fieldManager", "allowWatchBookmarks", "sendInitialEvents", "gracePeriodSeconds", "propagationPolicy", "tailLines", "sinceSeconds"),
    *("sinceTime", "limitBytes", "container", "follow", "previous", "timestamps", "pretty"),
)
_VALUES = (
    *("true", "1", "0", "-1", "x", "\u00b2", "9" * 30, "1e5", "nan", "inf", "All", "Strict", "%00", "%ff", "%zz", "a=b", "a in (b", "!"),
    *("metadata.name=known", "status.phase!=x", "spec=", "bm90IGEga2V5", "////", "2026-01-01T00:00:00", "0001-01-01T00:00:00Z", "y" * 3000),
)
_MEDIA = (
    *("application/json", MERGE, JSON, STRATEGIC, APPLY, "application/yaml", "application/vnd.kubernetes.protobuf"),
    *("", "text/plain", "application/json;charset=\u00fc"),
)
_ACCEPT = ("*/*", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf", "")
_HEAD = b"k8s\0"


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A request as it goes over the wire. `token` stands in it as `@TOKEN@`."""

    data: bytes

    def __str__(self) -> str:
        return repr(self.data[:600])


def requests(seed: int, namespace: str) -> list[Raw]:
    """A few requests."""
    chance = random.Random(seed)
    return [_request(chance, namespace) for _ in range(5)]


def _request(chance: random.Random, namespace: str) -> Raw:
    path = chance.choice(_PLACES).format(
        ns=chance.choice((namespace, namespace, namespace, *_NAMES)),
        plural=chance.choice(_PLURALS),
        name=chance.choice(_NAMES),
        sub=chance.choice(_SUBS),
    )
    if chance.random() < 0.05:
        path = chance.choice(("*", "", "//", "http://x/api", "x:443", "/" * 3000, "/api/v1/namespaces/" + "a/" * 500))
    elif chance.random() < 0.9:
        path = f"/@TOKEN@{path}"
    query = "&".join(f"{chance.choice(_PARAMETERS)}={chance.choice(_VALUES)}" for _ in range(chance.choice((0, 0, 1, 1, 2, 5))))
    method = chance.choice(_METHODS)
    body = _body(chance, namespace) if method in ("POST", "PUT", "PATCH", "DELETE") or chance.random() < 0.1 else b""
    head = [f"{method} {path}{'?' + query if query else ''} HTTP/1.1", "Host: x", f"Accept: {chance.choice(_ACCEPT)}", "Connection: close"]
    if chance.random() < 0.5:
        head.append("Authorization: Bearer @TOKEN@")
    if body:
        head += [f"Content-Type: {chance.choice(_MEDIA)}", f"Content-Length: {len(body)}"]
    return Raw(data="\r\n".join([*head, "", ""]).encode() + body)


def _body(chance: random.Random, namespace: str) -> bytes:
    name = chance.choice(("known", f"r{chance.randrange(1000)}"))
    good = msgspec.json.encode(
        chance.choice((job(name), {"metadata": {"name": name}}, {"spec": {}}, {"status": {}}, {"metadata": {"namespace": namespace}}))
    )
    match chance.choice(("good", "cut", "bytes", "deep", "wide", "protobuf", "yaml", "other", "text", "large")):
        case "good":
            return good
        case "cut":
            return good[: chance.randrange(len(good))]
        case "bytes":
            damaged = bytearray(good)
            for _ in range(3):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            return bytes(damaged)
        case "deep":
            return chance.choice((b"[", b'{"a":', b"- ", b"{a: ")) * chance.choice((90, 150, 5_000, 200_000))
        case "wide":
            return b'{"metadata": {"name": "known", "labels": {' + b",".join(b'"a%d": "b"' % each for each in range(20_000)) + b"}}}"
        case "protobuf":
            return _HEAD + _protobuf(chance)
        case "yaml":
            return chance.choice(
                (
                    b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
                    b"a: &a [*a]\n",
                    b"metadata: {name: known, annotations: {a: 2026-01-01, 5: b, ? [x] : y}}\n",
                    b"!!python/object/apply:os.system [true]\n",
                    b"!!binary x\n",
                    b"--- a\n--- b\n",
                    b"? {a: b}\n: c\n",
                    b"\xff\xfea\x00:\x00",
                )
            )
        case "other":
            return chance.choice(
                (b"null", b"[]", b"5", b'"x"', b"true", b"NaN", b"1e999", b"9" * 5000, b'{"a": 1e400}', b"{}", b" ", b"\0")
            )
        case "large":
            return b'{"data": {"a": "' + b"x" * (4 * 1024 * 1024) + b'"}}'
    return chance.choice(TEXTS).encode()


def _protobuf(chance: random.Random) -> bytes:
    """An Unknown with a TypeMeta, and an object of fields of any type."""
    version, kind = chance.choice(
        (("v1", "ConfigMap"), ("batch/v1", "Job"), ("v1", "Secret"), ("v1", "DeleteOptions"), ("v1", "Pod"), ("", ""))
    )
    meta = _field(1, version.encode()) + _field(2, kind.encode())
    inside = b"".join(_some_field(chance, 3) for _ in range(chance.choice((0, 1, 3, 10))))
    whole = _field(1, meta) + _field(2, inside)
    return whole[: chance.randrange(len(whole))] if chance.random() < 0.2 else whole


def _some_field(chance: random.Random, depth: int) -> bytes:
    number = chance.choice((1, 1, 2, 3, 4, 5, 8, 12, 15))
    match chance.choice(("bytes", "bytes", "inside", "number", "double", "float")):
        case "bytes":
            return _field(number, chance.choice((b"", b"x", b"known", b"\xff\xfe", b"[" * 3000, b"0" * 300)))
        case "inside" if depth:
            return _field(number, b"".join(_some_field(chance, depth - 1) for _ in range(chance.choice((1, 2, 4)))))
        case "double":
            return _varint(number << 3 | 1) + struct.pack("<d", chance.choice((0.0, float("nan"), float("inf"), 1e300)))
        case "float":
            return _varint(number << 3 | 5) + struct.pack("<f", 1.5)
    return _varint(number << 3) + _varint(chance.choice((0, 1, 2**31, 2**63 - 1, 2**64 - 1, 253402300800, 2**69)))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])

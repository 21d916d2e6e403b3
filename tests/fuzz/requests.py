"""Hostile webhooks, each known by its seed: what somebody may send to the port, as bytes. Pure."""

from __future__ import annotations

import hmac
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.fuzz.objects import TEXTS, poison

Headers = list[tuple[str, str]]

FORGES = ("github", "gitlab", "gitea", "forgejo", "bitbucket")
_PATHS = (
    *(
        "/health",
        "/",
        "*",
        "",
        "//webhooks/github",
        "/webhooks",
        "/webhooks/",
        "/webhooks/github/",
        "/webhooks/github/x",
        "/webhooks/GITHUB",
    ),
    *(
        "/webhooks/%67ithub",
        "/webhooks/../health",
        "/webhooks/%00",
        "/webhooks/%ff",
        "/webhooks/%zz",
        "/webhooks/github?a=b#c",
        "http://x/health",
    ),
    *("x:443", "/webhooks/\u00e9", "/webhooks/" + "a" * 5000, "/webhooks/\u2028", "/webhooks/__class__", "/webhooks/github%0d%0ax:y"),
)
_METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI", "post", "FOO", "POST POST", "\x00")
_VERSIONS = ("HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1 x", "HTTP", "", "HTTP/9.9")
_MEDIA = (
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
    "",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-16",
)
_HEADERS: Headers = [
    ("expect", "100-continue"),
    ("expect", "x"),
    ("transfer-encoding", "chunked"),
    ("transfer-encoding", "gzip, chunked"),
    ("transfer-encoding", "identity"),
    ("content-length", "-1"),
    ("content-length", "9" * 30),
    ("content-length", "1, 2"),
    ("content-length", "0x10"),
    ("content-length", "\u00b2"),
    ("content-encoding", "gzip"),
    ("upgrade", "websocket"),
    ("upgrade", "h2c"),
    ("connection", "upgrade, close, keep-alive, x"),
    ("host", "a b"),
    ("x-hub-signature-256", ""),
    ("x-hub-signature-256", "sha256="),
    ("x-hub-signature-256", "sha256=" + "0" * 10_000),
    ("x-hub-signature", "md5=0"),
    ("x-gitea-signature", "\u00e9\u2028"),
    ("x-gitlab-token", "\u00ff" * 100),
    ("x-long", "y" * 20_000),
    ("x-longer", "y" * 200_000),
    ("bad name", "z"),
    ("", "nothing"),
    ("x", "a\r\n b"),
    ("x", "a\x00b"),
]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """What goes over one connection. `is_good`: then it is a delivery as a forge sends it, and has to be heard."""

    data: bytes
    is_good: bool

    def __str__(self) -> str:
        return f"{self.data[:400]!r} ({len(self.data):,} bytes)"


def delivery(forge: str, secret: str, commit: str, branch: str = "main") -> bytes:
    """A push to a branch as a forge tells it."""
    body = json.dumps(_payload(forge, commit, branch)).encode()
    return _request("POST", f"/webhooks/{forge}", [("host", "x"), ("connection", "close"), *_proof(forge, secret, body)], body)


def requests(seed: int, secret: str) -> list[Raw]:
    """What the seed sends, a connection each."""
    chance = random.Random(seed)
    return [_some(chance, secret) for _ in range(3)]


def _some(chance: random.Random, secret: str) -> Raw:
    forge = chance.choice(FORGES)
    match chance.choice(
        ("good", "signed", "signed", "headers", "headers", "line", "body", "body", "chunks", "chunks", "bytes", "noise", "many")
    ):
        case "good":
            return Raw(data=delivery(forge, secret, f"{chance.getrandbits(160):040x}"), is_good=True)
        case "signed":
            return _raw(_signed(chance, forge, secret))
        case "headers":
            return _raw(_with_headers(chance, forge, secret))
        case "line":
            body = json.dumps(_payload(forge, "0" * 40, "main")).encode()
            method, path = chance.choice((*_METHODS, "POST", "POST")), chance.choice((*_PATHS, f"/webhooks/{forge}"))
            text = _request(method, path, [("host", "x"), *_proof(forge, secret, body)], body)
            return _raw(text.replace(b"HTTP/1.1", chance.choice((*_VERSIONS, "HTTP/1.1")).encode(), 1))
        case "body":
            return _raw(_with_body(chance, forge, secret))
        case "chunks":
            return _raw(_chunked(chance, forge, secret))
        case "bytes":
            damaged = bytearray(delivery(forge, secret, "0" * 40))
            for _ in range(chance.choice((1, 3, 20))):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            return _raw(bytes(damaged))
        case "noise":
            return _raw(chance.choice(_NOISE))
    one = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
    return _raw(chance.choice((one * 3, one * 2000, one + delivery(forge, secret, "0" * 40), delivery(forge, "no", "0" * 40) + one)))


_NOISE = (
    b"",
    b"\r\n" * 1000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"SSH-2.0-x\r\n",
    b"\xff" * 70_000,
    b"GET " + b"/" * 70_000,
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000,
    b"GET / HTTP/1.1\nhost: x\n\n",
    b"GET / HTTP/1.1\r\nhost x\r\n\r\n",
    b"POST /webhooks/github HTTP/1.1\r\n",
    b"EHLO x\r\nMAIL FROM:<x>\r\n",
)


def _raw(data: bytes) -> Raw:
    return Raw(data=data, is_good=False)


def _payload(forge: str, commit: str, branch: str) -> Any:
    if forge == "bitbucket":
        return {"push": {"changes": [{"new": {"type": "branch", "name": branch, "target": {"hash": commit}}}]}}
    return {"object_kind": "push", "ref": f"refs/heads/{branch}", "before": "0" * 40, "after": commit, "commits": []}


def _proof(forge: str, secret: str, body: bytes, algorithm: str = "sha256") -> Headers:
    if forge == "gitlab":
        return [("x-gitlab-token", secret)]
    mac = hmac.new(secret.encode(), body, algorithm).hexdigest()
    name = {"gitea": "x-gitea-signature", "forgejo": "x-forgejo-signature"}.get(forge)
    return [(name, mac)] if name else [("x-hub-signature-256" if forge == "github" else "x-hub-signature", f"{algorithm}={mac}")]


def _request(method: str, path: str, headers: Headers, body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + body


def _signed(chance: random.Random, forge: str, secret: str) -> bytes:
    """Somebody who knows the secret says something that no forge says."""
    tree = _payload(forge, "0" * 40, "main")
    for _ in range(chance.choice((1, 1, 2, 5))):
        poison(tree, chance)
    odd: tuple[Callable[[], bytes], ...] = (
        lambda: json.dumps(tree).encode("utf-8", "surrogatepass"),
        lambda: json.dumps(tree).encode("utf-8", "surrogatepass"),
        lambda: chance.choice((b"[", b'{"a":')) * chance.choice((100, 5_000, 100_000)),
        lambda: b"\xff\xfe" + json.dumps(tree).encode("utf-16"),
        lambda: chance.choice(
            (b"", b"null", b"[]", b"9" * 10_000, b"NaN", b'"x"', b"\x00", b"{}", b'{"ref": "refs/heads/main", "after": 5}')
        ),
        lambda: urlencode({"payload": json.dumps(tree)}).encode(),
        lambda: b"&".join([b"payload=%7B"] * 5000),
        lambda: b"payload=" + b"%" * 1000,
        lambda: json.dumps({**(tree if isinstance(tree, dict) else {}), "commits": ["x" * 1000] * 900}).encode("utf-8", "surrogatepass"),
    )
    body = chance.choice(odd)()
    headers = [("host", "x"), ("content-type", chance.choice(_MEDIA)), *_proof(forge, secret, body)]
    return _request("POST", f"/webhooks/{forge}", headers, body)


def _with_headers(chance: random.Random, forge: str, secret: str) -> bytes:
    body = json.dumps(_payload(forge, "0" * 40, "main")).encode()
    headers: Headers = [("host", "x"), *_proof(forge, secret, body, chance.choice(("sha256", "sha256", "sha1", "md5")))]
    for _ in range(chance.choice((1, 1, 2, 4))):
        headers.insert(chance.randrange(len(headers) + 1), chance.choice(_HEADERS))
    if chance.random() < 0.3:
        headers *= chance.choice((2, 50))
    if chance.random() < 0.3:
        headers.append(("x-hub-signature-256", chance.choice(TEXTS)[:3000].replace("\n", " ")))
    return _request("POST", f"/webhooks/{forge}", headers, body)


def _with_body(chance: random.Random, forge: str, secret: str) -> bytes:
    """A body that is not what was signed, or not as long as was said."""
    body = json.dumps(_payload(forge, "0" * 40, "main")).encode()
    whole = _request("POST", f"/webhooks/{forge}", [("host", "x"), *_proof(forge, secret, body)], body)
    match chance.choice(("cut", "more", "other", "long", "empty")):
        case "cut":
            return whole[: chance.randrange(1, len(whole))]
        case "more":
            return whole + chance.choice((b"x" * 100_000, whole, b"GET "))
        case "other":
            return whole[:-1] + b"x"
        case "long":
            size = chance.choice((65_536, 1024 * 1024, 1024 * 1024 + 1, 3 * 1024 * 1024))
            return _request("POST", f"/webhooks/{forge}", [("host", "x"), *_proof(forge, secret, b"")], b"x" * size)
    return _request("POST", f"/webhooks/{forge}", [("host", "x"), *_proof(forge, secret, b"")], b"")


def _chunked(chance: random.Random, forge: str, secret: str) -> bytes:
    body = json.dumps(_payload(forge, "0" * 40, "main")).encode()
    lines = [f"POST /webhooks/{forge} HTTP/1.1", "host: x", "transfer-encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in _proof(forge, secret, body)]
    size = chance.choice((1, 7, 1000))
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    good = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces)
    ends = (
        good + b"0\r\n\r\n",
        good,
        good + b"0\r\nx: y\r\n\r\n",
        good + b"0\r\n" + b"x: y\r\n" * 20_000,
        good + b"-1\r\n\r\n",
        good + b"fffffffffffffffff\r\n",
        good + b"zz\r\n\r\n",
        good + b"1;" + b"e" * 100_000 + b"\r\nx\r\n0\r\n\r\n",
        b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n",
        b"200000\r\n" + b"x" * 0x200000 + b"\r\n0\r\n\r\n",
        good.replace(b"\r\n", b"\n") + b"0\n\n",
    )
    return "\r\n".join([*lines, "", ""]).encode() + chance.choice(ends)

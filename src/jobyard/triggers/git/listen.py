"""What forges tell of pushes, heard. An ASGI application, so that a service can mount it; `jobyard.port` bounds who may speak, and how long."""

from __future__ import annotations

from jobyard.port import Message, Receive, Send
from jobyard.triggers.git import webhooks
from jobyard.triggers.git.objects import is_oid
from jobyard.triggers.git.trigger import GitTrigger

_REMEMBERED = 1000
"""How many pushes are remembered, so that one that is told of twice is looked at once."""
_READ = 64 * 1024
"""Bytes of a delivery that is read. Of a longer one nothing is kept: who knows the secret says that something was pushed, and we look."""


class Webhooks:
    """`GET /health`, `POST /webhooks/FORGE`."""

    def __init__(self, trigger: GitTrigger, secret: str) -> None:
        self._trigger = trigger
        self._secret = secret
        self._seen: dict[str, None] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, text = await self._answer(scope, receive)
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text.encode())).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, str]:
        path, method = str(scope["path"]), str(scope["method"])
        if path == "/health":
            return (200, "OK!") if method in ("GET", "HEAD") else (405, "Method Not Allowed")
        if not path.startswith("/webhooks/"):
            return 404, "Not Found"
        if method != "POST":
            return 405, "Method Not Allowed"
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._look(await self._hear(path.removeprefix("/webhooks/").rstrip("/"), headers, receive))
        except webhooks.Refused as refused:
            return refused.status, refused.message
        return 200, "OK"

    async def _hear(self, forge: str, headers: dict[str, str], receive: Receive) -> webhooks.Delivery | None:
        """A delivery whose proof holds, which is known once its last byte is here; None where it is too long to be read. Raises Refused."""
        proof = webhooks.proof(forge, headers, self._secret)
        body, is_whole, more = bytearray(), True, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise webhooks.Refused(status=400, message="Bad Request")
            piece, more = message.get("body", b""), message.get("more_body", False)
            proof.update(piece)
            is_whole = is_whole and len(body) + len(piece) <= _READ
            if is_whole:
                body += piece
            else:
                body.clear()
        if not proof.holds():
            raise webhooks.Refused(status=400, message="Invalid webhook signature")
        return webhooks.understand(forge, headers, bytes(body)) if is_whole else None

    def _look(self, delivery: webhooks.Delivery | None) -> None:
        branch = self._trigger.repository.source.branch
        if delivery is not None:
            if branch not in delivery.branches:
                return
            commit = delivery.branches[branch]
            if commit and (commit in self._seen or commit == self._trigger.pushed):
                return  # told twice, or our own
            if is_oid(commit):
                self._seen[commit] = None
            while len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]
        self._trigger.wanted.set()

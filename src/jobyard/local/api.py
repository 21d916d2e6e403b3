"""The API over HTTP: one ASGI application that finds what a path names and does what the verb says."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from jobyard.local import apply, bodies, discovery, mishap, patches, reviews, selectors, services, status, tables, times
from jobyard.local.deletion import DeleteOptions, options_of
from jobyard.local.kubelet import Kubelet
from jobyard.local.objects import Objects
from jobyard.local.pod_api import PodApi
from jobyard.local.requests import Answer, Request, Target, decode, query, target
from jobyard.local.resources import NAMESPACES, SERVICES
from jobyard.local.status import ApiError
from jobyard.local.watching import stream

Tree = dict[str, Any]
_METHODS = {"": ("GET", "POST", "PUT", "PATCH", "DELETE"), "status": ("GET", "PUT", "PATCH"), "finalize": ("PUT",), "log": ("GET",)}
"""What may be asked of an object, and of its subresources."""
_QUERY_LIMIT = 32 * 1024
_WARNINGS_LIMIT = 4096
"""Characters of all warnings together: they are sent in headers."""
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Api:
    """The application. Whoever knows the token may do everything; it stands in the Authorization header or before the path.

    Before the path, because kubectl sends no credentials over plain HTTP: the kubeconfig's server is `http://127.0.0.1:PORT/TOKEN`.
    """

    def __init__(self, objects: Objects, kubelet: Kubelet, token: str) -> None:
        self._objects = objects
        self._pods = PodApi(objects, kubelet)
        self._token = token
        self.closing = asyncio.Event()
        """Set before the server stops: streams end by themselves."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(await self._read(scope, receive))
        except ApiError as error:
            answer = Answer(error.body(), error.code)
        except Exception as error:  # noqa: BLE001 - one request is one try block: it ends nothing but itself
            shown = f"{scope['method']} {scope['path'].replace(self._token, '***')[:200]!r}"
            wrong = ApiError(500, mishap.tell(shown, error))
            answer = Answer(wrong.body(), wrong.code)
        await self._send(answer, receive, send)

    async def _read(self, scope: MutableMapping[str, Any], receive: Receive) -> Request:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path, prefix = scope["path"], ""
        if self._is_token(path.removeprefix("/").partition("/")[0]):
            prefix = f"/{self._token}"
            path = path[len(prefix) :] or "/"
        elif not self._is_token(headers.get("authorization", "").removeprefix("Bearer ")) and path not in ("/healthz", "/livez", "/readyz"):
            raise ApiError(401, "Unauthorized")
        if len(scope["query_string"]) > _QUERY_LIMIT:
            raise ApiError(414, f"the query is longer than {_QUERY_LIMIT} bytes")
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > bodies.SIZE_LIMIT:
                raise ApiError(413, f"Request entity too large: limit is {bodies.SIZE_LIMIT}")
        return Request(
            method=scope["method"], path=path, query=query(scope["query_string"]), headers=headers, body=bytes(body), prefix=prefix
        )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    async def _send(self, answer: Answer, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", answer.media.encode())]
        headers += [(b"warning", f'299 - "{text}"'.encode()) for text in _quoted(answer.warnings)]
        if answer.chunks is None:
            body = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
            headers.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": answer.code, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await send({"type": "http.response.start", "status": answer.code, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await self._pump(answer.chunks, receive, send)

    async def _pump(self, chunks: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
        """Sends a stream until it ends, the client has gone, or the server stops."""

        async def pump() -> None:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        tasks = [asyncio.create_task(each) for each in (pump(), gone(), self.closing.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- what is asked ---

    async def _answer(self, request: Request) -> Answer:
        about = self._about(request)
        if about is not None:
            return about
        match request.path.rstrip("/").split("/")[1:], request.method:
            case ["apis", reviews.GROUP, reviews.VERSION, plural], "POST":
                return Answer(reviews.answer(plural, request.tree()), 201)
        what = target(request.path.rstrip("/"))
        if what is None:
            raise ApiError(404, "the server could not find the requested resource", details={})
        if what.subresource == "eviction" and request.method == "POST":
            return self._pods.evict(request, what)
        if request.method not in _METHODS.get(what.subresource, ()):
            raise ApiError(405, "the server does not allow this method on the requested resource")
        if what.subresource == "log":
            return self._pods.log(request, what)
        match request.method:
            case "GET" if what.name:
                found = self._objects.get(what.resource, what.namespace, what.name)
                if tables.wanted(request.headers.get("accept", "")):
                    metadata = {"resourceVersion": found["metadata"]["resourceVersion"]}
                    return Answer(tables.table(what.resource, [found], metadata, times.now()))
                return Answer(found)
            case "GET" if request.flag("watch"):
                return Answer(chunks=stream(self._objects, request, what), media="application/json")
            case "GET":
                listed = self._list(request, what)
                if tables.wanted(request.headers.get("accept", "")):
                    return Answer(tables.table(what.resource, listed["items"], listed["metadata"], times.now()))
                return Answer(listed)
            case "POST" if not what.name:
                return self._create(request, what)
            case "PUT" if what.name:
                return self._replace(request, what)
            case "PATCH" if what.name:
                return self._patch(request, what)
            case "DELETE" if what.name:
                return self._delete(request, what)
            case "DELETE" if what.namespace or not (what.resource.namespaced or what.resource is NAMESPACES):
                return self._delete_all(request, what)
        raise ApiError(405, "the server does not allow this method on the requested resource")

    def _about(self, request: Request) -> Answer | None:
        """What the server tells of itself."""
        path = request.path.rstrip("/")
        match path.split("/")[1:]:
            case ["healthz" | "livez" | "readyz", *_]:
                return Answer(b"ok", media="text/plain")
            case ["version"]:
                return Answer(discovery.version())
            case ["api"]:
                return Answer(discovery.core_versions(request.headers.get("host", "")))
            case ["apis"]:
                return Answer(discovery.groups())
            case ["apis", group] if any(each["name"] == group for each in discovery.groups()["groups"]):
                return Answer(discovery.group(group))
            case ["api", "v1"]:
                return Answer(discovery.resources("", "v1"))
            case ["apis", group, version] if (found := discovery.resources(group, version)) is not None:
                return Answer(found)
            case ["openapi", "v3"]:
                return Answer(discovery.openapi_index(request.prefix))
            case ["openapi", "v3", *rest] if (document := discovery.openapi("/".join(rest))) is not None:
                return Answer(document)
        return None

    # --- verbs ---

    def _matches(self, request: Request, what: Target) -> Callable[[Tree], bool]:
        by_label = selectors.labels(request.query.get("labelSelector", ""))
        by_field = selectors.fields(what.resource, request.query.get("fieldSelector", ""))
        return lambda tree: by_label(tree) and by_field(tree)

    def _list(self, request: Request, what: Target) -> Tree:
        matches = self._matches(request, what)
        items = [tree for tree in self._objects.list(what.resource, what.namespace) if matches(tree)]
        version, after = str(self._objects.store.version), ("", "")
        if token := request.query.get("continue"):
            version, after = _read_continue(token)
            items = [tree for tree in items if _place(tree) > after]
        metadata: Tree = {"resourceVersion": version}
        limit = request.number("limit") or 0
        if 0 < limit < len(items):
            metadata["remainingItemCount"] = len(items) - limit
            items = items[:limit]
            metadata["continue"] = _write_continue(version, _place(items[-1]))
        return {"kind": f"{what.resource.kind}List", "apiVersion": what.resource.api_version, "metadata": metadata, "items": items}

    def _create(self, request: Request, what: Target) -> Answer:
        tree, warnings = decode(what.resource, request.tree(), request.query.get("fieldValidation", "Warn"))
        made = self._objects.create(what.resource, what.namespace, tree, dry_run=request.dry_run)
        return Answer(made, 201, warnings=[*warnings, *([services.NOTE] if what.resource is SERVICES else [])])

    def _replace(self, request: Request, what: Target) -> Answer:
        tree, warnings = decode(what.resource, request.tree(), request.query.get("fieldValidation", "Warn"))
        old = self._objects.get(what.resource, what.namespace, what.name)
        changed = self._written(request, what, old, tree)
        return Answer(
            self._objects.update(what.resource, old, changed, subresource=what.subresource, dry_run=request.dry_run), warnings=warnings
        )

    def _patch(self, request: Request, what: Target) -> Answer:
        if request.media == "application/apply-patch+yaml":
            return self._apply(request, what)
        old = self._objects.get(what.resource, what.namespace, what.name)
        patched = patches.apply(what.resource, old, request.value(), request.media)
        try:
            bodies.bound(patched)
        except bodies.Unreadable as error:
            raise ApiError(422, f"the patch is refused, since what it leaves can't be kept: {error}") from None
        tree, warnings = decode(what.resource, patched, request.query.get("fieldValidation", "Warn"))
        changed = self._written(request, what, old, tree)
        return Answer(
            self._objects.update(what.resource, old, changed, subresource=what.subresource, dry_run=request.dry_run), warnings=warnings
        )

    def _apply(self, request: Request, what: Target) -> Answer:
        """Server-side apply: creates the object, or merges what its manager wants into it."""
        manager = request.query.get("fieldManager", "")
        if not manager:
            raise ApiError(422, 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch')
        wanted, warnings = decode(what.resource, request.tree(), request.query.get("fieldValidation", "Warn"), whole=False)
        if (wanted.get("metadata") or {}).get("managedFields"):
            raise ApiError(400, "metadata.managedFields must be nil")
        live = self._objects.find(what.resource, what.namespace, what.name)
        wanted = {**wanted, "metadata": {**(wanted.get("metadata") or {}), "name": what.name}}
        merged, _ = decode(what.resource, apply.apply(what.resource, live, wanted, manager, force=request.flag("force")), "Ignore")
        if live is None:
            made = self._objects.create(what.resource, what.namespace, merged, dry_run=request.dry_run)
            return Answer(made, 201, warnings=warnings)
        if _same_but_times(live, merged):
            return Answer(live, warnings=warnings)
        return Answer(
            self._objects.update(what.resource, live, merged, subresource=what.subresource, dry_run=request.dry_run), warnings=warnings
        )

    def _written(self, request: Request, what: Target, old: Tree, new: Tree) -> Tree:
        """A change that was no apply, with its owner noted."""
        manager = request.query.get("fieldManager") or request.headers.get("user-agent", "unknown").split("/")[0]
        return apply.note_update(what.resource, old, new, manager)

    def _delete(self, request: Request, what: Target) -> Answer:
        options = options_of(request)
        tree = self._objects.get(what.resource, what.namespace, what.name)
        status.check_preconditions(what.resource, tree, options.preconditions)
        left = self._remove(what, tree, options)
        return Answer(left if left is not None else status.success(what.resource, tree))

    def _delete_all(self, request: Request, what: Target) -> Answer:
        options = options_of(request)
        listed = self._list(request, what)
        for tree in listed["items"]:
            self._remove(what, tree, options)
        return Answer(listed)

    def _remove(self, what: Target, tree: Tree, options: DeleteOptions) -> Tree | None:
        grace = options.grace_period_seconds
        return self._objects.delete(what.resource, tree, policy=options.policy, grace=grace, dry_run=bool(options.dry_run))


def _same_but_times(live: Tree, merged: Tree) -> bool:
    """Whether an apply changes nothing, apart from when it was done."""

    def plain(tree: Tree) -> Tree:
        metadata = tree["metadata"]
        entries = [{key: value for key, value in entry.items() if key != "time"} for entry in metadata.get("managedFields") or []]
        return {**tree, "metadata": {**metadata, "managedFields": sorted(entries, key=str)}}

    return plain(live) == plain(merged)


def _quoted(warnings: list[str]) -> list[str]:
    """Warnings as they may stand in a header: printable, and not too many."""
    left, quoted = _WARNINGS_LIMIT, []
    for text in warnings:
        printable = "".join(each if each.isprintable() else " " for each in text[:left])
        quoted.append(printable.replace("\\", "\\\\").replace('"', '\\"'))
        left -= len(text)
        if left <= 0:
            break
    return quoted


def _place(tree: Tree) -> tuple[str, str]:
    return tree["metadata"].get("namespace", ""), tree["metadata"]["name"]


def _write_continue(version: str, place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([version, *place])).decode()


def _read_continue(token: str) -> tuple[str, tuple[str, str]]:
    try:
        version, namespace, name = msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[str, str, str])
    except (ValueError, msgspec.MsgspecError):
        raise ApiError(400, "continue key is not valid") from None
    return version, (namespace, name)

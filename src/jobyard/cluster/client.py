"""The Cluster contract over HTTP: raw bytes in, thin structs out, manifests untouched."""

from __future__ import annotations

import asyncio
import builtins
import logging
import math
import ssl
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from jobyard import external
from jobyard.cluster import errors
from jobyard.cluster.answers import Listing, Named, Page, Reader, Resources, Review, Shape, Unreadable, decode
from jobyard.cluster.kubeconfig import Connection, load_client_certificate
from jobyard.cluster.pace import Pace
from jobyard.cluster.tally import Tally
from jobyard.cluster.transport import LINE_LIMIT, OBJECT_LIMIT, Broken, Nobody, Pools, lines, open_pools, refusal
from jobyard.cluster.watch import watch
from jobyard.contracts import Change, Selection
from jobyard.model.errors import CredentialsUnavailable, Forbidden, NotFound, Rejected, Unauthorized, Unavailable, Unreachable, WatchExpired
from jobyard.model.objects import LEASES, Kind, Manifest, Other, T

log = logging.getLogger("jobyard.cluster")

PAGE = 500
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
"""Asks for nothing but the metadata of what is listed; what can't do that sends the whole."""
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
LIST_TRIES = 3
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that no proxy of the environment stands before."""


class InsecureConnection(UserWarning):
    """The kubeconfig says insecure-skip-tls-verify."""

    sentence = "the kubeconfig sets insecure-skip-tls-verify: the server's identity is not checked"


class HttpCluster:
    """A cluster reached by a kubeconfig's connection. Made by `open_cluster`."""

    def __init__(self, connection: Connection, pools: Pools) -> None:
        self.connection = connection
        self._pools = pools
        self.tally = Tally()
        self._pace = Pace(time.monotonic)
        self._reader = Reader()
        # A path before the API's own may be a secret (the local cluster's is): messages name the host alone.
        url = urlsplit(connection.server)
        self.shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        """The server, as messages name it."""

    async def create(self, kind: Kind[T], namespace: str, manifest: Manifest, *, dry_run: bool = False) -> T:
        params = {"fieldManager": "jobyard"}
        if dry_run:
            params |= {"dryRun": "All", "fieldValidation": "Strict"}
        name = (manifest.get("metadata") or {}).get("name", "")
        body = msgspec.json.encode(manifest)
        return await self._object(kind, "POST", self._path(kind, namespace), f"create {kind.name} {name}", params=params, body=body)

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        try:
            return await self._object(kind, "GET", self._path(kind, namespace, name), f"get {kind.name} {name}")
        except WatchExpired as gone:  # only lists and watches can be too old
            raise Unavailable(server=self.shown, what=f"answered 410 when asked for a single object ({gone.message})") from None

    async def list(self, kind: Kind[T], namespace: str, *, labels: str = "", fields: str = "") -> list[T]:
        return (await self.list_at(kind, namespace, labels=labels, fields=fields)).items

    async def list_at(self, kind: Kind[T], namespace: str, *, labels: str, fields: str) -> Listing[T]:
        """All objects, page by page, and the resource version that they are of."""
        for _ in range(LIST_TRIES):
            try:
                return await self._list_once(kind, namespace, labels, fields)
            except WatchExpired as expired:  # the next page's version was compacted meanwhile: the list begins anew
                why = expired
        raise Unavailable(server=self.shown, what=f"discards versions faster than we can list them ({why.message})")

    async def _list_once(self, kind: Kind[T], namespace: str, labels: str, fields: str) -> Listing[T]:
        params = {"limit": str(PAGE), **_selectors(labels, fields)}
        action = f"list {kind.plural}"
        items: builtins.list[T] = []
        unread: set[str] = set()
        while True:
            page = self._read(await self.call("GET", self._path(kind, namespace), action, params=params), Page, action)
            for each in page.items or ():
                read = self.read(kind, each)
                if isinstance(read, Named):
                    unread.add(read.uid or "")
                else:
                    items.append(read)
            if not page.metadata.resource_version:
                raise self._unreadable(action, "it has no version")
            if not page.metadata.continue_:
                return Listing(items=items, version=page.metadata.resource_version, unread=frozenset(unread))
            params["continue"] = page.metadata.continue_

    async def page(self, kind: Kind[T], namespace: str, *, labels: str, size: int, after: str = "") -> tuple[builtins.list[T], str]:
        params = {"limit": str(size), **_selectors(labels, ""), **({"continue": after} if after else {})}
        action = f"list {kind.plural}"
        accept = METADATA_LIST if kind.struct is Other else "application/json"
        answer = await self.call("GET", self._path(kind, namespace), action, params=params, accept=accept)
        page = self._read(answer, Page, action)
        read = [self.read(kind, each) for each in page.items or ()]
        return [each for each in read if not isinstance(each, Named)], page.metadata.continue_ or ""

    def read(self, kind: Kind[T], text: msgspec.Raw) -> T | Named:
        """One object of a list or a watch; what it is known by, where no more can be read."""
        return self._reader.read(kind, text)

    async def patch(self, kind: Kind[T], namespace: str, name: str, change: Mapping[str, Any]) -> T:
        body, media = msgspec.json.encode(change), "application/merge-patch+json"
        return await self._object(kind, "PATCH", self._path(kind, namespace, name), f"patch {kind.name} {name}", body=body, media=media)

    async def delete(self, kind: Kind[T], namespace: str, name: str, *, uid: str = "", version: str = "", grace: int | None = None) -> None:
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid or version:
            options["preconditions"] = {**({"uid": uid} if uid else {}), **({"resourceVersion": version} if version else {})}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self.call("DELETE", self._path(kind, namespace, name), f"delete {kind.name} {name}", body=msgspec.json.encode(options))
        except NotFound:
            return

    async def find_kind(self, api_version: str, name: str) -> Kind[Other]:
        api = f"{'apis' if '/' in api_version else 'api'}/{api_version}"
        action = f"find kind {name}"
        known = self._read(await self.call("GET", f"/{api}", action), Resources, action)
        found = next((each for each in known.resources if each.kind == name and each.namespaced and "/" not in each.name), None)
        if found is None:
            message = f"{api_version} has no namespaced kind {name}"
            raise NotFound(action=action, status=404, reason="NotFound", message=message)
        return Kind(api, found.name, name, Other)

    async def may(self, verb: str, kind: Kind[Any], namespace: str, *, subresource: str = "") -> bool | None:
        what = {"namespace": namespace, "verb": verb, "group": kind.group, "resource": kind.plural, "subresource": subresource}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": what}}
        action = f"review whether we may {verb} {kind.plural}"
        try:
            answer = await self.call("POST", REVIEWS, action, body=msgspec.json.encode(review))
        except Unauthorized:
            raise
        except Rejected:
            return None
        return self._read(answer, Review, action).status.allowed

    def watch(
        self,
        kind: Kind[T],
        namespace: str,
        *,
        labels: str = "",
        fields: str = "",
        first: Callable[[], Iterator[Selection]] | None = None,
    ) -> AsyncIterator[Change[T]]:
        return watch(self, kind, namespace, labels, fields, first)

    @asynccontextmanager
    async def stream_changes(
        self, kind: Kind[T], namespace: str, labels: str, fields: str, version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of one watch stream, from `version` on."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            **_selectors(labels, fields),
        }
        streams = self.tally.of(kind.plural, namespace)

        async def heard(lines: AsyncIterator[str]) -> AsyncIterator[str]:
            async for line in lines:
                streams.heard = time.monotonic()
                yield line

        async with self._stream(self._path(kind, namespace), f"watch {kind.plural}", params, OBJECT_LIMIT) as lines:
            streams.opened += 1
            streams.heard = time.monotonic()
            yield heard(lines)

    async def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str = "",
        tail: int | None = None,
        since: timedelta | None = None,
        follow: bool = False,
        timestamps: bool = False,
    ) -> AsyncGenerator[str, None]:
        params = {"container": container} if container else {}
        if tail is not None:
            params["tailLines"] = str(tail)
        if since is not None:
            params["sinceSeconds"] = str(max(math.ceil(since.total_seconds()), 1))
        if follow:
            params["follow"] = "true"
        if timestamps:
            params["timestamps"] = "true"
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/log"
        async with self._stream(path, f"read the log of pod {pod}", params, LINE_LIMIT) as lines:
            async for line in lines:
                yield line

    async def has_namespace(self, name: str) -> bool | None:
        """Whether there is a namespace of that name; None where we may not ask. No part of the contract: only who knows the name asks."""
        try:
            await self.call("GET", f"/api/v1/namespaces/{quote(name, safe='')}", f"get Namespace {name}")
        except NotFound:
            return False
        except Forbidden:
            return None
        return True

    async def namespaces(self) -> builtins.list[str]:
        """The names of all namespaces; none where we may not ask."""
        try:
            answer = await self.call("GET", "/api/v1/namespaces", "list namespaces", params={"limit": str(PAGE)}, accept=METADATA_LIST)
        except Forbidden:
            return []
        page = self._read(answer, Page, "list namespaces")
        return [self._read(bytes(each), Other, "list namespaces").metadata.name for each in page.items or ()]

    async def create_namespace(self, name: str) -> None:
        """Creates a namespace. Raises Conflict when it is there. No part of the contract: only who owns the cluster may."""
        body = msgspec.json.encode({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        await self.call("POST", "/api/v1/namespaces", f"create Namespace {name}", body=body)

    # --- one call, one stream ---

    async def _object(self, kind: Kind[T], method: str, path: str, action: str, **more: Any) -> T:
        """A call that is answered with one object. Renewing a lease is urgent: whoever can't must stop all that it does."""
        found = self._read(await self.call(method, path, action, urgent=kind.plural == LEASES.plural, **more), kind.struct, action)
        if not found.metadata.name:
            raise self._unreadable(action, "it has no name")
        return found

    def _read(self, answer: bytes, shape: type[Shape], action: str) -> Shape:
        try:
            return decode(answer, shape)
        except Unreadable as error:
            log.debug("%s: unreadable answer (%s): %.200r", action, error, answer)
            raise self._unreadable(action, str(error)) from None

    def _unreadable(self, action: str, why: str) -> Unavailable:
        what = f"answered with something that is not a Kubernetes object when asked to {action} ({why})"
        return Unavailable(server=self.shown, what=what, remedy="perhaps a proxy answered in its place")

    def _path(self, kind: Kind[Any], namespace: str, name: str = "") -> str:
        path = f"/{kind.api}/namespaces/{quote(namespace, safe='')}/{kind.plural}"
        return f"{path}/{quote(name, safe='')}" if name else path

    async def _headers(self, media: str = "application/json", accept: str = "application/json") -> dict[str, str]:
        headers = {"Accept": accept, "Content-Type": media}
        authorization = await self.connection.credentials.header()
        if authorization:
            if not (authorization.isascii() and authorization.isprintable()):
                self.connection.credentials.expire(authorization)
                raise CredentialsUnavailable(server="", what="the token contains a character that no token may contain")
            headers["Authorization"] = authorization
        return headers

    async def call(
        self,
        method: str,
        path: str,
        action: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        media: str = "application/json",
        accept: str = "application/json",
        urgent: bool = False,
    ) -> bytes:
        """One call to the API, whatever its path; the body of the answer. Raises Rejected or Unavailable.

        `urgent`: waits behind no other call, and for no Retry-After that another was answered."""
        pool = self._pools.urgent if urgent else self._pools.calls
        url = self._url(path, params)
        for last in (False, True):
            headers = await self._headers(media, accept)
            asked = time.monotonic()
            try:
                async with nullcontext() if urgent else self._pace.turn():
                    begun = time.monotonic()
                    self.tally.held_back += begun - asked
                    log.debug("%s %s %s", method, path, params or "")
                    with external.call(f"kubernetes: {action}"):
                        answer = await pool.call(method, url, headers, body)
                    slow_down = answer.status == 429 or (answer.status == 503 and answer.retry_after is not None)
                    if not urgent:
                        self._pace.note(time.monotonic() - begun, refused=slow_down, retry_after=errors.seconds(answer.retry_after))
            except Broken as error:
                self.tally.calls[method, 0] += 1
                raise self._unavailable(error) from error
            self.tally.calls[method, answer.status] += 1
            log.info("%s: %d in %.0f ms", action, answer.status, (time.monotonic() - begun) * 1000)
            if answer.status == 401 and not last:
                self.connection.credentials.expire(headers.get("Authorization"))  # it may have been renewed: ask once more
                continue
            if answer.status >= 400:
                raise self._error(action, answer.status, answer.body, answer.retry_after)
            return answer.body
        raise Unauthorized(action=action, status=401, reason="Unauthorized", message="")

    @asynccontextmanager
    async def _stream(self, path: str, action: str, params: Mapping[str, str], longest: int) -> AsyncIterator[AsyncIterator[str]]:
        headers = await self._headers()
        try:
            async with AsyncExitStack() as stack:
                with external.call(f"kubernetes: {action}"):
                    answer = await stack.enter_async_context(self._pools.streams.stream(self._url(path, params), headers))
                log.info("%s: %d", action, answer.status)
                if answer.status >= 400:
                    if answer.status == 401:
                        self.connection.credentials.expire(headers.get("Authorization"))
                    raise self._error(action, answer.status, await refusal(answer.chunks), answer.retry_after)
                yield lines(answer.chunks, longest)
        except Broken as error:
            raise self._unavailable(error) from error

    def _url(self, path: str, params: Mapping[str, str] | None) -> str:
        return f"{self.connection.server}{path}{'?' + urlencode(params) if params else ''}"

    def _error(self, action: str, code: int, body: bytes, retry_after: str | None) -> Exception:
        return errors.error(server=self.shown, action=action, code=code, body=body, retry_after=retry_after)

    def _unavailable(self, error: Broken) -> Unavailable:
        if isinstance(error, Nobody):
            return Unreachable(server=self.shown, what=str(error))
        return Unavailable(server=self.shown, what=str(error), remedy="check that it is running and that the address is right")


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {**({"labelSelector": labels} if labels else {}), **({"fieldSelector": fields} if fields else {})}


@asynccontextmanager
async def open_cluster(connection: Connection) -> AsyncIterator[HttpCluster]:
    """A cluster to talk to; leaving closes its connections. Calls, streams and what is urgent have pools of their own: none starves another.

    Raises InvalidKubeconfig: credentials that can't be had at the start are for the user to mend; later on they may pass by themselves.
    """
    tls: ssl.SSLContext | None = None
    await connection.credentials.header()
    if connection.server.startswith("https://"):
        tls = connection.tls()
        if connection.insecure:
            warnings.warn(InsecureConnection(InsecureConnection.sentence), stacklevel=2)
        certificate = await connection.credentials.certificate()
        if certificate:
            await asyncio.to_thread(load_client_certificate, tls, *certificate)
    proxy = connection.proxy or _proxy_of_environment(connection.server)
    async with open_pools(tls, server_name=connection.server_name, proxy=proxy) as pools:
        yield HttpCluster(connection, pools)


def _proxy_of_environment(server: str) -> str | None:
    """HTTPS_PROXY and its like. (aiohttp's own way of reading them would read ~/.netrc too, and send what stands there.)"""
    url = urlsplit(server)
    host = url.hostname or ""
    return None if host in LOOPBACK or proxy_bypass(host) else getproxies().get(url.scheme)

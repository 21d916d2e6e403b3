"""A registry of images that has none to give: what a container runtime is told by real ones, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

_INDEX = "application/vnd.oci.image.index.v1+json"
_OTHER_MACHINE = {
    "schemaVersion": 2,
    "mediaType": _INDEX,
    "manifests": [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": f"sha256:{'0' * 64}",
            "size": 2,
            "platform": {"architecture": "s390x", "os": "linux"},
        }
    ],
}


class _Answers(BaseHTTPRequestHandler):
    """By the name of the repository that is asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        repository = self.path.removeprefix("/v2/").partition("/")[0]
        match repository:
            case "secret":
                self._refuse(401, "UNAUTHORIZED", "authentication required")
            case "forbidden":
                self._refuse(403, "DENIED", "requested access to the resource is denied")
            case "busy":
                self._refuse(429, "TOOMANYREQUESTS", "You have reached your pull rate limit")
            case "down":
                self._refuse(503, "UNAVAILABLE", "come back later")
            case "other-machine":
                self._answer(200, json.dumps(_OTHER_MACHINE), _INDEX)
            case "":
                self._answer(200, "{}")
            case _:
                self._refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, json.dumps({"errors": [{"code": code, "message": message}]}))

    def _answer(self, status: int, text: str, media: str = "application/json") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def registry() -> Iterator[str]:
    """Its address, as images name it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

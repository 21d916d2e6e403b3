"""How a request proves who sends it: a token, a token in a file, a password, or a plugin that is asked for one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jobyard.model.errors import InvalidKubeconfig

PLUGIN_TIMEOUT = 60.0
"""Seconds that a plugin may take; a person may have to log in."""


class Credentials:
    """Nobody in particular; a client certificate may still speak for us."""

    async def header(self) -> str | None:
        """The Authorization header, or None. Raises InvalidKubeconfig when it can't be had."""
        return None

    async def certificate(self) -> tuple[str, str] | None:
        """A client certificate and its key as PEM text, where the credentials bring one."""
        return None

    def expire(self) -> None:
        """The server said 401: what was remembered is worth nothing."""


class StaticToken(Credentials):
    """A token that never changes."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def header(self) -> str | None:
        return f"Bearer {self._token}"


class BasicAuth(Credentials):
    """A user name and a password."""

    def __init__(self, user: str, password: str) -> None:
        self._encoded = base64.b64encode(f"{user}:{password}".encode()).decode()

    async def header(self) -> str | None:
        return f"Basic {self._encoded}"


class TokenFile(Credentials):
    """A token in a file that somebody else renews: read again every minute, and after a 401."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read = datetime.min.replace(tzinfo=UTC)

    async def header(self) -> str | None:
        now = datetime.now(UTC)
        if now - self._read > timedelta(minutes=1):
            try:
                self._token = self._path.read_text().strip()
            except OSError as error:
                raise InvalidKubeconfig(file=self._path, what=f"can't be read ({error.strerror})", expected="a token", remedy="") from None
            self._read = now
        return f"Bearer {self._token}"

    def expire(self) -> None:
        self._read = datetime.min.replace(tzinfo=UTC)


class ExecPlugin(Credentials):
    """A command that prints an ExecCredential (client.authentication.k8s.io v1 and v1beta1), remembered until it expires."""

    def __init__(self, entry: Mapping[str, Any], file: Path, cluster: Mapping[str, Any]) -> None:
        self._entry = entry
        self._file = file
        self._cluster = cluster
        self._status: Mapping[str, Any] | None = None
        self._expires: datetime | None = None
        self._lock = asyncio.Lock()

    async def header(self) -> str | None:
        token = (await self._credential()).get("token")
        return f"Bearer {token}" if token else None

    async def certificate(self) -> tuple[str, str] | None:
        status = await self._credential()
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        return (str(certificate), str(key)) if certificate and key else None

    def expire(self) -> None:
        self._status = None

    async def _credential(self) -> Mapping[str, Any]:
        async with self._lock:
            if self._status is None or (self._expires and self._expires - datetime.now(UTC) < timedelta(seconds=10)):
                self._status = await self._ask()
                expiry = self._status.get("expirationTimestamp")
                self._expires = datetime.fromisoformat(expiry) if expiry else None
            return self._status

    async def _ask(self) -> Mapping[str, Any]:
        command = str(self._entry.get("command") or "")
        if os.sep in command:
            command = str(self._file.parent / command)
        spec: dict[str, Any] = {"interactive": False}
        if self._entry.get("provideClusterInfo"):
            names = {
                "server": "server",
                "tls-server-name": "tls-server-name",
                "insecure-skip-tls-verify": "insecure-skip-tls-verify",
                "certificate-authority-data": "certificate-authority-data",
                "proxy-url": "proxy-url",
            }
            spec["cluster"] = {name: self._cluster[key] for key, name in names.items() if key in self._cluster}
        info = {"apiVersion": self._entry.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
        env = {
            **os.environ,
            **{each["name"]: each["value"] for each in self._entry.get("env") or []},
            "KUBERNETES_EXEC_INFO": json.dumps(info),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                command, *map(str, self._entry.get("args") or []), env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except OSError as error:
            hint = str(self._entry.get("installHint") or "Install it, or correct its path.")
            raise self._wrong(f"the credential plugin {command!r} can't be started ({error.strerror})", hint) from None
        try:
            async with asyncio.timeout(PLUGIN_TIMEOUT):
                out, _ = await process.communicate()
        except TimeoutError:
            raise self._wrong(f"the credential plugin {command!r} gave no answer in {PLUGIN_TIMEOUT:.0f} s", "Log in first.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise self._wrong(
                f"the credential plugin {command!r} failed with exit code {process.returncode}", "Log in first; its message is above."
            )
        try:
            status = json.loads(out)["status"]
        except (ValueError, KeyError, TypeError):
            raise self._wrong(f"the credential plugin {command!r} printed no ExecCredential", "Check its version.") from None
        return dict(status)

    def _wrong(self, what: str, remedy: str) -> InvalidKubeconfig:
        return InvalidKubeconfig(file=self._file, what=what, expected="an ExecCredential", remedy=remedy)

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

from jobyard.model.errors import CredentialsUnavailable, InvalidKubeconfig, JobyardError
from jobyard.patience import Backoff

PLUGIN_TIMEOUT = 60.0
"""Seconds that a plugin may take; a person may have to log in."""
_AGAIN = Backoff(first=2.0, longest=30.0)
"""How long a plugin that failed is left alone."""


def _bearer(status: Mapping[str, Any]) -> str | None:
    token = status.get("token")
    return f"Bearer {token}" if token else None


class Credentials:
    """Nobody in particular; a client certificate may still speak for us."""

    async def header(self) -> str | None:
        """The Authorization header, or None.

        Raises InvalidKubeconfig when it can't be had, and CredentialsUnavailable when it can't be had any more: that may pass."""
        return None

    async def certificate(self) -> tuple[str, str] | None:
        """A client certificate and its key as PEM text, where the credentials bring one."""
        return None

    def expire(self, used: str | None = None) -> None:
        """The server said 401: what was remembered is worth nothing. `used`: the header it did not accept; any newer one is kept."""


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
        self._expired = False

    async def header(self) -> str | None:
        now = datetime.now(UTC)
        if self._expired or now - self._read > timedelta(minutes=1):
            try:
                token = self._path.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                token, why = "", f"can't be read ({getattr(error, 'strerror', None) or 'it is not text'})"
            else:
                why = "is empty"
            if token:
                self._token, self._read, self._expired = token, now, False
            elif not self._token:
                raise InvalidKubeconfig(file=self._path, what=why, expected="a token", remedy="")
            elif self._expired:
                raise CredentialsUnavailable(server="", what=f"the token file {self._path} {why}")
            # Else the file is just being written: the token that we have was good until now.
        return f"Bearer {self._token}"

    def expire(self, used: str | None = None) -> None:
        self._expired = used in (None, f"Bearer {self._token}")


class ExecPlugin(Credentials):
    """A command that prints an ExecCredential (client.authentication.k8s.io v1 and v1beta1), remembered until it expires."""

    def __init__(self, entry: Mapping[str, Any], file: Path, cluster: Mapping[str, Any]) -> None:
        self._entry = entry
        self._file = file
        self._cluster = cluster
        self._status: Mapping[str, Any] | None = None
        self._expires: datetime | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._worked = False
        self._failures = 0
        self._failure: JobyardError | None = None
        self._again = 0.0

    async def header(self) -> str | None:
        return _bearer(await self._credential())

    async def certificate(self) -> tuple[str, str] | None:
        status = await self._credential()
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        return (str(certificate), str(key)) if certificate and key else None

    def expire(self, used: str | None = None) -> None:
        if self._status is not None and used in (None, _bearer(self._status)):
            self._status = None

    async def _credential(self) -> Mapping[str, Any]:
        """What the plugin said last. It is asked by a task of its own: a caller that gives up (a lease's renewal has but a moment) must not
        end it for all the others."""
        while self._status is None or (self._expires and self._expires - datetime.now(UTC) < timedelta(seconds=10)):
            if self._failure is not None and asyncio.get_running_loop().time() < self._again:
                raise self._failure.with_traceback(None)
            if self._renewing is None:
                self._renewing = asyncio.create_task(self._renew(), name="credential plugin")
            await asyncio.shield(self._renewing)
            if self._failure is None and self._status is not None:
                return self._status  # also one that expires at once: it is worth a try
        return self._status

    async def _renew(self) -> None:
        try:
            self._status, self._expires = await self._ask()
            self._worked, self._failures, self._failure = True, 0, None
        except InvalidKubeconfig as error:
            self._failures += 1
            lost = CredentialsUnavailable(server="", what=str(error).rstrip("."))
            self._failure = lost if self._worked else error
            self._again = asyncio.get_running_loop().time() + max(_AGAIN.draw(self._failures), 0.1)
        finally:
            self._renewing = None

    async def _ask(self) -> tuple[Mapping[str, Any], datetime | None]:
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
            **{str(each.get("name")): str(each.get("value") or "") for each in self._entry.get("env") or []},
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
            raise self._wrong(f"the credential plugin {command!r} did not answer within {PLUGIN_TIMEOUT:.0f} s", "Log in first.") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise self._wrong(
                f"the credential plugin {command!r} failed with exit code {process.returncode}", "Log in first; its message is above."
            )
        try:
            status = dict(json.loads(out)["status"])
            expiry = status.get("expirationTimestamp")
            expires = datetime.fromisoformat(expiry) if expiry else None
            return status, expires.replace(tzinfo=expires.tzinfo or UTC) if expires else None
        except (ValueError, KeyError, TypeError):
            raise self._wrong(f"the credential plugin {command!r} printed no ExecCredential", "Check its version.") from None

    def _wrong(self, what: str, remedy: str) -> InvalidKubeconfig:
        return InvalidKubeconfig(file=self._file, what=what, expected="an ExecCredential", remedy=remedy)

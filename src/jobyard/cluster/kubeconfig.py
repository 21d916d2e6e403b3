"""Which cluster, and as whom: kubeconfig files as kubectl reads them, or the service account of the pod that we run in."""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jobyard.cluster.credentials import BasicAuth, Credentials, ExecPlugin, StaticToken, TokenFile
from jobyard.model.errors import InvalidKubeconfig, NoCluster

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the API server is, and how to prove who we are."""

    server: str
    namespace: str = "default"
    context: str = ""
    credentials: Credentials = field(default_factory=Credentials)
    ca: str | None = None
    """The CA's certificates, as PEM text; None means the system's."""
    insecure: bool = False
    server_name: str | None = None
    proxy: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    """PEM text."""

    def tls(self) -> ssl.SSLContext:
        """What TLS needs: the CA, the client's certificate. Raises InvalidKubeconfig when a certificate is none."""
        context = ssl.create_default_context(cadata=self.ca)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate, key = self.client_certificate, self.client_key
        if certificate and key:
            load_client_certificate(context, certificate, key)
        return context


def load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Puts a client certificate, given as PEM text, into a TLS context. Python wants a file: it lives only as long as the call."""
    with tempfile.TemporaryDirectory(prefix="jobyard-") as folder:
        path = Path(folder) / "client.pem"
        path.touch(mode=0o600)
        path.write_text(f"{certificate}\n{key}\n")
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise InvalidKubeconfig(
                file="(client certificate)",
                what=f"can't be used ({error.reason})",
                expected="a PEM certificate and its key",
                remedy="Renew it.",
            ) from None


def connect(
    *, kubeconfig: str | None = None, context: str | None = None, in_cluster: bool | None = None, env: Mapping[str, str] = os.environ
) -> Connection:
    """The connection that the user means.

    In order: an explicit kubeconfig or context; the pod's own service account, when in a pod (`in_cluster` True insists on it, False
    forbids it); KUBECONFIG; ~/.kube/config. Raises NoCluster or InvalidKubeconfig.
    """
    explicit = kubeconfig is not None or context is not None
    in_pod = "KUBERNETES_SERVICE_HOST" in env and (SERVICE_ACCOUNT / "token").exists()
    if in_cluster is True and not explicit:
        if not in_pod:
            raise NoCluster(why="the file says incluster: true, but this is not running inside a pod; pass --kubeconfig")
        return _from_pod(env)
    paths = _paths(kubeconfig, env)
    existing = [path for path in paths if path.exists()]
    if not explicit and not existing and in_pod and in_cluster is not False:
        return _from_pod(env)
    if kubeconfig is not None and not existing:
        raise NoCluster(why=f"the kubeconfig {kubeconfig} does not exist")
    if not existing:
        raise NoCluster(why=f"there is no kubeconfig ({', '.join(str(path) for path in paths)}) and this is not running inside a pod")
    return _from_files(existing, context)


def _paths(kubeconfig: str | None, env: Mapping[str, str]) -> list[Path]:
    if kubeconfig:
        return [Path(kubeconfig).expanduser()]
    if env.get("KUBECONFIG"):
        return [Path(part).expanduser() for part in env["KUBECONFIG"].split(os.pathsep) if part]
    return [Path(env.get("HOME", "~")).expanduser() / ".kube" / "config"]


def _from_pod(env: Mapping[str, str]) -> Connection:
    host, port = env["KUBERNETES_SERVICE_HOST"], env.get("KUBERNETES_SERVICE_PORT", "443")
    bracketed = f"[{host}]" if ":" in host else host
    namespace = SERVICE_ACCOUNT / "namespace"
    return Connection(
        server=f"https://{bracketed}:{port}",
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
        context="in-cluster",
        credentials=TokenFile(SERVICE_ACCOUNT / "token"),
        ca=(SERVICE_ACCOUNT / "ca.crt").read_text(),
    )


class _Files:
    """Kubeconfig files merged as kubectl merges them: the first to say something wins."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.current = ""
        self.named: dict[str, dict[str, tuple[dict[str, Any], Path]]] = {"contexts": {}, "clusters": {}, "users": {}}
        for path in paths:
            self._merge(path)

    def _merge(self, path: Path) -> None:
        try:
            tree = yaml.safe_load(path.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            what = f"can't be read ({str(error).splitlines()[0]})"
            raise InvalidKubeconfig(file=path, what=what, expected="a kubeconfig in YAML", remedy="Fix it, or name another.") from None
        if not isinstance(tree, dict):
            raise InvalidKubeconfig(
                file=path, what="is not a YAML mapping", expected="a kubeconfig in YAML", remedy="Fix it, or name another."
            )
        self.current = self.current or str(tree.get("current-context") or "")
        for kind, known in self.named.items():
            for entry in tree.get(kind) or []:
                if isinstance(entry, dict) and entry.get("name"):
                    known.setdefault(str(entry["name"]), (entry.get(kind[:-1]) or {}, path))

    def get(self, kind: str, name: str, wanted_by: str) -> tuple[dict[str, Any], Path]:
        if name not in self.named[kind]:
            there = ", ".join(self.named[kind]) or "none"
            where = ", ".join(str(path) for path in self.paths)
            raise InvalidKubeconfig(
                file=where,
                what=f"has no {kind[:-1]} {name!r} ({wanted_by})",
                expected=f"one of: {there}",
                remedy="`kubectl config get-contexts` lists them.",
            )
        return self.named[kind][name]


def _from_files(paths: list[Path], wanted: str | None) -> Connection:
    files = _Files(paths)
    name = wanted or files.current
    if not name:
        raise NoCluster(why=f"the kubeconfig {paths[0]} has no current context")
    context, _ = files.get("contexts", name, "named by --context" if wanted else "its current context")
    cluster, cluster_file = files.get("clusters", str(context.get("cluster")), f"of context {name}")
    user, user_file = files.get("users", str(context.get("user")), f"of context {name}") if context.get("user") else ({}, paths[0])
    server = str(cluster.get("server") or "")
    if not server.startswith(("http://", "https://")):
        raise InvalidKubeconfig(
            file=cluster_file, what=f"server {server!r} of cluster {context.get('cluster')}", expected="an http or https URL", remedy=""
        )
    return Connection(
        server=server.rstrip("/"),
        namespace=str(context.get("namespace") or "default"),
        context=name,
        credentials=_credentials(user, user_file, cluster),
        ca=_inline(cluster, "certificate-authority", cluster_file),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        client_certificate=_inline(user, "client-certificate", user_file),
        client_key=_inline(user, "client-key", user_file),
    )


def _inline(entry: Mapping[str, Any], key: str, file: Path) -> str | None:
    """PEM text that stands in the file itself (`KEY-data`) or in another, relative to it."""
    try:
        if entry.get(f"{key}-data"):
            return base64.b64decode(entry[f"{key}-data"], validate=True).decode()
        if entry.get(key):
            return (file.parent / str(entry[key])).read_text()
    except (OSError, ValueError) as error:
        raise InvalidKubeconfig(file=file, what=f"{key}: {error}", expected="a PEM file, or its base64 text", remedy="Fix it.") from None
    return None


def _credentials(user: Mapping[str, Any], file: Path, cluster: Mapping[str, Any]) -> Credentials:
    if user.get("exec"):
        return ExecPlugin(user["exec"], file, cluster)
    if user.get("tokenFile"):
        return TokenFile(file.parent / str(user["tokenFile"]))
    if user.get("token"):
        return StaticToken(str(user["token"]))
    if user.get("username"):
        return BasicAuth(str(user["username"]), str(user.get("password") or ""))
    return Credentials()

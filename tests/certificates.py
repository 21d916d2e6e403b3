"""Certificates for servers of a test's own."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def certificate(folder: Path, name: str, ca: str = "") -> Path:
    """A certificate and key in one file, made by openssl; signed by `ca`, or by itself."""
    base = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-subj", f"/CN={name}", "-days", "2"]
    if not ca:
        words = [*base, "-x509", "-out", f"{name}.crt"]
    else:
        words = [*base, "-x509", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-addext", "subjectAltName=IP:127.0.0.1", "-out", f"{name}.crt"]
        words += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    both = folder / f"{name}.pem"
    both.write_text((folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text())
    return both


def server_context(folder: Path) -> ssl.SSLContext:
    """TLS for a server on 127.0.0.1, whose certificate the authority in `folder` / ca.crt has signed."""
    certificate(folder, "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder, "server", "ca"))
    return context

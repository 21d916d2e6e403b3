"""Names that sound as if what they name were a secret."""

from __future__ import annotations

import re

_PARTS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private",
    "apikey",
    "accesskey",
    "authkey",
    "encryptionkey",
    "masterkey",
    "signingkey",
    "sshkey",
)
"""A name is a secret's that has one of these in it, whatever stands between the letters."""
_ENDS = ("pass", "pwd")
"""Or a word that ends so."""
_WORDS = frozenset(["auth", "authorization", "bearer", "cookie", "dsn", "pw"])
"""Or one of these words."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def sounds_secret(name: object) -> bool:
    """Whether what is named so is likely to be a secret."""
    if not isinstance(name, str):
        return False
    name = name[:200]
    if any(part in re.sub(r"[^a-z]", "", name.lower()) for part in _PARTS):
        return True
    words = {word.lower() for word in _WORD.findall(name)}
    return not _WORDS.isdisjoint(words) or any(word.endswith(_ENDS) for word in words)

"""Who we are to a repository: read out of addresses and variables, handed to the one git that talks to it, told to nobody.

A password stands in no argument, no configuration and no message of git's: addresses lose theirs, and a child that talks to the remote has
it in its environment, from where a credential helper of one line hands it over. Pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]+)?/", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_HELPER = """!f() { test "$1" = get && printf 'username=%s\\npassword=%s\\n' "$GIT_USERNAME" "$GIT_PASSWORD"; }; f"""
_OURS = ("JOBYARD_",)
_SECRET = frozenset(["GITHUB_WEBHOOK_SECRET", "GIT_REPOSITORY", "GIT_PASSWORD"])
_LOUD = ("GIT_TRACE", "GIT_CURL_VERBOSE")
"""What makes git say more on stderr, which is where our messages come from."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """An address, and apart from it what was written into it of who we are."""

    url: str
    """As git is told."""
    shown: str
    """As people are told, and as it stays when a password or a user changes."""
    username: str = ""
    password: str = field(default="", repr=False)


def read_address(text: str) -> Address:
    """An address of a repository as somebody wrote it. Also a password with a `/` that nobody escaped is one."""
    parts = _SCHEME.fullmatch(text)
    if parts is None:
        return Address(url=text, shown=text)  # a path, or user@host:path, which has no password
    scheme, rest = parts[1].lower(), parts[2]
    userinfo, host = _split(rest)
    shown = f"{parts[1]}://{host}"
    user, _, password = userinfo.partition(":")
    if scheme in ("http", "https", "ftp", "ftps"):
        return Address(url=shown, shown=shown, username=unquote(user), password=unquote(password))
    return Address(url=f"{parts[1]}://{user}@{host}" if user else shown, shown=shown)  # ssh takes no password from an address


def _split(rest: str) -> tuple[str, str]:
    """What stands before the `@` of an address, and what behind it."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        at = authority.rindex("@")
        return rest[:at], rest[at + 1 :]
    _, colon, port = authority.partition(":")
    if colon and not port.isdigit():  # no host and port: a password with a slash in it
        for at in range(len(rest) - 1, -1, -1):
            if rest[at] == "@" and _HOST.match(rest, at + 1):
                return rest[:at], rest[at + 1 :]
    return "", rest


@dataclass(frozen=True, kw_only=True)
class Login:
    """What git is told of who we are, when it talks to a remote."""

    addresses: tuple[Address, ...] = ()
    """The remote's: to fetch from, and where it is another, to push to."""
    withheld: tuple[str, ...] = field(default=(), repr=False)
    """What no git is to know at all, whatever variable of ours holds it."""
    written: Mapping[str, str] = field(default_factory=dict, repr=False)
    """From an address as it stands in the clone's configuration, where a person wrote a password into it, to the address without."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may tell."""
        passwords = [each.password for each in self.addresses if each.password]
        return tuple(dict.fromkeys(form for each in passwords for form in (each, quote(each, safe=""), quote(each))))

    def address(self, action: str) -> Address | None:
        """The one that an action of git's talks to."""
        if not self.addresses:
            return None
        return self.addresses[-1 if action == "push" else 0]


NOBODY = Login()


def plain(outer: Mapping[str, str], identity: tuple[str, str] | None = None, withheld: Collection[str] = ()) -> dict[str, str]:
    """The environment of every git: the user's, made unable to ask, without what is secret or ours. `withheld`: values that are secret,
    whatever variable holds them."""
    kept = {
        name: value
        for name, value in outer.items()
        if not (name.startswith((*_OURS, *_LOUD)) or name in _SECRET or (value and value in withheld))
    }
    env = {**kept, "GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}
    if "GIT_ASKPASS" in env and not os.access(env["GIT_ASKPASS"], os.X_OK):
        del env["GIT_ASKPASS"]  # goji's image had a program there
    if identity is not None:
        name, email = identity
        for who in ("AUTHOR", "COMMITTER"):
            env.setdefault(f"GIT_{who}_NAME", name)
            env.setdefault(f"GIT_{who}_EMAIL", email)
    return env


def signed_in(env: Mapping[str, str], outer: Mapping[str, str], login: Login, action: str) -> dict[str, str]:
    """The environment of the git that talks to the remote: `plain`, and who we are. What an address says comes before all else; without, the
    user's own helpers are asked first, then GIT_USERNAME and GIT_PASSWORD."""
    # git would hand the address as it is written to a program of its own, as an argument.
    config = [(f"url.{url}.insteadOf", written) for written, url in login.written.items()]
    found = dict(env)
    address = login.address(action)
    if address is not None and address.password:
        config += [("credential.helper", ""), ("credential.helper", _HELPER)]
        found |= {"GIT_USERNAME": address.username, "GIT_PASSWORD": address.password}
        return _configured(found, config)
    if address is not None and address.username:
        config.append(("credential.username", address.username))
    if password := outer.get("GIT_PASSWORD"):
        found["GIT_PASSWORD"] = password
        if "GIT_ASKPASS" not in found:
            config.append(("credential.helper", _HELPER))
    return _configured(found, config)


def _configured(env: Mapping[str, str], config: Iterable[tuple[str, str]]) -> dict[str, str]:
    """With further configuration, behind what the user set in the same way."""
    found = dict(env)
    count = int(env["GIT_CONFIG_COUNT"]) if env.get("GIT_CONFIG_COUNT", "").isdecimal() else 0
    for key, value in config:
        found |= {f"GIT_CONFIG_KEY_{count}": key, f"GIT_CONFIG_VALUE_{count}": value}
        count += 1
    return {**found, "GIT_CONFIG_COUNT": str(count)} if count else found


def hide(text: str, secrets: Iterable[str]) -> str:
    """What git says, without passwords."""
    text = _ADDRESS.sub(lambda found: read_address(found[0]).shown, text)
    for secret in secrets:
        text = text.replace(secret, "***")
    return text

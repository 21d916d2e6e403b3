"""The forms that Kubernetes wants texts in: names, keys, paths, addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SEARCH = re.compile(r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*")
_KEY_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_PORT_NAME = re.compile(r"[-a-z0-9]*[a-z][-a-z0-9]*")
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_PRINTABLE = re.compile(r"[ -<>-~]+")
_URL_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_DIGITS = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of texts. `expected`: in words."""

    fits: Callable[[str], bool]
    expected: str


def size(text: str) -> int:
    """How long a text is to Kubernetes: in bytes."""
    return len(text.encode(errors="replace"))


def is_label(text: str) -> bool:
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Whether it may be the key of a label: a name, perhaps after a domain and a slash."""
    prefix, slash, name = text.rpartition("/")
    if slash and not is_subdomain(prefix):
        return False
    return len(name) <= 63 and _KEY_NAME.fullmatch(name) is not None


def is_label_value(text: str) -> bool:
    return not text or (len(text) <= 63 and _KEY_NAME.fullmatch(text) is not None)


def is_port_name(text: str) -> bool:
    return len(text) <= 15 and _PORT_NAME.fullmatch(text) is not None and "--" not in text and text[0] != "-" and text[-1] != "-"


def is_config_key(text: str) -> bool:
    return len(text) <= 253 and _CONFIG_KEY.fullmatch(text) is not None and text != "." and not text.startswith("..")


def goes_up(path: str) -> bool:
    """Whether a path has `..` in it."""
    return ".." in path.split("/")


def is_below(path: str) -> bool:
    """Whether a path stays below where it starts."""
    return not path.startswith("/") and not goes_up(path)


def is_file_below(path: str) -> bool:
    """Whether a file that is projected into a volume may be called so."""
    return is_below(path) and not path.startswith("..")


def is_address(text: str) -> bool:
    """Whether it is an IP address as Kubernetes 1.36 takes it: no leading zeros, no IPv4 in IPv6, no zone."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text and not (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None)


def _is_prefix(text: str) -> bool:
    """Whether a generated name may start so: with a dash at its end, one that Kubernetes looks past."""
    return is_subdomain(f"{text[:-2]}a" if len(text) > 1 and text.endswith("-") else text)


def _is_domain_path(text: str) -> bool:
    domain, _, path = text.partition("/")
    return is_subdomain(domain) and _URL_PATH.fullmatch(path) is not None and size(text) <= 63


LABEL = Form(fits=is_label, expected="at most 63 lower-case letters, digits and -, a letter or digit first and last")
SUBDOMAIN = Form(fits=is_subdomain, expected="at most 253 lower-case letters, digits, - and ., a letter or digit first and last")
PREFIX = Form(fits=_is_prefix, expected=SUBDOMAIN.expected)
KEY = Form(fits=is_key, expected="letters, digits, -, _ and ., at most 63, perhaps after a prefix/")
LABEL_VALUE = Form(fits=is_label_value, expected="at most 63 letters, digits, -, _ and .")
CONFIG_KEY = Form(fits=is_config_key, expected="at most 253 letters, digits, -, _ and .")
VARIABLE = Form(fits=lambda text: _PRINTABLE.fullmatch(text) is not None, expected="printable ASCII without =")
PORT_NAME = Form(fits=is_port_name, expected="at most 15 lower-case letters, digits and -, one letter at least")
HEADER = Form(fits=lambda text: _HEADER.fullmatch(text) is not None, expected="letters, digits and -")
ADDRESS = Form(fits=is_address, expected="an IP address such as 10.9.8.7 or 2001:db8::1")
BELOW = Form(fits=is_below, expected="a relative path without ..")
FILE_BELOW = Form(fits=is_file_below, expected="a relative path without ..")
NO_WAY_UP = Form(fits=lambda text: not goes_up(text), expected="a path without ..")
ABSOLUTE = Form(fits=lambda text: text.startswith("/"), expected="an absolute path")
SYSCTL = Form(fits=lambda text: len(text) <= 253 and _SYSCTL.fullmatch(text) is not None, expected="a name such as net.core.somaxconn")
CONTROLLER = Form(fits=_is_domain_path, expected="a domain and a path such as acme.io/foo, at most 63 characters")
SEARCH = Form(
    fits=lambda text: text == "." or (len(name := text.removesuffix(".")) <= 253 and _SEARCH.fullmatch(name) is not None),
    expected="a domain such as svc.cluster.local",
)
DIGITS = Form(fits=lambda text: _DIGITS.fullmatch(text) is not None and text != "-0", expected="a whole number")

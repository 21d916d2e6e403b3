"""What goes wrong with a Postgres, in words: from SQLSTATEs and the classes of errors, never from a server's own text alone.

A server's text may quote rows: so what its class of error says about data is not told on, and nothing but its first words of any other.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg

from jobyard.model.errors import JobyardError
from jobyard.triggers.postgres.preset import grants, name
from jobyard.triggers.postgres.settings import Address

TEXT_LIMIT = 200
"""Characters of a server's text that are told."""


class PostgresTrouble(JobyardError):
    """A database does not answer what it is asked, just now: whoever asks tries again."""

    sentence = "Postgres at {server}: {what}. {remedy}"
    exit_code = 3
    server: str
    what: str
    remedy: str
    shape_changed: bool = False
    """The tables are other than they were: who asks should look at them anew."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was about to be read, for what is said when it can't be."""

    schema: str = ""
    """'' for a query of the user's own."""
    reads: Sequence[tuple[str, Sequence[str]]] = ()
    seconds: float = 2.0


def explain(error: BaseException, address: Address, wanted: Wanted) -> PostgresTrouble:
    """The error as ours."""

    def trouble(what: str, remedy: str, *, shape_changed: bool = False) -> PostgresTrouble:
        return PostgresTrouble(server=str(address), what=what, remedy=remedy, shape_changed=shape_changed)

    if isinstance(error, ssl.SSLCertVerificationError):
        return trouble(
            f"its certificate is not accepted ({error.verify_message.rstrip('.') or 'verification failed'})",
            "Renew the server's certificate, or correct ssl.ca and ssl.mode",
        )
    if isinstance(error, ssl.SSLError):
        return trouble(
            f"TLS failed ({(error.reason or 'no reason given').lower().replace('_', ' ')})", "Check ssl.mode and the certificates"
        )
    if isinstance(error, asyncpg.PostgresError):
        return _refusal(error, address, wanted, trouble)
    if isinstance(error, TimeoutError):
        return trouble("no answer in time", "Jobyard asks again")
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return trouble("it does not speak TLS", "Have it do so, or say ssl: {mode: disable}")
    if isinstance(error, OSError):
        return trouble(f"it can't be reached ({_system(error)})", "Jobyard tries again")
    if isinstance(error, asyncpg.InterfaceError):
        return trouble("the connection was closed", "Jobyard opens it again")
    return trouble(f"something unforeseen ({type(error).__name__})", "Jobyard tries again")


def _refusal(error: asyncpg.PostgresError, address: Address, wanted: Wanted, trouble: Callable[..., PostgresTrouble]) -> PostgresTrouble:
    state = error.sqlstate or ""
    user, database = name(address.user), name(address.database)
    match state:
        case "28P01":
            return trouble(f"it does not accept the password of {user}", "Correct user or password")
        case "28000":
            return trouble(f"it does not let {user} in ({_said(error)})", "Correct the user, or have pg_hba.conf let it in")
        case "3D000":
            return trouble(f"there is no database {database}", "Correct its name, or create it")
        case "42501":
            if "row-level security" in _said(error):
                return trouble(
                    f"row-level security would hide rows from {user}",
                    f"Its owner may say: ALTER ROLE {user} BYPASSRLS;",
                    shape_changed=True,
                )
            remedy = (
                f"Its owner may say: {grants(wanted.schema, wanted.reads, address.user)}" if wanted.schema else "Grant what the query reads"
            )
            return trouble(f"{user} may not read what is to be counted ({_said(error)})", remedy, shape_changed=True)
        case "3F000" | "42P01" | "42703" | "42883":
            where = f" in schema {name(wanted.schema)}" if wanted.schema else ""
            return trouble(
                f"what is to be counted is not there{where} ({_said(error)})",
                "Correct the schema, or start the queue's own program once: it makes its tables",
                shape_changed=True,
            )
        case "57014":
            return trouble(f"counting took longer than {wanted.seconds:g} s", "Jobyard asks again; is there an index for it?")
        case "55P03":
            return trouble("somebody has locked the table", "Jobyard asks again")
        case "25006":
            return trouble("the query wants to write, or the server is a standby that can't do that", "Only read in it")
        case "57P03":
            return trouble("it is starting or recovering", "Jobyard tries again")
        case "57P01" | "57P02":
            return trouble("it is being stopped", "Jobyard tries again")
        case "53300":
            return trouble("it has no connection to spare", "Jobyard tries again; raise max_connections, or use a pooler")
    if state.startswith("22"):
        return trouble(f"a value in its tables can't be counted (SQLSTATE {state})", "Look at what the query reads")
    if state.startswith("08"):
        return trouble("the connection was cut", "Jobyard opens it again")
    return trouble(f"it refuses ({_said(error)}, SQLSTATE {state or 'unknown'})", "Jobyard asks again")


def _said(error: asyncpg.PostgresError) -> str:
    """The first words of a server's primary message: names of objects, no rows."""
    text = " ".join(str(error.args[0] if error.args else "").split())
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}..."


def _system(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()

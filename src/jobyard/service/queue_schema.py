"""What a settings file may say of queues in Postgres: keys, types, meanings."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from jobyard.files.workflow_schema import Duration
from jobyard.service.schema_values import Part, Secret, Text, number
from jobyard.triggers.postgres.settings import NAME_LIMIT

Queue_ = Annotated[Text, Field(min_length=1, max_length=NAME_LIMIT)]
Count = Annotated[int, Field(ge=1, le=10_000), BeforeValidator(number)]


class PostgresTls(Part):
    """How the way to the database is protected, as libpq does it."""

    mode: Annotated[
        Literal["disable", "prefer", "require", "verify-ca", "verify-full"],
        Field(description="prefer speaks TLS where the server does; the last two look at its certificate, verify-full at its name too."),
    ] = "prefer"
    ca: Annotated[Text | None, Field(description="A file with the authorities that are trusted; left out, the system's.")] = None
    cert: Annotated[Text | None, Field(description="A file with our own certificate.")] = None
    key: Annotated[Text | None, Field(description="A file with its key.")] = None


class Connection(Part):
    """A database, and who we are there. Reading needs few rights: `docs/postgres.md` has them."""

    url: Annotated[Secret | None, Field(description="postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE, instead of the others.")] = (
        None
    )
    host: Annotated[Text, Field(min_length=1, description="Where it listens.")] = "localhost"
    port: Annotated[int, Field(ge=1, le=65535, description="And at which port."), BeforeValidator(number)] = 5432
    database: Annotated[Text, Field(min_length=1, description="Its name.")] = "postgres"
    user: Annotated[Text, Field(min_length=1, description="Who we are.")] = "postgres"
    password: Annotated[Secret | None, Field(description="Left out where the server asks for none.")] = None
    ssl: Annotated[PostgresTls, Field(description="How the way there is protected.")] = PostgresTls()


class Wait(Part):
    """How long to wait after a run until the next."""

    afterSuccess: Annotated[Duration, Field(description="After one that succeeded; with `scale`, no wait.")] = timedelta(seconds=5)  # noqa: N815
    afterFailure: Annotated[  # noqa: N815
        Duration, Field(description="After one that failed, was cancelled or deleted; with `scale`, doubled for each in a row.")
    ] = timedelta(minutes=1)
    afterError: Annotated[  # noqa: N815
        Duration, Field(description="After a Job that was refused, or whose pod could not start.")
    ] = timedelta(seconds=15)
    afterStartTimeout: Annotated[  # noqa: N815
        Duration, Field(description="After one whose pod did not run in time.")
    ] = timedelta(seconds=5)


class Scale(Part):
    """Several Jobs at once, by what waits."""

    max: Annotated[Count, Field(description="How many pods may be unfinished at once.")]
    perPod: Annotated[Count, Field(description="How many items a pod takes in its life.")] = 1  # noqa: N815
    maxStep: Annotated[Count, Field(description="How many Jobs are begun after one look at most.")] = 10  # noqa: N815
    claimGrace: Annotated[  # noqa: N815
        Duration,
        Field(
            description="How long a running pod takes until it has its items; until then they still count as waiting. A worker that takes one "
            "after another needs as long as it lives."
        ),
    ] = timedelta(seconds=15)


class PostgresQueue(Part):
    """A queue, and what runs while it has work."""

    queue: Annotated[Queue_, Field(description="Its name in its library.")]
    job: Annotated[Text, Field(min_length=1, description="A Job manifest or a workflow, relative to this file.")]
    check: Annotated[Duration, Field(description="How long to wait after a look that found nothing to do.")] = timedelta(seconds=5)
    scale: Annotated[Scale | None, Field(description="Several Jobs at once; left out, one run at a time.")] = None
    wait: Annotated[Wait, Field(description="How long to wait after a run.")] = Wait()
    startTimeout: Annotated[  # noqa: N815
        Duration, Field(description="How long a Job may wait until a pod of it runs, where its file does not say; 0s for ever.")
    ] = timedelta(minutes=10)


class _Source(Part):
    connection: Annotated[Connection, Field(description="The database.")]
    queues: Annotated[list[PostgresQueue], Field(min_length=1, max_length=1000, description="The queues that are served.")]
    channel: Annotated[
        Text | None, Field(max_length=63, description="A channel to LISTEN to, for instance that of a trigger on the table.")
    ] = None
    timeout: Annotated[Duration, Field(description="How long the database may take to answer.")] = timedelta(seconds=2)


class PgBoss(_Source):
    """Queues of pg-boss, any version from 7 to 12."""

    schema_: Annotated[Text, Field(alias="schema", min_length=1, max_length=63, description="Where its tables are.")] = "pgboss"


class Sql(_Source):
    """Other queues in Postgres: of a library that there is a preset for, or counted by a query."""

    preset: Annotated[
        Literal["procrastinate", "graphile-worker", "river", "oban", "pgmq", "solid-queue", "pgboss"] | None,
        Field(description="Whose tables they are."),
    ] = None
    schema_: Annotated[
        Text | None,
        Field(alias="schema", min_length=1, max_length=63, description="Where they are; left out, where the library puts them."),
    ] = None
    query: Annotated[
        Text | None,
        Field(
            min_length=1,
            max_length=20_000,
            description="Instead of a preset: a query that answers rows of queue, waiting and, if it likes, the seconds of the oldest; or for "
            "one queue a number. It can only read.",
        ),
    ] = None

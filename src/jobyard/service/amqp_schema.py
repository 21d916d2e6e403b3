"""What a settings file may say of queues of RabbitMQ: keys, types, meanings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from jobyard.files.workflow_schema import Name
from jobyard.service.schema_values import Flag, Part, Secret, Text, number

Queue_ = Annotated[Text, Field(min_length=1, max_length=255)]
Count = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(number)]


class Tls(Part):
    """Certificates, as PEM files. With amqps:// alone, the system's authorities are trusted."""

    ca: Annotated[Text, Field(description="The authorities that are trusted.")] = ""
    cert: Annotated[Text, Field(description="Our own certificate.")] = ""
    key: Annotated[Text, Field(description="Its key.")] = ""


class Form(Part):
    """A Job in the short form of kubernetes-event-jobs. Its messages are JSON: {"content": ..., "environment": {...}}."""

    image: Annotated[Text, Field(min_length=1, description="The image, without its version.")]
    imageVersion: Annotated[Text, Field(min_length=1, description="Its version.")] = "latest"  # noqa: N815
    registry: Annotated[Text, Field(description="What stands before the image.")] = ""
    jobName: Annotated[Text, Field(description="What the Jobs' names begin with; left out, the queue's name.")] = ""  # noqa: N815
    timeout: Annotated[int, Field(ge=1, le=2**31 - 1, description="Seconds of all its tries together."), BeforeValidator(number)] = 3600
    environment: Annotated[dict[str, Text], Field(description="Variables of its container.")] = {}
    serviceAccount: Annotated[Text, Field(description="The pods' service account; left out, the namespace's own.")] = ""  # noqa: N815
    resources: Annotated[dict[str, Any], Field(description="requests and limits; each that is given replaces the original's.")] = {}
    labels: Annotated[dict[str, Text], Field(description="Labels of Jobs and pods.")] = {}


class DeadLetter(Part):
    """Where messages go that can't be Jobs."""

    enabled: Annotated[
        Flag, Field(description="false: such a message is given back, and its queue stands still until a person sees to it.")
    ] = True
    exchange: Annotated[Text, Field(max_length=255, description="An exchange; left out, the default one.")] = ""
    routingKey: Annotated[  # noqa: N815
        Text,
        Field(
            max_length=255, description="With which key; of the default exchange, a queue. Left out both, QUEUE.dead, which is declared."
        ),
    ] = ""


class Queue(Part):
    """A queue, and what is run for each of its messages."""

    queue: Annotated[Queue_, Field(description="Its name. It is used as it is, whatever its arguments are.")]
    job: Annotated[
        Text | Form, Field(description="A Job manifest or a workflow, relative to this file; or the short form of kubernetes-event-jobs.")
    ]
    namespace: Annotated[Name | None, Field(description="Where its Jobs run; left out, where the file says, or the service's own.")] = None
    limit: Annotated[Count | Literal["unlimited"], Field(description="How many of its runs may be unfinished at once.")] = 10
    idFrom: Annotated[  # noqa: N815
        Text,
        Field(
            description="What makes a message the same message, with its body: message_id, header:NAME, json:/path (a JSON pointer), or content. "
            "What has none is run for each delivery."
        ),
    ] = "message_id"
    payload: Annotated[
        Literal["secret", "env", "file"],
        Field(
            description="How pods are handed the message: secret for variables from a Secret, env for variables in the Job itself, file for files from a Secret."
        ),
    ] = "secret"
    deadLetter: Annotated[DeadLetter, Field(description="Where messages go that can't be Jobs.")] = DeadLetter()  # noqa: N815


class Amqp(Part):
    """Queues of RabbitMQ. Each is a trigger of its own, NAME.QUEUE."""

    url: Annotated[
        Secret | list[Secret] | None,
        Field(description="amqp://USER:PASSWORD@HOST:PORT/VHOST (amqps:// for TLS), instead of the others; several are tried in turn."),
    ] = None
    host: Annotated[Text, Field(min_length=1, description="Where the broker listens.")] = "localhost"
    port: Annotated[int | None, Field(ge=1, le=65535, description="Left out, 5672, or with tls 5671."), BeforeValidator(number)] = None
    vhost: Annotated[Text, Field(min_length=1, description="The virtual host.")] = "/"
    user: Annotated[Text, Field(min_length=1, description="Who we are.")] = "guest"
    password: Annotated[Secret | None, Field(description="Left out, guest.")] = None
    tls: Annotated[Tls | None, Field(description="How the way there is protected; left out with `host`, it is not.")] = None
    queues: Annotated[list[Queue], Field(min_length=1, max_length=1000, description="The queues that are served.")]

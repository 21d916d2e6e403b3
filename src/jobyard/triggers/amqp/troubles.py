"""What goes wrong with a broker, in words. All of it passes, or waits for a person: nothing of it ends a message."""

from __future__ import annotations

import ssl

import aiormq.exceptions as amqp

from jobyard.model.errors import Unavailable

ASK_AGAIN = 60.0
"""Seconds until something is looked at again that a person has to mend."""


class BrokerUnavailable(Unavailable):
    """The broker is away, does not know us, or has broken off."""

    sentence = "the broker at {server} {what}; {remedy}"


class QueueUnavailable(Unavailable):
    """The queue is not there, or not for us."""

    sentence = "queue {queue} in virtual host {vhost} {what}; {remedy}"
    server: str = ""
    queue: str
    vhost: str


class StandsStill(Unavailable):
    """The queue is not consumed for now, so that no message is lost."""

    sentence = "queue {queue} stands still: {what}; {remedy}"
    server: str = ""
    remedy: str = "its messages stay where they are"
    queue: str


class LaunchRefused(StandsStill):
    """A message's Job can't be made just now; the message was given back."""

    sentence = "queue {queue} stands still, since no Job can be made just now: {what}; {remedy}"


class LetterRefused(StandsStill):
    """A message that can't be a Job can't be set aside either; it was given back."""

    sentence = "queue {queue} stands still, since a message can't be a Job and can't be set aside: {what}; {remedy}"


def broker_trouble(server: str, error: BaseException) -> BrokerUnavailable:
    """What the failure of a connection means. Tells nothing of what was sent."""
    what, remedy = _words(error)
    return BrokerUnavailable(server=server, what=what, remedy=remedy)


def _words(error: BaseException) -> tuple[str, str]:
    passes = "this is usually temporary"
    match error:
        case amqp.ProbableAuthenticationError() | amqp.AuthenticationError():
            return "does not accept the user or the password", "check both, and that the user may log in from here"
        case amqp.ConnectionNotAllowed() | amqp.InvalidFrameError():  # which is what aiormq makes of an `open` that is refused
            return "does not let the user into the virtual host", "check that it exists, and that the user has permissions there"
        case amqp.ChannelAccessRefused():
            return "refuses what we asked", "check the user's permissions"
        case TimeoutError():
            return "did not answer in time", passes
        case ssl.SSLError() | ssl.CertificateError():
            return f"can't be trusted, or does not trust us ({error.reason or type(error).__name__})", "check ca, cert and key under `tls`"
        case amqp.ConnectionClosed() if error.args and error.args[0] == 320:
            return "closed the connection: it is shutting down, or an operator did", passes
    cause = error.__cause__
    if isinstance(error, amqp.AMQPConnectionError) and isinstance(cause, OSError | ssl.SSLError) and cause is not error:
        return _words(cause)
    if isinstance(error, ConnectionRefusedError):
        return "does not listen", "check host and port; it may be starting"
    if isinstance(error, OSError) and error.strerror:
        return f"can't be reached ({error.strerror})", passes
    return f"broke off ({type(error).__name__})", passes

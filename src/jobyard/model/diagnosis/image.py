"""Why an image can't be had: only the words of the container's runtime tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jobyard.model.cause import Cause, Diagnosis, maker
from jobyard.model.objects import ContainerStatus, Event, Pod
from jobyard.model.words import sentence

REASONS = (Cause.ERR_IMAGE_PULL, Cause.IMAGE_PULL_BACK_OFF, Cause.REGISTRY_UNAVAILABLE, Cause.IMAGE_INSPECT_ERROR)

DOCKER_HUB = "Docker Hub"
_AGAIN = re.compile(r'Back-off pulling image "[^"]*": ErrImagePull: ')
"""What Kubernetes sets before its reason once it waits longer: the reason is the same."""


def not_pulled(reason: str, pod: Pod, status: ContainerStatus, message: str, warnings: Sequence[Event]) -> Diagnosis:
    """An image that can't be pulled."""
    message = _AGAIN.sub("", message)
    image = image_of(pod, status, message)
    secrets = _missing_secrets(warnings)
    known, remedy = _told(image, message, secrets)
    if secrets and not known:
        known = f"{image} can't be pulled, and {secrets}"
        remedy = "Create the Secret, or correct imagePullSecrets; then check the image's name and tag."
    make = maker(pod=pod.metadata.name, container=status.name, detail=message)
    return make(reason, sentence(reason, known or f"{image} can't be pulled"), remedy)


def image_of(pod: Pod, status: ContainerStatus, message: str = "") -> str:
    """The image as its author wrote it, or as a message quotes it."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    written = next((each.image for each in containers if each.name == status.name and each.image), "")
    quoted = re.search(r'image "([^"]+)"', message)
    return written or (quoted[1] if quoted else f"the image of container {status.name}")


def _told(image: str, message: str, secrets: str) -> tuple[str, str]:
    """What the registry said, and what to do; '' where it is not known."""
    host = _host(image)
    status = re.search(r"\bstatus\b.*?: (\d{3})\b", message)
    code = status[1] if status else ""
    if "no match for platform" in message or "no matching manifest" in message:
        return f"{image} is not made for the kind of machine that its node is", "Build it for that platform too, or choose such a node."
    if code in ("401", "403") or re.search(
        r"authorization failed|unauthorized|access denied|authentication required", message, re.IGNORECASE
    ):
        if secrets:
            return f"{host} requires a login for {image}, and {secrets}", "Create the Secret with the login, or correct imagePullSecrets."
        return (
            f"{host} requires a login for {image}, or there is no such image",
            "Check its name; name a Secret with the login in imagePullSecrets, or renew the one that is there.",
        )
    if code == "429" or "toomanyrequests" in message.lower():
        return (
            f"{host} refuses for now: too many pulls (rate limit)",
            "Kubernetes keeps trying; log in (imagePullSecrets) or use a mirror to get in sooner.",
        )
    if re.search(r"\bnot found\b|manifest unknown|NotFound", message) and "no such host" not in message:
        return f"{_version(image)} does not exist", "Correct the image's name or tag, then run it again."
    if code.startswith("5"):
        return f"{host} is not working ({code})", "Kubernetes keeps trying. If that persists, ask whoever runs the registry."
    if "no such host" in message:
        ask = "sk whoever runs the cluster why its nodes can't find it."
        return f"the node can't find {host} (DNS)", f"A{ask}" if host == DOCKER_HUB else f"Correct the host in the image's name, or a{ask}"
    if re.search(r"connection refused|i/o timeout|no route to host|network is unreachable|deadline exceeded|TLS handshake", message):
        return (
            f"{host} can't be reached from its node",
            "Kubernetes keeps trying. Check the host in the image's name, and the node's network.",
        )
    if "x509" in message or "http: server gave HTTP response" in message:
        return f"its node does not trust {host}", "Ask whoever runs the cluster to give its nodes the registry's certificate."
    return "", "Check its name and tag, that the registry can be reached, and imagePullSecrets if it requires a login."


def _version(image: str) -> str:
    """The image in words: its version, of what."""
    name, at, digest = image.partition("@")
    if at:
        return f"version {digest[:19]} of {name}"
    path, colon, tag = image.rpartition(":")
    return f"version {tag} of {path}" if colon and "/" not in tag else f"{image} (version latest)"


def _host(image: str) -> str:
    """The registry, by Docker's rule: the first part, where it can be a host; else Docker Hub."""
    first, slash, _ = image.partition("/")
    return first if slash and (first == "localhost" or "." in first or ":" in first) else DOCKER_HUB


def _missing_secrets(warnings: Sequence[Event]) -> str:
    for event in warnings:
        if event.reason == "FailedToRetrieveImagePullSecret":
            named = re.search(r"\(([^)]+)\)", event.message or "")
            names = named[1].split(", ") if named else []
            if names:
                return (
                    f"its imagePullSecret {names[0]} does not exist"
                    if len(names) == 1
                    else f"its imagePullSecrets {', '.join(names)} do not exist"
                )
    return ""


def never_pulled(pod: Pod, status: ContainerStatus, message: str) -> Diagnosis:
    """imagePullPolicy Never, and the image is not there."""
    make = maker(pod=pod.metadata.name, container=status.name, detail=message)
    known = f"{image_of(pod, status, message)} is not on its node, and imagePullPolicy is Never"
    reason = Cause.ERR_IMAGE_NEVER_PULL
    return make(reason, sentence(reason, known), "Put the image on the node, or set imagePullPolicy to IfNotPresent.")


def misnamed(pod: Pod, status: ContainerStatus, message: str) -> Diagnosis:
    """A text that is no image's name."""
    make = maker(pod=pod.metadata.name, container=status.name, detail=message)
    reason = Cause.INVALID_IMAGE_NAME
    return make(reason, sentence(reason, f"{image_of(pod, status, message)} is not the name of an image"), "Correct the container's image.")

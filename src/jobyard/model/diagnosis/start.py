"""Why a container could not be started: the words of the container's runtime are read, and quoted last."""

from __future__ import annotations

import re

from jobyard.model.cause import Cause, Diagnosis, maker
from jobyard.model.diagnosis.image import image_of
from jobyard.model.objects import ContainerStatus, Pod
from jobyard.model.words import sentence


def not_started(pod: Pod, status: ContainerStatus, message: str, *, exit_code: int | None = None) -> Diagnosis:
    """The runtime made no process of the container."""
    known, remedy = _told(pod, status, message)
    make = maker(pod=pod.metadata.name, container=status.name, detail=message, exit_code=exit_code)
    return make(Cause.START_ERROR, sentence(Cause.START_ERROR, known), remedy)


def _told(pod: Pod, status: ContainerStatus, message: str) -> tuple[str, str]:
    image = image_of(pod, status)
    image = f"image {image}" if not image.startswith("the image") else image
    if program := re.search(r'exec: "([^"]+)": (.*)', message):
        name, why = program.groups()
        if "executable file not found" in why or "no such file or directory" in why:
            return f"{name} does not exist in {image}", "Correct command and args, or use an image that has the program."
        if "permission denied" in why or "is a directory" in why:
            return f"{name} is a folder, or not executable", "Correct command, or make the file executable (a volume's defaultMode: 0755)."
        if "exec format error" in why:
            return (
                f"{name} in {image} is not made for its node's kind of machine",
                "Build the image for that platform, or choose such a node.",
            )
        return f"{name} can't be run in container {status.name}", "Check its command and args."
    if mounted := re.search(r'to rootfs at "([^"]+)".*not a directory', message):
        return (
            f"a volume is to be mounted at {mounted[1]}, where {image} has a file",
            "Mount it at a folder, or mount the one file with subPath.",
        )
    if (folder := re.search(r'mkdir ([^:]+): not a directory|chdir to cwd \("([^"]+)"\)', message)) is not None:
        return f"its workingDir {folder[1] or folder[2]} is not a folder in {image}", "Correct workingDir."
    if profile := re.search(r'cannot load seccomp profile "[^"]*?([^"/]+)"', message):
        return f"the seccomp profile {profile[1]} is not on its node", "Put it there, or set seccompProfile.type to RuntimeDefault."
    if "no command specified" in message and "local cluster" in message:
        return (
            f"container {status.name} names no command, and the local cluster's processes have no image that would",
            "Say what to run in command; or start the local cluster with containers: `jobyard local start --runtime podman`",
        )
    if "no command specified" in message:
        return f"{image} has no command, and neither has its container", "Say what to run in command."
    return f"container {status.name} can't be started", "Check its command, args, workingDir and volumes."

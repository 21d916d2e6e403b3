"""Images that can't be had, programs that don't start, and programs that end badly."""

from __future__ import annotations

from typing import Any

from tests.broken.kind import Broken, Tree, broken, config_map, image, init, program, volume

_PULL = "ImagePullBackOff"


def images(registry: str) -> list[Broken]:
    """`registry`: the address of one that has no images to give."""

    def pull(name: str, says: str, remedy: str, repository: str, **more: Any) -> Broken:
        return image(name, _PULL, says, remedy, f"{registry}/{repository}", **more)

    wants_login = "{registry} requires a login for {registry}/"
    prepare = {"initContainers": [init("prepare", image=f"{registry}/none:1")]}
    return [
        image(
            "image-host",
            _PULL,
            "fetch the program: the node can't find registry.invalid (DNS).",
            "Correct the host in the image's name",
            "registry.invalid/none:1",
        ),
        pull(
            "image-tag",
            "fetch the program: version 2.8.1 of {registry}/none does not exist.",
            "Correct the image's name or tag",
            "none:2.8.1",
        ),
        pull("image-login", wants_login + "secret:1, or there is no such image.", "imagePullSecrets", "secret:1"),
        pull("image-forbidden", wants_login + "forbidden:1, or there is no such image.", "imagePullSecrets", "forbidden:1"),
        pull(
            "image-pull-secret",
            wants_login + "secret:1, and its imagePullSecret none does not exist.",
            "Create the Secret with the login",
            "secret:1",
            pod={"imagePullSecrets": [{"name": "none"}]},
        ),
        pull("image-rate", "{registry} refuses for now: too many pulls (rate limit).", "Kubernetes keeps trying", "busy:1"),
        pull("image-registry-down", "{registry} is not working (503).", "Kubernetes keeps trying", "down:1"),
        image("image-unreachable", _PULL, "127.0.0.1:1 can't be reached from its node.", "Kubernetes keeps trying", "127.0.0.1:1/none:1"),
        pull("image-platform", "other-machine:1 is not made for the kind of machine that its node is.", "that platform", "other-machine:1"),
        image("image-name", "InvalidImageName", "A:B:C is not the name of an image.", "Correct the container's image", "A:B:C"),
        image(
            "image-never",
            "ErrImageNeverPull",
            "none:1 is not on its node, and imagePullPolicy is Never.",
            "IfNotPresent",
            "none:1",
            container={"imagePullPolicy": "Never"},
        ),
        broken("image-of-init", _PULL, "version 1 of {registry}/none does not exist.", "Correct the image's name or tag", pod=prepare),
    ]


_START = "StartError"
_FILES = config_map("files", program="\x01\x02\x03", script="#!/no/such/interpreter\ntrue\n", plain="echo hello\n")


def _file(name: str, mode: int, reason: str, says: str, remedy: str) -> Broken:
    """Its command is a file of a volume."""
    source = {"configMap": {"name": "files", "defaultMode": mode}}
    return volume(f"program-{name}", reason, says, remedy, source=source, container={"command": [f"/v/{name}"]}, beside=(_FILES,))


STARTS = [
    program(
        "program-path",
        _START,
        "Could not start the program: /nosuch does not exist in image busybox.",
        "Correct command and args",
        "/nosuch",
    ),
    program("program-name", _START, "nosuch does not exist in image busybox.", "Correct command and args", "nosuch", "--help"),
    program("program-folder", _START, "/bin is a folder, or not executable.", "Correct command", "/bin"),
    _file("plain", 0o644, _START, "/v/plain is a folder, or not executable.", "defaultMode"),
    _file("program", 0o755, "ExitCode", "Container main exited with code 1.", "Its log tells more."),
    _file("script", 0o755, "ExitCode", "Container main exited with code 1.", "Its log tells more."),
    broken(
        "working-dir",
        _START,
        "its workingDir /etc/passwd is not a folder in image busybox.",
        "Correct workingDir",
        container={"workingDir": "/etc/passwd"},
    ),
    volume(
        "mount-over-file",
        _START,
        "a volume is to be mounted at /etc/passwd, where image busybox has a file.",
        "subPath",
        source={"emptyDir": {}},
        mount={"mountPath": "/etc/passwd"},
    ),
    broken(
        "post-start",
        "FailedPostStartHook",
        "Could not start the program: the postStart hook of container main failed",
        "lifecycle.postStart",
        "sleep 600",
        container={"lifecycle": {"postStart": {"exec": {"command": ["/nosuch"]}}}},
    ),
]


def _probe(name: str, kind: str, **more: Any) -> Broken:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1, **more}
    says = f"Did not answer its health check: its {kind} failed, so its node ended container main."
    return broken(name, "Unhealthy", says, kind, "sleep 600", container={kind: probe})


def _signal(number: int, name: str, remedy: str) -> Broken:
    says = f"Container main was ended by {name} (exit code {128 + number})."
    return broken(name.lower(), "Signal", says, remedy, f"sh -c 'kill -{number} $$$$'; exit $?", everywhere=True)


def _exits(name: str, code: int, script: str, says: str = "", remedy: str = "Its log tells more.", **more: Any) -> Broken:
    return broken(name, "ExitCode", f"failed. Container main exited with code {code}{says}.", remedy, script, **more)


ENDS = [
    _exits("exit-code", 9, "echo hello; exit 9", everywhere=True),
    _exits("message", 2, "echo 'no connection to db' > /dev/termination-log; exit 2", everywhere=True),
    _exits("shell-not-found", 127, "nosuch", ": a command was not found", "that the image has the program", everywhere=True),
    _exits("shell-not-executable", 126, "/etc/passwd", ": a command could not be run", "may be executed", everywhere=True),
    _exits("folder-of-script", 2, "cd /nosuch"),
    _signal(15, "SIGTERM", "Something asked it to stop"),
    _signal(11, "SIGSEGV", "The program crashed"),
    _signal(9, "SIGKILL", "its node ran out of memory"),
    broken(
        "oom",
        "OOMKilled",
        "failed. Ran out of memory: container main needed more than the 20Mi it may use.",
        "Raise resources.limits.memory",
        "x=$(head -c 64m /dev/zero | tr '\\0' x); echo ${#x}",
        container={"resources": {"limits": {"memory": "20Mi"}}},
    ),
    _probe("liveness", "livenessProbe", initialDelaySeconds=1),
    _probe("startup-probe", "startupProbe"),
    broken(
        "init-fails",
        "ExitCode",
        "failed. Container prepare exited with code 3.",
        "Its log tells more.",
        pod={"initContainers": [init("prepare", "sh", "-c", "exit 3")]},
        everywhere=True,
    ),
    broken(
        "init-never-ends",
        "WaitingForPod",
        "is not running. It waits for its init container wait-for-db, which is still running.",
        "",
        pod={"initContainers": [init("wait-for-db", "sleep", "600")]},
        everywhere=True,
    ),
    broken(
        "sidecar-fails",
        "ExitCode",
        "times: exit code 5; Kubernetes tries again soon.",
        "Its log tells more.",
        pod={
            "initContainers": [
                init(
                    "proxy",
                    *("sh", "-c", "exit 5"),
                    restartPolicy="Always",
                    startupProbe={"exec": {"command": ["false"]}, "failureThreshold": 100},
                )
            ]
        },
    ),
]


def _indexed(**spec: Any) -> Tree:
    return {"completionMode": "Indexed", "backoffLimit": None, **spec}


_POLICY = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}

TRIES = [
    broken(
        "tries-used",
        "ExitCode",
        "failed. Container main exited with code 4. It was tried 2 times.",
        "Its log tells more.",
        "exit 4",
        spec={"backoffLimit": 1},
        everywhere=True,
    ),
    broken(
        "between-tries",
        "ExitCode",
        "failed 2 of 7 times: exit code 4; Kubernetes tries again about ",
        "Its log tells more.",
        "exit 4",
        spec={"backoffLimit": None},
        everywhere=True,
    ),
    broken(
        "on-failure",
        "ExitCode",
        "of 6 times: exit code 4; Kubernetes tries again soon.",
        "Its log tells more.",
        "exit 4",
        pod={"restartPolicy": "OnFailure"},
        spec={"backoffLimit": 6},
        everywhere=True,
    ),
    broken(
        "failure-policy",
        "PodFailurePolicy",
        "failed. Failed in a way that is not tried again: its podFailurePolicy says so. Container main exited with code 42.",
        "Its log tells more.",
        "exit 42",
        spec={"backoffLimit": 6, "podFailurePolicy": _POLICY},
        everywhere=True,
    ),
    broken(
        "index-fails",
        "FailedIndexes",
        "failed. Some of its parts failed: index 1. Container main exited with code 1.",
        "Its log tells more.",
        "exit $JOB_COMPLETION_INDEX",
        spec=_indexed(completions=2, parallelism=2, backoffLimitPerIndex=0),
        everywhere=True,
    ),
    broken(
        "indexes-fail",
        "MaxFailedIndexesExceeded",
        "failed. More of its parts failed than is allowed: index ",
        "Its log tells more.",
        "exit 1",
        spec=_indexed(completions=3, parallelism=3, backoffLimitPerIndex=0, maxFailedIndexes=1),
        everywhere=True,
    ),
    broken(
        "index-tries",
        "ExitCode",
        "failed 2 of 4 times in part 1: exit code 1; Kubernetes tries again about ",
        "Its log tells more.",
        "exit $JOB_COMPLETION_INDEX",
        spec=_indexed(completions=2, parallelism=2, backoffLimitPerIndex=3),
        everywhere=True,
    ),
]

"""A real Kubernetes on this machine: etcd, the control plane, a kubelet with containerd and runc. `python -m tests.kubernetes.node up|down|...`

Each node has a folder and a slot of its own (ports, pod addresses), so one for a person's hands runs beside the tests'. All its processes
are recorded with their start times: whatever a killed test run left behind, the next start removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import yaml

from tests import processes
from tests.kubernetes import build
from tests.kubernetes.images import write_images
from tests.ports import free_port

CONTROLLERS = (
    "job-controller,cronjob-controller,serviceaccount-controller,serviceaccount-token-controller,garbage-collector-controller,namespace-controller,"
    "ttl-after-finished-controller,root-ca-certificate-publisher-controller,pod-garbage-collector-controller,resourcequota-controller"
)
READY_WITHIN = 120.0
SLOTS = 8
"""Nodes of one purpose beside each other."""


class Node:
    """A node in a folder. `slot` keeps the addresses of several apart."""

    def __init__(self, name: str, slot: int) -> None:
        self.folder = build.cache() / "nodes" / name
        self.slot = slot
        self.kubeconfig = self.folder / "kubeconfig"
        self._ready = self.folder / "ready"
        self._lock: IO[str] | None = None

    # --- up ---

    def up(self) -> None:
        """Starts the node and waits until it is ready. What a killed one left here is removed first."""
        if self._lock is None and not self.claim():
            raise RuntimeError(f"another process runs the node {self.folder.name}")
        self._start()

    def join(self) -> None:
        """Starts the node, if nobody else has, and waits until it is ready. For processes whose parent holds the folder: it ends the node."""
        with self.folder.with_suffix(".start").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._ready.exists():
                self._start()

    def _start(self) -> None:
        programs = build.node_programs()
        self._remove()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ports = {each: free_port() for each in ("etcd", "peer", "api", "controllers", "scheduler", "kubelet")}
        self._write_identity(ports)
        self._start_control_plane(programs, ports)
        self._start_runtime()
        _wait("the API server", lambda: self._get(f"{self._server()}/readyz"), self.folder / "kube-apiserver.log")
        self._start_workers(programs, ports)
        self._import_images()
        self._start_kubelet(programs, ports)
        _wait("the node", self._node_is_ready, self.folder / "kubelet.log")
        _wait(
            "the default service account",
            lambda: self.kubectl("get", "serviceaccount", "default", "-n", "default").returncode == 0,
            self.folder,
        )
        self._ready.touch()

    @classmethod
    def of(cls, purpose: str, slot: int) -> Node:
        """The node of this purpose in this slot."""
        return cls(f"{purpose}-{slot}", slot)

    @classmethod
    def free(cls, purpose: str, first_slot: int) -> Node:
        """A node that nobody runs, for runs beside each other; the lowest, so that what a killed run left is removed by the next."""
        for slot in range(first_slot, first_slot + SLOTS):
            node = cls.of(purpose, slot)
            if node.claim():
                return node
        raise RuntimeError(f"{SLOTS} nodes for {purpose} run already")

    @classmethod
    def clear_all(cls, purpose: str, first_slot: int) -> None:
        """Removes what killed processes left of nodes for this purpose."""
        for slot in range(first_slot, first_slot + SLOTS):
            node = cls.of(purpose, slot)
            if node.folder.exists() and node.claim():
                node.down()

    def claim(self) -> bool:
        """Holds the folder's lock as long as this process lives, so that nobody else takes the node for left behind. False when another does."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = self.folder.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _write_identity(self, ports: dict[str, int]) -> None:
        key = self.folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        host = socket.gethostname()
        _resolvable(host)
        tokens = {
            "admin": ("admin", "system:masters"),
            "controllers": ("system:kube-controller-manager", ""),
            "scheduler": ("system:kube-scheduler", ""),
            "kubelet": (f"system:node:{host.lower()}", "system:nodes"),
        }
        lines = []
        for name, (user, group) in tokens.items():
            token = secrets.token_hex(16)
            lines.append(f'{token},{user},{user},"{group}"' if group else f"{token},{user},{user}")
            self._write_kubeconfig("kubeconfig" if name == "admin" else f"{name}.kubeconfig", ports["api"], token)
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")

    def _write_kubeconfig(self, name: str, port: int, token: str) -> None:
        ca = str(self.folder / "certificates/apiserver.crt")
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "node", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": ca}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "node", "context": {"cluster": "node", "user": "user"}}],
            "current-context": "node",
        }
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(tree))

    def _start_control_plane(self, programs: Path, ports: dict[str, int]) -> None:
        etcd = f"http://127.0.0.1:{ports['etcd']}"
        peer = f"http://127.0.0.1:{ports['peer']}"
        self._spawn(
            programs / "etcd",
            f"--data-dir={self.folder}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )
        key = self.folder / "service-account.key"
        self._arguments = [
            f"--etcd-servers={etcd}",
            f"--secure-port={ports['api']}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder}/certificates",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            f"--service-cluster-ip-range=10.{96 + self.slot}.0.0/16",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--kubelet-preferred-address-types=Hostname",
            "--disable-admission-plugins=TaintNodesByCondition",
            "--shutdown-delay-duration=0s",
            "--etcd-compaction-interval=0",
        ]
        self.start_api_server()

    def start_api_server(self) -> None:
        """Starts the API server (again)."""
        self._spawn(build.node_programs() / "kube-apiserver", *self._arguments)

    def stop_api_server(self, number: int = signal.SIGKILL) -> None:
        """Ends the API server, as a crash would."""
        for entry in self._processes():
            if entry["name"] == "kube-apiserver" and _is_alive(entry):
                os.kill(entry["pid"], number)
                _await_end(entry)

    def _start_workers(self, programs: Path, ports: dict[str, int]) -> None:
        quick = ["--kube-api-qps=200", "--kube-api-burst=400", "--leader-elect=false", "--bind-address=127.0.0.1"]
        self._spawn(
            programs / "kube-controller-manager",
            f"--kubeconfig={self.folder}/controllers.kubeconfig",
            f"--controllers={CONTROLLERS}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.folder}/service-account.key",
            f"--root-ca-file={self.folder}/certificates/apiserver.crt",
            f"--secure-port={ports['controllers']}",
            *quick,
        )
        self._spawn(
            programs / "kube-scheduler", f"--kubeconfig={self.folder}/scheduler.kubeconfig", f"--secure-port={ports['scheduler']}", *quick
        )

    def _start_runtime(self) -> None:
        folder = self.folder
        (folder / "cni").mkdir()
        network = {
            "cniVersion": "0.4.0",
            "name": f"jobyard{self.slot}",
            "plugins": [
                {
                    "type": "ptp",
                    "ipam": {
                        "type": "host-local",
                        "dataDir": f"{folder}/addresses",
                        "ranges": [[{"subnet": f"10.{80 + self.slot}.0.0/16"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
        (folder / "cni/10-jobyard.conflist").write_text(json.dumps(network))
        (folder / "containerd.toml").write_text(f"""version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:latest"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
""")
        # Mounts of its own: bubblewrap copies every mount that it sees, for each container of the local cluster, and a node has hundreds.
        self._spawn(
            Path(shutil.which("containerd") or "containerd"),
            f"--config={folder}/containerd.toml",
            within=("unshare", "--mount", "--propagation=private"),
        )

    def _import_images(self) -> None:
        _wait("containerd", lambda: self._ctr("version").returncode == 0, self.folder / "containerd.log")
        archive = self.folder / "images.tar"
        write_images(archive)
        done = self._ctr("images", "import", str(archive))
        if done.returncode:
            raise RuntimeError(f"the images could not be imported: {done.stderr.decode()}")

    def _ctr(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["ctr", f"--address={self.folder}/containerd.sock", "--namespace=k8s.io", *args], capture_output=True, timeout=60, check=False
        )

    def _start_kubelet(self, programs: Path, ports: dict[str, int]) -> None:
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": ports["kubelet"],
            "healthzPort": 0,
            "readOnlyPort": 0,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self.folder}/containerd.sock",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "cgroupRoot": "/",
            "failSwapOn": False,
            "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "50Mi"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "resolvConf": "",
            "serializeImagePulls": False,
            "maxPods": 200,
            "podLogsDir": f"{self.folder}/pod-logs",
            "volumePluginDir": f"{self.folder}/volume-plugins",
            "syncFrequency": "1s",
            "nodeStatusUpdateFrequency": "5s",
        }
        (self.folder / "kubelet.yaml").write_text(yaml.safe_dump(config))
        self._spawn(
            programs / "kubelet",
            f"--config={self.folder}/kubelet.yaml",
            f"--kubeconfig={self.folder}/kubelet.kubeconfig",
            f"--root-dir={self.folder}/kubelet",
            f"--cert-dir={self.folder}/kubelet-certificates",
            within=("nsenter", f"--mount=/proc/{self._pid('containerd')}/ns/mnt"),
        )

    def _node_is_ready(self) -> bool:
        done = self.kubectl("get", "nodes", "-o", "json")
        nodes = json.loads(done.stdout)["items"] if done.returncode == 0 else []
        for node in nodes:
            if node["spec"].get("taints"):
                # Nobody runs the node lifecycle controller, which would take them away.
                self.kubectl("taint", "nodes", node["metadata"]["name"], *(f"{taint['key']}-" for taint in node["spec"]["taints"]))
        return any(each["type"] == "Ready" and each["status"] == "True" for node in nodes for each in node["status"]["conditions"])

    def kubectl(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        """kubectl of the node's own version, as its admin."""
        command = [str(build.node_programs() / "kubectl"), f"--kubeconfig={self.kubeconfig}", *args]
        return subprocess.run(command, capture_output=True, timeout=60, check=False)

    def compact(self) -> None:
        """Compacts etcd up to now: every older version is gone, and a watch from there is told 410."""
        url = next(argument.split("=", 1)[1] for argument in self._arguments if argument.startswith("--etcd-servers="))

        def call(path: str, body: dict[str, Any]) -> dict[str, Any]:
            request = urllib.request.Request(
                f"{url}/v3/kv/{path}", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                result: dict[str, Any] = json.loads(answer.read())
                return result

        revision = call("range", {"key": "AA=="})["header"]["revision"]
        call("compaction", {"revision": revision, "physical": True})

    def _server(self) -> str:
        tree = yaml.safe_load(self.kubeconfig.read_text())
        return str(tree["clusters"][0]["cluster"]["server"])

    def _get(self, url: str) -> bool:
        import ssl

        certificate = self.folder / "certificates/apiserver.crt"
        if not certificate.exists():
            return False
        token = yaml.safe_load(self.kubeconfig.read_text())["users"][0]["user"]["token"]
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=5, context=ssl.create_default_context(cafile=str(certificate))) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    def wait_for_api_server(self) -> None:
        """Returns when the API server answers."""
        _wait("the API server", lambda: self._get(f"{self._server()}/readyz"), self.folder / "kube-apiserver.log")

    # --- processes ---

    def _spawn(self, program: Path, *args: str, within: tuple[str, ...] = ()) -> None:
        """Starts a program and records it. `within`: what it is started by, and takes the place of."""
        log = (self.folder / f"{program.name}.log").open("ab")
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
        # A seventh of the API server's time went into collecting garbage, on a machine with gigabytes to spare.
        env = {"PATH": path, "HOME": str(self.folder), "TMPDIR": "/tmp", "GOGC": "400"}
        process = subprocess.Popen(
            [*within, str(program), *args],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=self.folder,
            env=env,
        )
        log.close()
        process.returncode = 0  # it is found again by what is recorded
        entry = {"name": program.name, "pid": process.pid, "started": processes.started(process.pid)}
        with (self.folder / "processes.jsonl").open("a") as record:
            record.write(json.dumps(entry) + "\n")

    def _processes(self) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in (self.folder / "processes.jsonl").read_text().splitlines()]
        except OSError:
            return []

    def _pid(self, name: str) -> int:
        return next(int(entry["pid"]) for entry in reversed(self._processes()) if entry["name"] == name)

    def is_up(self) -> bool:
        """Whether the node's processes run."""
        entries = self._processes()
        return bool(entries) and any(entry["name"] == "kubelet" and _is_alive(entry) for entry in entries)

    # --- down ---

    def down(self) -> None:
        """Stops the node and removes all that was its."""
        self._remove()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def clear(self) -> None:
        """Removes what a killed process left here; the folder stays ours."""
        self._remove()

    def _remove(self) -> None:
        # First what would start anew what is taken away below.
        for entry in self._processes():
            if _is_alive(entry):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(entry["pid"], signal.SIGKILL)
                _await_end(entry)
        for pid in processes.with_words("containerd-shim", f"{self.folder}/containerd.sock"):
            for each in [*processes.descendants(pid), pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        for _ in range(3):
            for mount in sorted(_mounts(self.folder), key=len, reverse=True):
                subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _resolvable(host: str) -> None:
    """The API server reaches the kubelet by the machine's name."""
    try:
        if socket.gethostbyname(host).startswith("127."):
            return
    except OSError:
        pass
    with Path("/etc/hosts").open("a") as hosts:
        hosts.write(f"127.0.0.1 {host}\n")


def _is_alive(entry: dict[str, Any]) -> bool:
    told = processes.fields(entry["pid"])
    return bool(told) and told[19] == entry["started"] and told[0] != "Z"


def _await_end(entry: dict[str, Any]) -> None:
    deadline = time.monotonic() + 20
    while _is_alive(entry) and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(entry["pid"], os.WNOHANG)
        time.sleep(0.02)


def _mounts(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [path for line in lines if (path := line.split()[4]).startswith(f"{folder}/")]


def _wait(what: str, ready: Callable[[], bool], log: Path) -> None:
    """Asks until it is so. These programs have no better way to say that they are ready."""
    deadline = time.monotonic() + READY_WITHIN
    while not ready():
        if time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:] if log.is_file() else ""
            raise RuntimeError(f"{what} is not ready after {READY_WITHIN:.0f} s; the end of {log}:\n{tail}")
        time.sleep(0.05)


def main() -> None:
    """`scripts/kubernetes up | down | status | kubeconfig`."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    node = Node("hands", slot=0)
    if verb in ("up", "down") and (why := build.why_not()):
        sys.exit(f"kubernetes: {why}")
    match verb:
        case "up" if node.is_up():
            print(f"It is up already.\nexport KUBECONFIG={node.kubeconfig}")
        case "up":
            build.node_programs()
            begun = time.monotonic()
            node.up()
            print(
                f"Kubernetes {build.VERSION} is up after {time.monotonic() - begun:.1f} s, with the image busybox.\nexport KUBECONFIG={node.kubeconfig}"
            )
        case "down":
            node.down()
            print("It is down, and nothing of it is left.")
        case "status":
            print("It is up." if node.is_up() else "It is down.")
            sys.exit(0 if node.is_up() else 1)
        case "kubeconfig":
            print(node.kubeconfig)
        case _:
            sys.exit("usage: scripts/kubernetes up | down | status | kubeconfig")


if __name__ == "__main__":
    main()

"""The local cluster as a process of its own: `python -m jobyard.local.daemon FOLDER READY_FD RUNTIME`, and how to start, find and stop it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jobyard.local.private import UMASK, FolderNotPrivate, make_private, open_private
from jobyard.local.runtime import NAMES, Name
from jobyard.model.errors import JobyardError

_SOURCE = str(Path(__file__).parents[2])
"""Where this package was loaded from: the daemon shall be of the same one."""

START_TIMEOUT, STOP_TIMEOUT = 30.0, 45.0


class LocalClusterFailed(JobyardError):
    """The local cluster's process did not do what it was asked."""

    sentence = "the local cluster {what}; its log is {log}"
    exit_code = 3
    what: str
    log: Path | str


def data_folder() -> Path:
    """Where the local cluster keeps its state: JOBYARD_DATA, else the user's data folder."""
    if os.environ.get("JOBYARD_DATA"):
        return Path(os.environ["JOBYARD_DATA"]) / "local"
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "jobyard" / "local"


def running_pid(folder: Path) -> int | None:
    """The process of the local cluster in `folder`; None when none runs. Its lock tells: a killed process holds none."""
    try:
        with (folder / "lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read().strip() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def serves(folder: Path, server: str) -> bool:
    """Whether it is the local cluster in `folder` that has this address."""
    try:
        token = (folder / "token").read_text().strip()
    except OSError:
        return False
    return bool(token) and server.endswith(f"/{token}")


def runtime_of(folder: Path) -> Name:
    """What runs the containers of the local cluster in `folder`, or did when it last ran."""
    try:
        known = (folder / "runtime").read_text()
    except OSError:
        known = ""
    return next((name for name in NAMES if name == known), "process")


def start(folder: Path, runtime: Name = "process") -> int:
    """Starts a local cluster that stays, and returns its process once it is ready. Raises LocalClusterFailed, FolderNotPrivate."""
    log = folder / "log"
    make_private(folder)
    try:
        output = open(log, "ab", opener=open_private)  # noqa: SIM115 - closed when the daemon has it
    except OSError as error:
        raise FolderNotPrivate(folder=folder, why=error.strerror or str(error)) from None
    ready_read, ready_write = os.pipe()
    with output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobyard.local.daemon", str(folder), str(ready_write), runtime],
            pass_fds=[ready_write],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join([_SOURCE, *filter(None, [os.environ.get("PYTHONPATH")])])},
        )
    os.close(ready_write)
    try:
        ready, _, _ = select.select([ready_read], [], [], START_TIMEOUT)
        said = os.read(ready_read, 4096).decode(errors="replace") if ready else ""
        if said != "1":
            process.kill()
            process.wait()
            why = f" in {START_TIMEOUT:.0f} s" if not ready else f": {said}" if said else ""
            raise LocalClusterFailed(what=f"did not start{why}", log=log)
    finally:
        os.close(ready_read)
    process.returncode = 0  # it stays, and is nobody's child
    return process.pid


def stop(folder: Path) -> bool:
    """Stops the local cluster, and with it its Jobs; its state stays. False when none ran. Raises LocalClusterFailed."""
    pid = running_pid(folder)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    ended = threading.Event()

    def wait() -> None:
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    if not ended.wait(STOP_TIMEOUT):
        os.kill(pid, signal.SIGKILL)
        if not ended.wait(5):
            raise LocalClusterFailed(what=f"(process {pid}) does not end", log=folder / "log")
    return True


def reset(folder: Path) -> None:
    """Stops the local cluster and forgets all it knew."""
    stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def in_this_process(runtime: Name = "process") -> Iterator[Path]:
    """A local cluster in a thread of this process, for as long as the context lasts; yields its kubeconfig."""
    # Imported here: who uses a running cluster need not load one.
    from jobyard.local.cluster import open_local_cluster

    started = threading.Event()
    found: list[Path] = []
    failed: list[BaseException] = []
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve(folder: Path) -> None:
        async with open_local_cluster(folder, keep=False, runtime=runtime) as cluster:
            found.append(cluster.kubeconfig)
            started.set()
            await end.wait()

    def thread(folder: Path) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve(folder))
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the start
            failed.append(error)
        finally:
            started.set()

    with TemporaryDirectory(prefix="jobyard-local-") as folder:
        worker = threading.Thread(target=thread, args=[Path(folder)], name="local cluster")
        worker.start()
        started.wait()
        try:
            if failed and isinstance(failed[0], JobyardError):
                raise failed[0]
            if failed:
                raise LocalClusterFailed(what=f"did not start ({failed[0]})", log="above")
            yield found[0]
        finally:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end.set)
            worker.join()


async def _serve(folder: Path, ready: int, runtime: Name, umask: int) -> None:
    from jobyard.local.cluster import open_local_cluster

    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    async with open_local_cluster(folder, keep=True, runtime=runtime, umask=umask):
        os.write(ready, b"1")
        os.close(ready)
        await end.wait()


def main() -> None:
    folder, ready = Path(sys.argv[1]), int(sys.argv[2])
    runtime = next(name for name in NAMES if name == sys.argv[3])
    umask = os.umask(UMASK)
    lock = (folder / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another local cluster runs here already")
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    (folder / "runtime").write_text(runtime)
    try:
        asyncio.run(_serve(folder, ready, runtime, umask))
    except JobyardError as error:
        os.write(ready, str(error).encode())


if __name__ == "__main__":
    main()

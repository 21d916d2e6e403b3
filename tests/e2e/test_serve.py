"""`jobyard serve`, as an operator runs it: started, watched, reloaded, killed."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Jobyard
from tests.git.remotes import Person, git, tree
from tests.manifests import job
from tests.ports import free_port
from tests.replicas import Replica, git_trigger, leads, runs, settings, stage

pytestmark = pytest.mark.timeout(180)
Start = Callable[..., Replica]
BOUND = 60.0


@pytest.fixture
def start(credentials: Path, space: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a replica; each has a folder of its own, as pods have."""
    started: list[Replica] = []

    def begin(*triggers: dict[str, Any], name: str = "", folder: Path | None = None, cluster: tuple[str, ...] = (), **spec: Any) -> Replica:
        home = folder or tmp_path / (name or f"replica-{len(started)}")
        home.mkdir(exist_ok=True)
        words = [*(cluster or ("--kubeconfig", str(credentials))), "-n", space]
        started.append(Replica(home, words, list(triggers), os.environ, **spec))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.said.end()


def repository(folder: Path, name: str) -> tuple[Path, Person]:
    """A remote, and somebody who pushes to it."""
    git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", f"{name}.git")
    return folder / f"{name}.git", Person(folder / f"{name}.git", folder / f"{name}-person")


def queue(person: Person, name: str, script: str = "true") -> str:
    """Queues a Job; the commit."""
    person.pull() if git(person.folder, "ls-remote", "origin", "main") else None
    person.write(f"queued/{name}.yaml", yaml.safe_dump(job(name, script)))
    return person.push()


def until(holds: Callable[[], object], what: str, bound: float = BOUND) -> float:
    """Returns once it holds; the seconds that this took. Asked for again and again: what is asked is another process."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < bound, f"not in {bound:.0f} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun


def until_moved(remote: Path, name: str, place: str = "succeeded") -> None:
    until(lambda: tree(remote).get(f"{name}.yaml") == place, f"{name}.yaml in {place}")


def test_a_leader_that_is_killed_is_followed_and_one_that_is_told_to_stop_hands_over(start: Start, tmp_path: Path) -> None:
    remote, person = repository(tmp_path, "ops")
    queue(person, "first")
    trigger = git_trigger("ops", remote, poll="10m", webhookSecret={"env": "HOOK"})
    one = start(trigger)
    one.until(leads)
    two = start(trigger)
    two.until(lambda told: told["ready"] and stage(told, "ops") == "standing by" and told.get("lease", "").startswith("held by "))
    until_moved(remote, "first")

    # A webhook that a standby hears reaches the leader by the board: the poll would come in ten minutes.
    assert two.push("ops", queue(person, "second")) == (200, "OK")
    until_moved(remote, "second")

    one.process.kill()
    taken = until(lambda: leads(two.ready()), "the takeover", 15)
    assert one.process.wait() == -signal.SIGKILL
    queue(person, "third")
    assert two.push("ops", "") == (200, "OK")
    until_moved(remote, "third")

    heir = start(trigger)
    heir.until(lambda told: stage(told, "ops") == "standing by")
    two.process.send_signal(signal.SIGTERM)
    # Two seconds are promised, of which the election takes one at most (tests/unit/test_lease.py); the rest is for a machine that is busy with others.
    handed = until(lambda: leads(heir.ready()), "the hand-over", 5)
    assert two.process.wait(timeout=10) == 0
    print(f"takeover {taken:.1f} s, hand-over {handed:.1f} s")
    assert any("told to stop" in line["event"] for line in two.lines)

    heir.process.send_signal(signal.SIGSTOP)  # so that the second signal surely finds it stopping
    for _ in range(2):
        heir.process.send_signal(signal.SIGINT)
        heir.process.send_signal(signal.SIGTERM)
    heir.process.send_signal(signal.SIGCONT)
    assert heir.process.wait(timeout=5) in (0, 130)


def test_a_reload_restarts_what_changed_and_mistakes_change_nothing(start: Start, tmp_path: Path) -> None:
    """As a mounted ConfigMap does it: the file is a link, by way of another, which is swapped."""
    (ops, ops_person), (etl, etl_person) = repository(tmp_path, "ops"), repository(tmp_path, "etl")
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "jobyard.yaml").symlink_to("..data/jobyard.yaml")
    port = free_port()

    def put(version: str, *what: dict[str, Any], text: str = "") -> None:
        (tmp_path / version / "jobyard.yaml").write_text(text or settings(*what, port=port, replicas=1))
        (mounted / "..new").symlink_to(tmp_path / version)
        (mounted / "..new").replace(mounted / "..data")

    queue(ops_person, "one")
    queue(etl_person, "one")
    put("a", git_trigger("ops", ops), git_trigger("etl", etl))
    served = start(folder=mounted, port=port)
    served.until(lambda told: runs("ops")(told) and runs("etl")(told))
    before = served.ready()["triggers"]

    put("b", git_trigger("ops", ops, folder="elsewhere"), git_trigger("etl", etl))
    served.said.until("started again: ops")
    after = served.until(lambda told: runs("ops")(told) and told["triggers"]["ops"]["since"] >= before["ops"]["since"])["triggers"]
    assert after["etl"] == before["etl"], "the other did not notice"

    put("c", text="apiVersion: jobyard.dev/v1\nkind: Service\nspec:\n  trigers: []\n")
    wrong = served.until(lambda told: "settings" in told)
    assert 'jobyard.yaml:4:3: unknown key "trigers"' in wrong["settings"]
    assert wrong["ready"] is True
    assert wrong["triggers"].keys() == after.keys()
    assert served.metric("jobyard_settings_wrong") == 1
    served.said.until("nothing was changed")

    (tmp_path / "c" / "jobyard.yaml").write_text(settings(git_trigger("etl", etl), port=port, replicas=1))
    served.process.send_signal(signal.SIGHUP)
    told = served.until(lambda told: "settings" not in told and "ops" not in told["triggers"])
    assert told["triggers"]["etl"] == before["etl"]
    served.said.until("trigger ops is served no more")
    queue(etl_person, "still")
    until_moved(etl, "still")
    assert served.metric("jobyard_settings_wrong") == 0
    assert all(line["level"] != "error" or "mistakes" in line["event"] or "trigers" in line["event"] for line in served.lines)


def test_a_pause_outlives_the_process_and_is_told_with_who_and_when(start: Start, jobyard: Jobyard, tmp_path: Path) -> None:
    remote, person = repository(tmp_path, "ops")
    trigger = git_trigger("ops", remote)
    one = start(trigger, replicas=1)
    one.until(runs("ops"))
    until(lambda: jobyard("triggers", "list").code == 0, "the board")
    assert jobyard("triggers", "pause", "obs").code == 2
    assert jobyard("triggers", "pause", "ops").code == 0
    paused = one.until(lambda told: stage(told, "ops") == "paused")
    assert "paused by " in paused["triggers"]["ops"]["why"]
    assert one.metric('jobyard_trigger_paused{trigger="ops",why="person"}') == 1
    one.process.kill()
    queue(person, "waits")

    two = start(trigger, replicas=1)
    two.until(lambda told: leads(told) and stage(told, "ops") == "paused" and "why" in told["triggers"]["ops"])
    (told,) = jobyard("triggers", "list", "-o", "json").lines
    assert told["paused"]["by"] in paused["triggers"]["ops"]["why"]
    assert told["paused"]["at"]
    assert tree(remote) == {"waits.yaml": "queued"}
    assert jobyard("triggers", "resume", "ops").code == 0
    until_moved(remote, "waits")
    (moved,) = [line for line in two.lines if "queued" in line["event"] and "processing" in line["event"]]
    assert moved["trigger"] == "ops"
    (ended,) = [line for line in two.lines if "has ended: succeeded" in line["event"]]
    assert ended["trigger"] == "ops"
    assert ended["run"] in ended["event"]


def test_a_remote_that_is_down_is_told_everywhere_without_its_password(start: Start, jobyard: Jobyard, tmp_path: Path) -> None:
    remote, person = repository(tmp_path, "ops")
    queue(person, "goes-on")
    hidden = tmp_path / "hidden"
    password = "pa55-word-of-the-remote"
    one = start(
        git_trigger("down", f"https://somebody:{password}@127.0.0.1:1/jobs.git"),
        git_trigger("ops", remote),
        git_trigger("gone", hidden),
        replicas=1,
    )
    told = one.until(lambda told: all(told.get("triggers", {}).get(name, {}).get("failures", 0) > 1 for name in ("down", "gone")))
    assert told["ready"] is True
    assert stage(told, "down") in ("backing off", "running")
    until_moved(remote, "goes-on")
    assert one.ask("/healthz")[:2] == (200, "ok\n")
    assert one.metric('jobyard_trigger_restarts_total{trigger="down"}') > 1
    until(lambda: "down" in jobyard("triggers", "list").out, "the board")
    shown = jobyard("triggers", "list", "-o", "json").out + jobyard("triggers", "list").out

    remote.rename(hidden)  # what was down is there, and what was there is down
    one.until(lambda told: runs("gone")(told) and stage(told, "ops") == "backing off")
    hidden.rename(remote)

    status, body, headers = one.ask("/nowhere", X_Request_Id="abc-1")
    assert (status, headers["content-type"], headers["x-request-id"]) == (404, "application/problem+json", "abc-1")
    assert '"request":"abc-1"' in body
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(timeout=10) == 0
    assert one.lines, "each line is JSON"
    assert password not in one.said.text + str(told) + shown + body


def test_what_no_waiting_mends_ends_it_with_code_2(start: Start, credentials: Path, tmp_path: Path) -> None:
    unknown = start(cluster=("--kubeconfig", str(credentials), "--context", "nobody"))
    wrong = start(git_trigger("a", "one"), git_trigger("a", "two"))
    assert unknown.process.wait(timeout=BOUND) == 2
    assert wrong.process.wait(timeout=BOUND) == 2
    wrong.said.until('a second trigger named "a"')


def test_a_cluster_that_is_away_or_never_answers_is_told_and_left_at_once(start: Start, credentials: Path, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for name, port in (("away", 1), ("silent", silent.getsockname()[1])):
            config = yaml.safe_load(credentials.read_text())
            for each in config["clusters"]:
                each["cluster"] = {"server": f"http://127.0.0.1:{port}"}
            (tmp_path / name).write_text(yaml.safe_dump(config))
            one = start(git_trigger("ops", tmp_path), cluster=("--kubeconfig", str(tmp_path / name)))
            told = one.until(lambda told: "namespaces" in told)
            assert told["ready"] is False
            assert one.ask("/healthz")[0] == 200
            assert one.ask("/readyz")[0] == 503
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(timeout=10) == 0

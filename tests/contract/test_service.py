"""A service as a library: what its board says is heeded, whoever wrote it; what breaks ends no more than itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.rights import needed
from jobyard.contracts import Engine
from jobyard.model import names
from jobyard.model.errors import InvalidKubeconfig, NoAnswer
from jobyard.model.objects import CONFIG_MAPS, LEASES
from jobyard.model.run import RunRequest
from jobyard.service import election
from jobyard.service.board import Board, Notes, NotOurBoard, board_name, find_board
from jobyard.service.service import Service
from jobyard.supervise import Budget
from jobyard.web.app import ready
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.faults.proxy import open_proxy
from tests.flows import read
from tests.manifests import step, workflow
from tests.restricted import restricted_kubeconfig
from tests.toy.service import Toys, asked, holds, service, trigger
from tests.waiting import BOUND, until

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _tells_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobyard.service.service.TELL_EVERY", 0.1)


def state(found: Service, name: str) -> str:
    return str(found.served[name].report.health.stage) if name in found.served else ""


async def said(cluster: HttpCluster, namespace: str, what: Callable[[Notes], object]) -> Notes:
    """What the board says, once it is as wanted."""
    async with asyncio.timeout(BOUND):
        async for notes in Board(cluster, namespace, "jobyard").watch():
            if what(notes):
                return notes
    raise AssertionError


async def test_a_paused_trigger_is_not_started_for_a_moment_by_who_comes_later(
    cluster: HttpCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys, may_look = Toys(), asyncio.Event()
    looks = Board.watch

    async def late(board: Board) -> AsyncIterator[Notes]:
        await may_look.wait()
        async for notes in looks(board):
            yield notes

    await Board(cluster, namespace, "jobyard").pause("a", "somebody", NOW)
    with monkeypatch.context() as patched:
        patched.setattr(Board, "watch", late)
        async with AsyncExitStack() as stack:
            found = await stack.enter_async_context(service(cluster, namespace, asked(trigger("a"), trigger("b")), toys))
            await holds(lambda: found.leads and state(found, "a") == state(found, "b") == "paused")
            stays = stack.pop_all()
    async with stays:
        may_look.set()
        await holds(lambda: toys["b"].starts)
        notes = await said(cluster, namespace, lambda notes: notes.standings.keys() == {"a", "b"} and notes.standings["a"].error)
        assert (notes.standings["a"].state, notes.standings["a"].error) == ("paused", "paused by somebody")
        assert notes.pauses["a"].at == NOW
        assert toys["a"].starts == 0
        await Board(cluster, namespace, "jobyard").resume("a")
        await holds(lambda: toys["a"].starts == 1)
        assert ready(found)["triggers"]["a"]["state"] == "running"


async def test_new_settings_are_taken_before_the_cluster_was_seen(under_test: ClusterUnderTest, namespace: str) -> None:
    connection, toys = connect(kubeconfig=str(under_test.kubeconfig)), Toys()
    async with open_proxy(connection) as proxy:
        proxy.down = True
        async with (
            open_cluster(replace(connection, server=proxy.url)) as through,
            service(through, namespace, asked(trigger("a")), toys) as found,
        ):
            await holds(lambda: "a" in found.served)
            assert ready(found)["ready"] is False
            found.apply(asked(trigger("a", poll=1), trigger("b")))
            await asyncio.sleep(0)
            proxy.down = False
            await holds(lambda: toys["a"].starts == toys["b"].starts == 1)
            assert ready(found)["ready"] is True


async def test_a_trigger_with_new_settings_waits_for_the_end_of_the_one_before(cluster: HttpCluster, namespace: str) -> None:
    toys = Toys()
    lingers = toys["a"].lingers = asyncio.Event()
    async with service(cluster, namespace, asked(trigger("a"), trigger("b")), toys) as found:
        await holds(lambda: toys["a"].starts == toys["b"].starts == 1)
        other = found.served["b"]
        assert found.apply(asked(trigger("a", poll=1), trigger("b"))) == ["a"]
        assert found.apply(asked(trigger("a", poll=2), trigger("b"))) == ["a"]
        await holds(lambda: "a" in found.served)
        for _ in range(20):  # turns in which a third could begin
            await asyncio.sleep(0)
        lingers.set()
        await holds(lambda: toys["a"].starts == 2)
        assert toys["a"].most == 1
        assert found.served["b"] is other
        assert toys["b"].starts == 1


async def test_a_board_that_is_deleted_or_spoilt_is_written_again(cluster: HttpCluster, namespace: str) -> None:
    toys = Toys()
    async with service(cluster, namespace, asked(trigger("a")), toys) as found:
        await said(cluster, namespace, lambda notes: "a" in notes.standings)
        await cluster.delete(CONFIG_MAPS, namespace, board_name("jobyard"))
        await said(cluster, namespace, lambda notes: "a" in notes.standings)
        naive = "2026-01-01T00:00:00"
        spoilt = {
            "stands.a": json.dumps({"state": "dancing", "since": naive, "said": naive}),
            "stands.other": json.dumps({"state": "running", "since": f"{naive}Z", "said": f"{naive}Z", "error": "x" * 999}),
            "paused.a": "[" * 3000,
            "paused.other": json.dumps({"by": "somebody", "at": f"{naive}Z"}),
            "paused.gone": json.dumps({"by": "somebody", "at": f"{naive}Z"}),
            "poked.a": json.dumps({"at": naive}),
            "poked.b": json.dumps({"at": f"{naive}Z"}),
            "stands.": "{}",
            "odd": "\u0000" * 10,
        }
        await cluster.patch(CONFIG_MAPS, namespace, board_name("jobyard"), {"data": spoilt})
        notes = await said(cluster, namespace, lambda notes: notes.standings.keys() == {"a"} and notes.standings["a"].state == "running")
        assert notes.pauses.keys() == {"gone", "other"}, "a person's pause is a person's to take away"
        assert (toys["a"].starts, state(found, "a")) == (1, "running")


async def test_a_config_map_of_somebody_else_is_no_board(cluster: HttpCluster, namespace: str) -> None:
    name, toys = board_name("jobyard"), Toys()
    theirs = {"paused.a": json.dumps({"by": "x", "at": "2026-01-01T00:00:00Z"})}
    await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": name}, "data": theirs})
    forged = {names.MANAGED_BY: names.JOBYARD, names.ROLE: "triggers"}
    await cluster.create(CONFIG_MAPS, namespace, {"metadata": {"name": "forged", "labels": forged}, "data": theirs})
    async with service(cluster, namespace, asked(trigger("a")), toys) as found:
        await holds(lambda: toys["a"].starts)
        await holds(lambda: "is not Jobyard's" in ready(found).get("trouble", {}).get("the board", ""))
        with pytest.raises(NotOurBoard):
            await found.board.pause("a", "me", NOW)
        assert (await cluster.get(CONFIG_MAPS, namespace, name)).data == theirs
        await cluster.delete(CONFIG_MAPS, namespace, name)
        await said(cluster, namespace, lambda notes: "a" in notes.standings)
        assert "trouble" not in ready(found)
        assert (await find_board(cluster, namespace, None))[1].service == "jobyard"


async def test_what_breaks_over_a_part_of_a_service_is_told_and_ends_no_other(
    cluster: HttpCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys, broken = Toys(), asyncio.Event()
    listens = Board.watch

    async def breaks(board: Board) -> AsyncIterator[Notes]:
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError("hush")
        async for notes in listens(board):
            yield notes

    monkeypatch.setattr(Board, "watch", breaks)
    async with service(cluster, namespace, asked(trigger("a")), toys) as found:
        await holds(broken.is_set)
        await holds(lambda: "read the board" in found.trouble)
        told = found.trouble["read the board"]
        assert "ZeroDivisionError in test_service.py" in told
        assert "hush" not in told
        await holds(lambda: toys["a"].starts == 1)
        assert "trouble" not in ready(found)


async def test_a_run_over_which_a_part_breaks_ends_nothing_else(
    cluster: HttpCluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(view: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("jobyard.service.obstacles.held_up", breaks)
    toys, ends = Toys(), list[str]()

    async def works(engine: Engine) -> None:
        run = await engine.submit(RunRequest(trigger="a", key="one", workflow=read(workflow("good", step("a", "sleep 2")), tmp_path)))
        ends.append(str((await engine.outcome(run)).state))
        await engine.release(run)

    toys["a"].work = works
    with caplog.at_level("WARNING"):
        async with service(cluster, namespace, asked(trigger("a")), toys):
            await holds(lambda: ends == ["succeeded"])
    assert "can't be said" in caplog.text


async def test_a_trigger_that_breaks_at_once_again_and_again_harms_no_other(cluster: HttpCluster, namespace: str) -> None:
    toys = Toys()

    async def breaks(engine: Engine) -> None:
        raise [ValueError("no"), asyncio.CancelledError(), ExceptionGroup("g", [KeyError("k")])][toys["bad"].starts % 3]

    toys["bad"].work = breaks
    async with service(cluster, namespace, asked(trigger("bad"), trigger("good")), toys) as found:
        await holds(lambda: toys["bad"].starts == 4)
        assert found.served["bad"].report.restarts >= 3
        assert (toys["good"].starts, state(found, "good")) == (1, "running")
        assert ready(found)["triggers"]["bad"]["failures"] >= 3


async def test_a_standby_hands_on_what_it_hears_and_its_leader_is_followed(cluster: HttpCluster, namespace: str) -> None:
    ours, theirs, settings = Toys(), Toys(), asked(trigger("a"), replicas=2)
    async with service(cluster, namespace, settings, theirs, "b") as second:
        async with service(cluster, namespace, settings, ours, "a") as first:
            await holds(lambda: ours["a"].starts + theirs["a"].starts == 1)
            leader, standby, toys = (first, second, ours) if first.leads else (second, first, theirs)
            await holds(lambda: standby.notes is not None and state(standby, "a") == "standing by")
            await standby.hear("a", "commit-1")
            await leader.hear("a", "commit-2")
            await holds(lambda: sorted(toys["a"].heard) == ["commit-1", "commit-2"])
            await standby.hear("gone", "commit-3")
            assert {ready(each)["state"] for each in (first, second)} == {"leads", "stands by"}
        await holds(lambda: second.leads and theirs["a"].starts)
        assert ours["a"].under_way == 0
    assert not (await cluster.get(LEASES, namespace, "jobyard")).spec.holder_identity


async def test_a_standby_that_can_not_hand_on_says_so_in_time(
    under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobyard.service.service.HEAR_WITHIN", 0.2)
    toys = Toys()
    async with service(cluster, namespace, asked(trigger("a"), replicas=2), toys) as found:
        await holds(lambda: found.notes is not None)

        async def hangs(*words: object) -> None:
            await asyncio.Event().wait()

        found._leads = False
        monkeypatch.setattr(found.board, "_write", hangs)
        with pytest.raises(NoAnswer):
            await found.hear("a", "commit")


async def test_a_budget_that_is_used_up_outlives_the_service(cluster: HttpCluster, namespace: str, tmp_path: Path) -> None:
    toys, budget = Toys(), Budget(failures=1, within=timedelta(minutes=10))
    begun: list[str] = []

    async def works(engine: Engine) -> None:
        for key in ("one", "two"):
            run = await engine.submit(RunRequest(trigger="a", key=key, workflow=read(workflow("bad", step("a", "exit 1")), tmp_path)))
            begun.append(key)
            await engine.outcome(run)
            await engine.release(run)

    toys["a"].work = works
    settings = asked(trigger("a", budget=budget))
    async with service(cluster, namespace, settings, toys):
        notes = await said(cluster, namespace, lambda notes: notes.standings.get("a") and notes.standings["a"].until is not None)
        assert (notes.standings["a"].state, notes.standings["a"].error) == ("paused", "1 of its runs failed within 10m")
        assert begun == ["one"]
    async with service(cluster, namespace, settings, toys, "later") as found:
        await holds(lambda: toys["a"].starts == 2)
        await holds(lambda: state(found, "a") == "paused")
        notes = await said(cluster, namespace, lambda notes: notes.standings["a"].by == "later" and notes.standings["a"].until is not None)
        assert notes.standings["a"].until is not None
        assert begun == ["one", "one"], "a run that is there is had at once; the next waits"


async def test_a_kubeconfig_that_is_wrong_is_the_end_of_a_service(
    cluster: HttpCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(board: Board) -> AsyncIterator[Notes]:
        raise InvalidKubeconfig(file="f", what="is wrong", expected="a right one", remedy="")
        yield

    monkeypatch.setattr(Board, "watch", wrong)
    with pytest.raises(ExceptionGroup) as raised:
        async with service(cluster, namespace, asked(trigger("a")), Toys()):
            await asyncio.Event().wait()
    assert raised.group_contains(InvalidKubeconfig)


@pytest.mark.parametrize("missing", ["leases", "configmaps"])
async def test_without_rights_it_says_so_and_does_what_it_may(
    under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("the local cluster has no RBAC")
    monkeypatch.setattr(election, "ASK_AGAIN", 0.5)
    rights = tuple(each for each in needed(["git"]) if each.resource != missing)
    kubeconfig = await restricted_kubeconfig(cluster, under_test.kubeconfig, namespace, tmp_path / "kubeconfig", rights)
    toys = Toys()
    async with (
        open_cluster(connect(kubeconfig=str(kubeconfig))) as guest,
        service(guest, namespace, asked(trigger("a"), replicas=2), toys) as found,
    ):
        if missing == "configmaps":
            await holds(lambda: toys["a"].starts == 1)
            assert "no trigger can be paused" in ready(found)["trouble"]["the board"]
            return
        await holds(lambda: "nobody knows who leads" in ready(found).get("lease", ""))
        assert ready(found)["ready"] is True
        assert (toys["a"].starts, state(found, "a")) == (0, "standing by")
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/jobyard"
        rules = [{"apiGroups": [each.group], "resources": [each.resource], "verbs": list(each.verbs)} for each in needed(["git"])]
        await cluster.call(
            "PATCH", path, "give the right", body=json.dumps({"rules": rules}).encode(), media="application/merge-patch+json"
        )
        await holds(lambda: toys["a"].starts == 1)
        await until(cluster, LEASES, namespace, "jobyard", lambda lease: lease.spec.holder_identity == "me")

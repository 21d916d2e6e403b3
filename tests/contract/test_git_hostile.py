"""What is pushed ends nothing but itself: trees without end, names that are none, commits that say anything, runs that break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.contracts import Engine
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.model import names
from jobyard.model.errors import RightsUnavailable
from jobyard.model.objects import CONFIG_MAPS, JOBS
from jobyard.model.run import Outcome, Run, RunRequest, StepView
from jobyard.supervise import Through
from jobyard.triggers.git import turns
from jobyard.triggers.git.clone import Clone, open_here
from jobyard.triggers.git.history import latest, transitions
from jobyard.triggers.git.layout import Place
from jobyard.triggers.git.moves import Move
from jobyard.triggers.git.policy import Policy
from tests.git import odd
from tests.git.odd import Entry
from tests.git.remotes import Person, git, tree
from tests.git.serving import IDENTITY, of, text, trigger, until_idle
from tests.manifests import job, step, workflow
from tests.waiting import BOUND

pytestmark = pytest.mark.usefixtures("own_configuration")


@pytest.fixture
async def engine(cluster: HttpCluster, namespace: str) -> AsyncIterator[ClusterEngine]:
    async with open_engine(cluster, SystemClock(), namespace) as opened:
        yield opened


def file(person: Person, name: str, content: str | bytes) -> Entry:
    return ("100644", name.encode(), odd.store(person.folder, "blob", content if isinstance(content, bytes) else content.encode()))


def folder(person: Person, name: str, *entries: Entry) -> Entry:
    return ("40000", name.encode(), odd.tree(person.folder, entries))


def messages(remote: Path) -> str:
    return git(remote, "log", "--format=%B", "main")


async def test_a_tree_without_end_is_one_file_s_failure_or_nobody_s(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    """Ten thousand million files from eleven objects; and as many folders with nothing in them, which git itself would walk for days."""
    leaf = file(person, "leaf.yaml", "a: b")
    endless = ("40000", b"endless", odd.bomb(person.folder, leaf))
    empty = ("40000", b"empty", odd.bomb(person.folder, None))
    queue = [
        file(person, "good.yaml", text(job("good"))),
        file(person, "all.yaml", text(workflow("all", {"name": "a", "manifest": "../endless"}))),
        file(person, "none.yaml", text(workflow("none", {"name": "a", "manifest": "../empty"}))),
        file(person, "root.yaml", text(workflow("root", {"name": "a", "manifest": ".."}))),
        ("40000", b"deep.yaml", endless[2]),
        ("40000", b"deep", empty[2]),
    ]
    first = odd.commit(person.folder, [endless, empty, folder(person, "queued", *queue), ("40000", b"processing", empty[2])])
    odd.push(person.folder, first)
    serving = await trigger(remote, namespace)
    await until_idle(serving, engine)
    assert odd.names(remote, "succeeded") == [".gitkeep", "good.yaml"]
    assert odd.names(remote, "failed") == [".gitkeep", "all.yaml", "none.yaml", "root.yaml"]
    assert odd.names(remote, "queued") == ["deep.yaml", "deep"]
    assert messages(remote).count("Jobyard-Reason: it names too many f") == 3
    for place, oid in ((":endless", endless[2]), (":queued/deep.yaml", endless[2]), (":processing/0", None)):
        assert git(remote, "rev-parse", f"main{place}").strip() == (oid or git(remote, "rev-parse", "main:empty/0").strip())
    # A clone that a person works in does not follow: it could not be checked out.
    here = of(await open_here(person.folder, "main", IDENTITY), namespace)
    git(person.folder, "checkout", "--quiet", "--orphan", "main")
    git(person.folder, "update-ref", "refs/heads/main", git(person.folder, "rev-parse", first).strip())
    await until_idle(here, engine)
    assert git(person.folder, "rev-parse", "HEAD").strip() == first


async def test_names_and_entries_that_are_none_stop_no_other(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    plain = odd.store(person.folder, "blob", text(job("odd")).encode())
    huge = file(person, "huge.yaml", b"#" * (10 * 1024 * 1024 + 1))
    odd_names = [
        b"new\nline.yaml",
        b"tab\t.yaml",
        b"caf\xe9.yaml",
        b"x" * 240 + b".yaml",
        b"y" * 5000 + b".yaml",
        b"\x1b[2J.yaml",
    ]
    never = [b"..", b".", b".git", b"a/../../b.yaml", b".hidden.yaml", b"notes.txt"]
    queue: list[Entry] = [
        *(("100644", name, plain) for name in (*odd_names, *never)),
        ("120000", b"link.yaml", odd.store(person.folder, "blob", b"/etc/passwd")),
        ("160000", b"module.yaml", "1" * 40),
        ("100664", b"old-mode.yaml", odd.store(person.folder, "blob", text(job("old-mode")).encode())),
        ("100644", b"quo\"te's.yaml", plain),
        huge,
        file(person, "good.yaml", text(job("good"))),
        file(person, "bad.yaml", text(job("bad", "exit 1"))),
        file(
            person,
            "names.yaml",
            text(workflow("names", *({"name": f"s{each[3]}", "manifest": each} for each in ("../l.yaml", "../m", "../n")))),
        ),
        file(person, "large.yaml", text(workflow("large", {"name": "a", "manifest": "../huge.yaml"}))),
        file(person, "long.yaml", text(workflow("long", {"name": "a", "manifest": "../long"}))),
        file(person, "twice.yaml", text(workflow("twice", {"name": "a", "manifest": "../twice"}))),
    ]
    root: list[Entry] = [
        folder(person, "queued", *queue),
        # Where files are to go lies something else.
        ("100644", b"succeeded", plain),
        ("120000", b"unknown", odd.store(person.folder, "blob", b"/tmp")),
        ("160000", b"processing", "1" * 40),
        folder(person, "failed", folder(person, "bad.yaml", file(person, "inside", "x"))),
        ("120000", b"l.yaml", odd.store(person.folder, "blob", b"/etc/passwd")),
        ("160000", b"m", "1" * 40),
        ("100644", b"z\nz", plain),
        folder(person, "long", ("100644", b"l" * 300 + b".yaml", plain)),
        folder(person, "twice", ("100644", b"t.yaml", plain), folder(person, "t.yaml", ("100644", b"u.yaml", plain))),
        huge,
    ]
    odd.push(person.folder, odd.commit(person.folder, root))
    await until_idle(await trigger(remote, namespace), engine)
    assert odd.names(remote, "succeeded") == [".gitkeep", "good.yaml", "old-mode.yaml", "quo\"te's.yaml"]
    failed = git(remote, "ls-tree", "main:failed/", check=False)
    assert "bad.yaml" in failed
    assert "tree" not in failed, "what else bears a file's name there makes way"
    for name in ("huge.yaml", "link.yaml", "module.yaml", "names.yaml", "large.yaml", "long.yaml", "twice.yaml"):
        assert name in odd.names(remote, "failed"), name
    assert len(odd.names(remote, "failed")) == 8 + len(odd_names)
    assert sorted(odd.names(remote, "queued")) == sorted(name.decode() for name in never)
    told = messages(remote)
    assert "\x1b" not in told
    for words in (
        "not plain text",
        "symbolic link",
        "but another repository",
        "10,485,761 bytes",
        "../l.yaml does not exist",
        "huge.yaml, a file of",
    ):
        assert words in told, words
    assert "root:" not in told
    assert git(remote, "rev-parse", "main:m").strip() == "1" * 40, "what is not ours stays as it is"


async def test_commits_that_say_anything_are_read_for_what_they_are(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/good.yaml", text(job("good")))
    tip = person.push()
    trailers = "Jobyard-File: {0}\nJobyard-State: processing\nJobyard-Run: {1}\nJobyard-Namespace: {2}\n"
    odd_ones = [
        (trailers.format("a.yaml", "x" * 100_000, namespace).encode(), "1700000000 +0000"),
        (trailers.format("b.yaml", "b-7edpc5y6mzzj5cib", "../../kube-system").encode(), "99999999999999 +9999"),
        (trailers.format("c.yaml", "c-7edpc5y6mzzj5cib", namespace).encode() + b"\xff\xfe\x00after", "-1 -0000"),
        (b"x" * 3_000_000 + b"\n\n" + trailers.format("d.yaml", "d-7edpc5y6mzzj5cib", namespace).encode(), "1 +0000"),
        (trailers.format("e.yaml", "../e-7edpc5y6mzzj5cib?x=", namespace).encode(), "17000000000000000000000 +0000"),
    ]
    queued = ("40000", b"queued", git(remote, "rev-parse", "main:queued").strip())
    for number, (message, date) in enumerate(odd_ones):
        entries = [file(person, f"{name}.yaml", text(job(name))) for name in "abcde"[: number + 1]]
        tip = odd.commit(person.folder, [queued, folder(person, "processing", *entries)], b"odd\n\n" + message, date, tip)
    odd.push(person.folder, tip)
    serving = await trigger(remote, namespace)
    await until_idle(serving, engine)
    assert tree(remote) == {"good.yaml": "succeeded", **{f"{name}.yaml": "unknown" for name in "abcde"}}
    at, look = await serving.repository.look(None)
    clone = Clone(repository=serving.repository, url=serving.url)
    told = await transitions(clone, at, look)
    assert all(each.at.astimezone().year < 3000 and each.reason.isprintable() for each in told)
    assert len(await latest(clone, at, look)) == 6


async def test_twenty_that_wait_for_a_full_limit_keep_nobody_back(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    for number in range(20):
        person.write(f"queued/{number:02}.yaml", text(workflow("one-at-a-time", step("a", "sleep 300"), maxRuns=1)))
    person.write("queued/zz.yaml", text(job("zz")))
    person.push()
    serving = await trigger(remote, namespace)
    async with asyncio.timeout(BOUND):
        first = await serving.run_once(engine)
    assert (len(first.moves), first.waiting) == (2, 19)
    assert "zz.yaml" in {move.name for move in first.moves}


async def test_a_queue_that_no_git_add_makes_is_worked_off_all_the_same(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    """In no order, with a name twice, with modes of any length, with names of megabytes and of bytes that are no text."""

    def entry(name: bytes, mode: bytes = b"100644", content: str = "") -> bytes:
        oid = odd.store(person.folder, "blob", (content or text(job(name.decode("ascii", "replace")[:9]))).encode())
        return mode + b" " + name + b"\0" + bytes.fromhex(oid)

    long = entry(b"a" * (3 * 2**20), content="x")
    queues = [
        entry(b"z.yaml") + entry(b"odd.yaml") + entry(b"last.yaml"),
        entry(b"evil.yaml", b"1" + b"0" * 24 + b"00000100644") + entry(b"mode.yaml"),
        entry(b"twice.yaml") + entry(b"twice.yaml"),
        long + entry(b"b\xff.yaml", content="x") + entry(b"long.yaml"),
        long + entry(b"b\nx y.yaml", content="x") + entry(b"lines.yaml"),
    ]
    person.write("queued/.gitkeep", "")
    person.push()
    serving = await trigger(remote, namespace)
    for queue in queues:
        git(person.folder, "fetch", "--quiet", "origin", "main")
        tip = git(person.folder, "rev-parse", "FETCH_HEAD").strip()
        rest = [each for each in odd.listed(person.folder, tip) if each[1] != b"queued"]
        queued = ("40000", b"queued", odd.store(person.folder, "tree", queue))
        odd.push(person.folder, odd.commit(person.folder, [*rest, queued], parent=tip))
        await until_idle(serving, engine)
    good = ["evil", "last", "lines", "long", "mode", "odd", "twice", "z"]
    assert odd.names(remote, "succeeded") == [".gitkeep", *(f"{name}.yaml" for name in good)]
    assert len(odd.names(remote, "failed")) == 1 + 2


async def test_one_run_is_one_file_and_who_runs_on_keeps_nobody_from_ending(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LISTED", 3)
    for name in "abcde":
        person.write(f"queued/{name}.yaml", text(job(name, "sleep 300")))
    person.write("queued/v.yaml", text(job("v", "sleep 300")))
    person.push()
    serving = await trigger(remote, namespace)
    moves: asyncio.Queue[Move] = asyncio.Queue()
    serving.say = moves.put_nowait
    running = asyncio.create_task(serving.run(engine))
    try:
        async with asyncio.timeout(BOUND):
            begun = [await moves.get() for _ in range(6)]
            assert {move.target for move in begun} == {Place.PROCESSING}
            run = next(each for each in await engine.runs(serving.name) if each.origin["file"] == "queued/v.yaml")
            person.pull()
            claim = "Jobyard-File: a{}.yaml\nJobyard-State: processing\nJobyard-Run: {}\nJobyard-Namespace: {}"
            for number in range(5):
                person.write(f"processing/a{number}.yaml", "x: y")
            person.push("mine\n\n" + "\n".join(claim.format(number, run.name, namespace) for number in range(5)))
            serving.wanted.set()
            theirs = [await moves.get() for _ in range(5)]
            await engine.cancel(run)
            last = await moves.get()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert {(move.name, move.target) for move in theirs} == {(f"a{number}.yaml", Place.UNKNOWN) for number in range(5)}
    assert (last.name, last.target) == ("v.yaml", Place.FAILED), "it ended, whoever goes on before it"
    assert all(tree(remote)[f"{name}.yaml"] == "processing" for name in "abcde")


async def test_more_that_wait_than_are_looked_at_at_once_keep_nobody_back(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LISTED", 5)
    for number in range(12):
        person.write(f"queued/{number:02}.yaml", text(workflow("one-at-a-time", step("a", "sleep 300"), maxRuns=1)))
    person.write("queued/zz.yaml", text(job("zz")))
    person.push()
    serving = await trigger(remote, namespace)
    async with asyncio.timeout(BOUND):
        first = await serving.run_once(engine)
    assert (len(first.moves), first.waiting) == (2, 11)
    assert "zz.yaml" in {move.name for move in first.moves}


class Breaking(Through):
    """An engine that breaks over some runs, in ways that nobody foresaw."""

    def _break(self, name: str, at: str) -> None:
        if f"{at}-breaks" in name:
            raise ZeroDivisionError(f"{at} broke")

    async def submit(self, request: RunRequest) -> Run:
        self._break(request.workflow.name, "submit")
        if "submit-waits" in request.workflow.name:
            raise RightsUnavailable(namespace="n", what="you may not")
        return await super().submit(request)

    async def begin(self, run: Run) -> None:
        self._break(run.workflow, "begin")
        await super().begin(run)

    async def outcome(self, run: Run) -> Outcome:
        self._break(run.workflow, "outcome")
        return await super().outcome(run)

    async def last_lines(self, run: Run, step: StepView, count: int) -> list[str]:
        self._break(run.workflow, "lines")
        return await super().last_lines(run, step, count)

    async def release(self, run: Run, until: datetime | None = None) -> None:
        self._break(run.workflow, "release")
        await super().release(run, until)


async def test_whatever_breaks_over_one_file_or_run_is_that_one_s_failure(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    ends = {"submit": "failed", "begin": "unknown", "outcome": "unknown", "lines": "succeeded", "release": "succeeded"}
    for name in (*ends, "none"):
        person.write(f"queued/{name}.yaml", text(workflow(f"{name}-breaks", step("a"))))
    person.write("queued/waits.yaml", text(workflow("submit-waits", step("a"))))
    person.push()
    told: list[str] = []
    serving = await trigger(remote, namespace, told.append)
    broken: Engine = Breaking(engine)
    with pytest.raises(RightsUnavailable):  # once all others are through
        await until_idle(serving, broken)
    assert tree(remote) == {"none.yaml": "succeeded", "waits.yaml": "queued", **{f"{name}.yaml": end for name, end in ends.items()}}
    said = "\n".join(told)
    for words in ("waits.yaml stays queued: ", "does not begin yet", "can't be released"):
        assert words in said, said
    assert len(told) == len(set(told)), "each is told once"
    log = messages(remote)
    for words in ("report it. The other files go on", "can't be followed", "The rest can't be reported"):
        assert words in log, log
    # By an engine that works again, what waited runs.
    await until_idle(await trigger(remote, namespace), engine)
    assert tree(remote)["waits.yaml"] == "succeeded"


async def test_a_run_whose_record_was_damaged_is_unknown_and_others_go_on(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/damaged.yaml", text(workflow("damaged", step("a", "sleep 300"))))
    person.write("queued/good.yaml", text(job("good", "sleep 2")))
    person.push()
    serving = await trigger(remote, namespace)
    async with asyncio.timeout(BOUND):
        await serving.run_once(engine)
    for record in await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR):
        if "damaged" in record.metadata.name:
            change: dict[str, Any] = {"data": dict.fromkeys(record.data or {}, "no workflow"), "binaryData": None}
            await cluster.patch(CONFIG_MAPS, namespace, record.metadata.name, change)
    async with open_engine(cluster, SystemClock(), namespace) as later:
        await until_idle(await trigger(remote, namespace), later)
    assert tree(remote) == {"damaged.yaml": "unknown", "good.yaml": "succeeded"}
    assert "RunDamaged: the record of run damaged-" in messages(remote)


async def test_files_that_name_any_number_of_namespaces_open_a_bounded_one(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    for number in range(130):
        elsewhere = job("x")
        elsewhere["metadata"]["namespace"] = f"{namespace}-{number}"
        person.write(f"queued/{number}.yaml", text(elsewhere))
    person.write("queued/good.yaml", text(job("good")))
    person.push()
    await until_idle(await trigger(remote, namespace, policy=Policy(default_namespace=namespace, namespaces=None)), engine)
    ends = tree(remote)
    assert ends.pop("good.yaml") == "succeeded"
    assert set(ends.values()) == {"failed"}
    assert "its maximum, so " in messages(remote)


async def test_what_a_workflow_s_own_files_keep_secret_is_told_nowhere(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    """Of the manifests that it names, as they were when the run was made: whatever becomes of them, or of the file, later."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pw"}, "stringData": {"password": "hunter2-named"}}
    source = {"secretKeyRef": {"name": "pw", "key": "password"}}
    env = [{"name": "PASSWORD", "valueFrom": source}, {"name": "API_TOKEN", "value": "token-in-env"}]
    script = "sleep 3; echo log $PASSWORD $API_TOKEN; echo message $PASSWORD > /dev/termination-log; exit 1"
    person.write("manifests/a/job.yaml", text(secret, job("a", script, container={"env": env})))
    for name in ("kept", "edited"):
        flow = (
            workflow(name, {"name": "a", "manifest": "../manifests/a"})
            if name == "kept"
            else workflow(name, step("a", script, spec={"container": {"env": env[1:]}}))
        )
        person.write(f"queued/{name}.yaml", text(flow))
    person.push()
    serving = await trigger(remote, namespace)
    async with asyncio.timeout(BOUND):
        await serving.run_once(engine)
    person.pull()
    person.write("manifests/a/job.yaml", text(job("a")))
    person.write("processing/edited.yaml", "nothing: here\n")
    person.push("nothing was ever secret")
    await until_idle(serving, engine)
    assert tree(remote)["kept.yaml"] == tree(remote)["edited.yaml"] == "failed"
    told = messages(remote)
    assert "log *** ***" in told
    assert "message ***" in told
    for value in ("hunter2-named", "token-in-env"):
        assert value not in told


async def test_where_nobody_knows_any_more_what_is_secret_no_log_is_told(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person, tmp_path: Path
) -> None:
    person.write("m.yaml", text(job("a", "sleep 3; echo in the log; exit 1")))
    person.write("queued/flow.yaml", text(workflow("flow", {"name": "a", "manifest": "../m.yaml"})))
    person.push()
    async with asyncio.timeout(BOUND):
        await (await trigger(remote, namespace)).run_once(engine)
    # Its history is pushed anew, and another clone serves it from now on: what the run was made of is gone.
    person.pull()
    claim = git(person.folder, "log", "-1", "--format=%B")
    git(person.folder, "checkout", "--quiet", "--orphan", "anew")
    person.write("m.yaml", text(job("a")))
    git(person.folder, "add", "-A")
    git(person.folder, "commit", "--quiet", "-m", claim)
    git(person.folder, "push", "--quiet", "--force", "origin", "HEAD:main")
    for path in ("remote.git", "cache"):
        git(tmp_path, "init", "--quiet", "--bare", f"other-{path}")
    bare = tmp_path / "other-remote.git"
    git(person.folder, "push", "--quiet", str(bare), "HEAD:main")
    served = await trigger(bare, namespace)
    served.name = (await trigger(remote, namespace)).name  # the same repository, in another place
    await until_idle(served, engine)
    assert tree(bare)["flow.yaml"] == "failed"
    told = messages(bare)
    assert "Its log is left out" in told
    assert "in the log" not in told


async def test_thousands_of_files_are_taken_some_at_a_time(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    wrong = odd.store(person.folder, "blob", json.dumps({"kind": "Nothing"}).encode())
    queue: list[Entry] = [("100644", b"%05d.yaml" % number, wrong) for number in range(3000)]
    odd.push(person.folder, odd.commit(person.folder, [folder(person, "queued", *queue)]))
    git(person.folder, "fetch", "--quiet", "origin", "main")
    tip = git(person.folder, "rev-parse", "origin/main").strip()
    queue.append(file(person, "z.yaml", text(job("z"))))
    odd.push(person.folder, odd.commit(person.folder, [folder(person, "queued", *queue)], parent=tip))
    serving = await trigger(remote, namespace)
    where: list[int] = []
    moved: list[str] = []

    def say(name: str) -> None:
        moved.append(name)
        if name == "z.yaml":
            where.append(len(moved))

    serving.say = lambda move: say(move.name)
    await until_idle(serving, engine)
    assert odd.names(remote, "succeeded") == [".gitkeep", "z.yaml"]
    assert len(odd.names(remote, "failed")) == 3001
    assert where[0] <= 500, "a push of thousands holds up nobody else's"
    assert [each.metadata.name for each in await cluster.list(JOBS, namespace)] == ["z"]

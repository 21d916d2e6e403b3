"""Git as a source of runs: every folder, every rival, every odd file; on each cluster, over each remote."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobyard.cluster.client import HttpCluster
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.limits import LIMITS
from jobyard.model import names
from jobyard.model.errors import GitFailed
from jobyard.model.objects import CONFIG_MAPS, JOBS, SECRETS
from jobyard.model.run import Run, RunRequest
from jobyard.patience import Backoff
from jobyard.supervise import Report, Restarts, Supervised, Through
from jobyard.triggers.git import moves
from jobyard.triggers.git.clone import Clone, open_here, open_url
from jobyard.triggers.git.history import requeue, transitions
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger
from tests import hostile
from tests.certificates import server_context
from tests.conftest import ClusterUnderTest
from tests.flows import read
from tests.git import remotes
from tests.git.remotes import Person, git, subjects, tree
from tests.git.serving import IDENTITY, of, text, trigger, until_idle
from tests.manifests import Tree, job, step, workflow
from tests.waiting import BOUND, until_gone

pytestmark = pytest.mark.usefixtures("own_configuration")


@pytest.fixture
async def engine(cluster: HttpCluster, namespace: str) -> AsyncIterator[ClusterEngine]:
    async with open_engine(cluster, SystemClock(), namespace) as opened:
        yield opened


async def test_each_file_goes_to_the_folder_of_its_end(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pw"}, "stringData": {"password": "hunter2-secret"}}
    good = job("good", "echo the password is $PASSWORD; sleep 0.5")
    source = {"secretKeyRef": {"name": "pw", "key": "password"}}
    good["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "PASSWORD", "valueFrom": source}]
    person.write("queued/good.yaml", text(secret, good))
    person.write("queued/bad.yml", text(job("bad", "echo oh no; exit 3")))
    person.write("queued/flow.json", json.dumps(workflow("flow", step("a"), step("b", "true", "a"))))
    person.push()
    done = await until_idle(await trigger(remote, namespace), engine)
    assert done.running == done.waiting == 0
    assert tree(remote) == {"good.yaml": "succeeded", "bad.yml": "failed", "flow.json": "succeeded"}
    message = git(remote, "log", "--format=%an <%ae>%n%B", "main")
    assert "Goji Bot <goji-bot@goji>" in message
    assert "3 files transitioned from queued to processing" in message
    assert "Exit code: 3" in message
    assert "    oh no" in message
    assert "hunter2-secret" not in message
    assert "the password is ***" in message
    jobs = {each.metadata.name for each in await cluster.list(JOBS, namespace)}
    assert {"good", "bad"} < jobs, "plain manifests keep their names"
    record = next(each for each in await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR) if "good" in each.metadata.name)
    assert "hunter2" not in str(record)
    (kept,) = [each for each in await cluster.list(SECRETS, namespace) if each.metadata.name == "pw"]
    assert kept.metadata.owner_references[0].uid == record.metadata.uid
    for folder in ("queued", "processing", "unknown"):
        assert git(remote, "ls-tree", "--name-only", "main", f"{folder}/").strip() == f"{folder}/.gitkeep"


async def test_one_workflow_is_started_with_different_values_by_files_that_name_it(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    parameters = [{"name": "day", "type": "date", "required": True}, {"name": "token"}]
    flow = workflow("etl", {"name": "load", "manifest": "jobs/load.yaml"}, parameters=parameters)
    script = 'echo "{{ params.day }} with $JOBYARD_PARAM_TOKEN"; test {{ params.day }} != 2026-02-04'
    person.write("flows/etl.yaml", text(flow))
    person.write("flows/jobs/load.yaml", text(job("load", script)))
    run = {"apiVersion": "jobyard.dev/v1", "kind": "Run", "workflow": "../flows/etl.yaml"}
    for day in ("2026-02-03", "2026-02-04"):
        person.write(f"queued/{day}.yaml", text({**run, "parameters": {"day": day, "token": "hunter2-secret"}}))
    person.write("queued/none.json", json.dumps(run))
    person.write("queued/whole.yaml", text({**workflow("etl", step("a"), parameters=parameters)}))
    person.push()
    await until_idle(await trigger(remote, namespace), engine)
    ends = {name: folder for name, folder in tree(remote).items() if folder != "flows"}
    assert {name: ends[name] for name in ("2026-02-03.yaml", "2026-02-04.yaml", "none.json", "whole.yaml")} == {
        "2026-02-03.yaml": "succeeded",
        "2026-02-04.yaml": "failed",
        "none.json": "failed",
        "whole.yaml": "failed",
    }
    message = git(remote, "log", "--format=%B", "main")
    assert "2026-02-04 with ***" in message
    assert "hunter2" not in message
    assert "queued/none.json:1:1: no value for parameter day, expected a date" in message
    assert "parameter day has no value, expected a date such as 2026-11-21; give it a default, or queue a file of kind Run" in message


async def test_goji_s_own_words_and_layout(engine: ClusterEngine, namespace: str, remote: Path, person: Person) -> None:
    person.write("jobs/queued/one.yaml", text(job("one")))
    person.write("jobs/queued/two.yaml", text(job("two")))
    person.write("README.md", "hello")
    person.push()
    await until_idle(await trigger(remote, namespace, commit_each=True), engine)
    assert tree(remote) == {"one.yaml": "jobs/succeeded", "two.yaml": "jobs/succeeded", "README.md": ""}
    told = subjects(remote)
    assert sorted(told) == sorted(
        [
            "work",
            *(f"{name}.yaml transitioned from queued to processing" for name in ("one", "two")),
            *(f"{name}.yaml transitioned from processing to succeeded" for name in ("one", "two")),
        ]
    )


async def test_odd_files_each_have_a_clear_end_and_stop_no_other(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/good.yaml", text(job("good")))
    person.write("queued/empty.yaml", "")
    person.write("queued/text.yaml", "just words\n")
    person.write("queued/deployment.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")
    person.write("queued/elsewhere.yaml", text({**job("x"), "metadata": {"name": "x", "namespace": "kube-system"}}))
    person.write("queued/huge.yaml", b"#" * (10 * 1024 * 1024 + 1))
    person.write("queued/bytes.yaml", b"\xff\xfe\x00nothing")
    outside = workflow("w", {"name": "a", "manifest": "../../../../../../etc/hostname"}, {"name": "b", "manifest": "/etc/passwd"})
    person.write("queued/outside.yaml", text(outside))
    person.write("queued/lone-map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
    os.symlink("/etc/passwd", person.folder / "queued/link.yaml")
    (person.folder / os.fsdecode(b"queued/caf\xe9.yaml")).write_text(text(job("cafe")))
    person.write("queued/notes.txt", "not looked at")
    person.push()
    await until_idle(await trigger(remote, namespace), engine)
    found = tree(remote)
    assert found.pop("good.yaml") == "succeeded"
    assert found.pop("notes.txt") == "queued"
    assert set(found.values()) == {"failed"}, found
    assert len(found) == 10
    log = git(remote, "log", "--format=%B", "main")
    for words in (
        "the file is empty",
        "kind Deployment, which is not allowed in this repository",
        "namespace kube-system, which is not allowed in this repository",
        "10,485,761 bytes",
        "leads out of the repository",
        "It is a symbolic link",
        "Its name is not plain text",
        "holds no Job",
        "caf\\xe9.yaml",
    ):
        assert words in log, words
    assert "root:" not in log
    assert [each.metadata.name for each in await cluster.list(JOBS, namespace)] == ["good"]


async def test_who_may_push_is_neither_the_node_nor_another_account(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    token: Tree = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token"}
    token["metadata"] = {"name": "t", "annotations": {"kubernetes.io/service-account.name": "jobyard"}}
    held = job("held")
    held["metadata"]["finalizers"] = ["example.com/keep"]
    person.write("manifests/all.yaml", text(job("strong", container={"securityContext": {"privileged": True}})))
    bad = {
        "node": job("node", pod={"hostNetwork": True}),
        "disk": job("disk", pod={"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}),
        "strong": workflow("strong", {"name": "a", "manifest": "../manifests/all.yaml"}),
        "account": job("account", pod={"serviceAccountName": "jobyard"}),
        "held": held,
    }
    for name, manifest in bad.items():
        person.write(f"queued/{name}.yaml", text(manifest))
    person.write("queued/token.yaml", text(token, job("token")))
    person.write("queued/good.yaml", text(job("good", container={"securityContext": {"runAsUser": 0}})))
    person.push()
    await until_idle(await trigger(remote, namespace), engine)
    found = tree(remote)
    assert (found.pop("good.yaml"), found.pop("all.yaml")) == ("succeeded", "manifests")
    assert found == {f"{name}.yaml": "failed" for name in (*bad, "token")}
    log = git(remote, "log", "--format=%B", "main")
    for words in (
        "true as spec.template.spec.hostNetwork, which pods: baseline forbids, expected false; change or remove it",
        "volumes[0].hostPath, which pods: baseline forbids",
        "manifests/all.yaml:19:23: true as spec.template.spec.containers[0].securityContext.privileged",
        'service account "jobyard", which is not allowed in this repository',
        'service account "jobyard", whose token this Secret asks for',
        "metadata.finalizers, which would keep finished objects from being deleted",
    ):
        assert words in log, words
    assert [each.metadata.name for each in await cluster.list(JOBS, namespace)] == ["good"]


HOSTILE = (
    "deep-lists.json",
    "aliases-of-a-megabyte.yaml",
    "twins.yaml",
    "a-million-values.yaml",
    *("stopped-in-the-year-9999.yaml", "ttl-of-a-superscript.yaml", "labels-that-are-text.yaml", "namespace-that-is-a-mapping.yaml"),
    *("limits-of-the-namespace.yaml", "named-like-a-run.yaml", "number-of-400-nines.yaml"),
)


async def test_files_that_were_made_to_do_harm_are_set_aside_and_what_lies_behind_them_runs(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/a-good-one.yaml", text(job("first")))
    for name in HOSTILE:
        hostile.write(name, person.folder / "queued")
    person.write("queued/z-good-one.yaml", text(job("last")))
    person.push()
    await until_idle(await trigger(remote, namespace), engine)
    good = ("a-good-one.yaml", "z-good-one.yaml")
    assert tree(remote) == dict.fromkeys(HOSTILE, "failed") | dict.fromkeys(good, "succeeded")
    log = git(remote, "log", "--format=%B", "main")
    for name in HOSTILE:
        assert f"queued/{name}:" in log, name
    assert sorted(each.metadata.name for each in await cluster.list(JOBS, namespace)) == ["first", "last"]
    assert not [each for each in await cluster.list(CONFIG_MAPS, namespace) if each.metadata.name == LIMITS]


class Breaking(Through):
    """An engine that breaks over one of its runs."""

    async def submit(self, request: RunRequest) -> Run:
        if "odd" in request.origin["file"]:
            raise OverflowError("secret-canary")
        return await super().submit(request)


async def test_a_file_that_we_break_over_is_set_aside_and_what_lies_behind_it_runs(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/odd.yaml", text(job("odd")))
    person.write("queued/good.yaml", text(job("good")))
    person.push()
    serving = await trigger(remote, namespace)
    async with asyncio.timeout(BOUND):
        await serving.run_until_idle(Breaking(engine))
    assert tree(remote) == {"odd.yaml": "failed", "good.yaml": "succeeded"}
    log = git(remote, "log", "--format=%B", "main")
    assert "Reason: It can't be run (OverflowError in test_git.py:" in log
    assert "canary" not in log


async def test_a_workflow_may_name_manifests_of_its_repository(engine: ClusterEngine, namespace: str, remote: Path, person: Person) -> None:
    person.write("manifests/a.yaml", text(job("a")))
    person.write("queued/flow.yaml", text(workflow("flow", {"name": "a", "manifest": "../manifests/a.yaml"})))
    person.push()
    await until_idle(await trigger(remote, namespace), engine)
    assert tree(remote)["flow.yaml"] == "succeeded"


async def test_requeued_files_run_again_and_a_foreign_job_is_left_alone(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    await cluster.create(JOBS, namespace, job("theirs", "sleep 300"))
    person.write("queued/mine.yaml", text(job("mine", "exit 1")))
    person.write("queued/theirs.yaml", text(job("theirs")))
    person.push()
    serving = await trigger(remote, namespace)
    await until_idle(serving, engine)
    assert tree(remote) == {"mine.yaml": "failed", "theirs.yaml": "failed"}
    assert "A Job named theirs exists already" in git(remote, "log", "--format=%B", "main")
    (first,) = [each for each in await cluster.list(JOBS, namespace) if each.metadata.name == "mine"]
    # By command, and then by a person's own git mv.
    moved = await requeue(Clone(repository=serving.repository, url=serving.url), None, ["failed/mine.yaml"])
    assert [move.name for move in moved] == ["mine.yaml"]
    await until_idle(serving, engine)
    (second,) = [each for each in await cluster.list(JOBS, namespace) if each.metadata.name == "mine"]
    assert second.metadata.uid != first.metadata.uid
    person.pull()
    person.move("failed/mine.yaml", "queued/mine.yaml")
    person.push("again")
    await until_idle(serving, engine)
    (third,) = [each for each in await cluster.list(JOBS, namespace) if each.metadata.name == "mine"]
    assert third.metadata.uid != second.metadata.uid
    assert tree(remote)["mine.yaml"] == "failed"
    (foreign,) = [each for each in await cluster.list(JOBS, namespace) if each.metadata.name == "theirs"]
    assert names.RUN not in foreign.metadata.labels
    tip, look = await serving.repository.look(None)
    told = await transitions(Clone(repository=serving.repository, url=serving.url), tip, look, file="mine.yaml")
    assert [each.state for each in told] == ["failed", "processing", "failed", "processing", "queued", "failed", "processing"]
    assert len({each.run for each in told if each.run}) == 3


async def test_who_serves_one_folder_leaves_the_runs_of_another_alone(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person
) -> None:
    person.write("a/queued/x.yaml", text(job("x", "sleep 2; exit 3")))
    person.push()
    mine = await trigger(remote, namespace, base="a/")
    async with asyncio.timeout(BOUND):
        (started,) = (await mine.run_once(engine)).moves
        (run,) = await engine.runs(mine.name)
        await engine.outcome(run)
        for base in ("b/", None):  # one that is not there, and where they are looked for
            await (await trigger(remote, namespace, base=base)).run_once(engine)
        assert [each.name for each in await engine.runs(mine.name)] == [started.run], "it is not released"
        await until_idle(await trigger(remote, namespace, base="a/"), engine)
        assert "Reason: ExitCode" in git(remote, "log", "-1", "--format=%B", "main")
        # Folders that are no more are nobody's: what ran there is seen off by whoever serves the branch.
        person.pull()
        person.write("a/queued/y.yaml", text(job("y")))
        person.push()
        await (await trigger(remote, namespace, base="a/")).run_once(engine)
        person.pull()
        git(person.folder, "rm", "-r", "--quiet", "a")
        person.write("queued/.gitkeep", "")
        person.push()
        await (await trigger(remote, namespace)).run_once(engine)
        assert await engine.runs(mine.name) == []


async def test_many_who_requeue_at_once_all_have_their_way(remote: Path, person: Person) -> None:
    files = [f"failed/{number}.yaml" for number in range(6)]
    for file in files:
        person.write(file, text(job("same")))
    person.push()
    found = [await open_url(str(remote), "main", IDENTITY) for _ in files]
    async with asyncio.timeout(BOUND):
        await asyncio.gather(*(requeue(each, None, [file]) for each, file in zip(found, files, strict=True)))
    assert set(tree(remote).values()) == {"queued"}
    assert len(subjects(remote)) == 1 + len(files)


async def test_processing_is_watched_and_what_is_not_there_is_unknown(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/long.yaml", text(job("long", "sleep 300")))
    person.write("processing/by-hand.yaml", text(job("by-hand")))
    person.push()
    serving = await trigger(remote, namespace)
    async with asyncio.timeout(BOUND):
        first = await serving.run_once(engine)
        assert (first.running, len(first.moves)) == (1, 2)
        second = await serving.run_once(engine)
        assert (second.running, second.moves) == (1, ())
        assert tree(remote) == {"long.yaml": "processing", "by-hand.yaml": "unknown"}
        # Its run is deleted, Job and all: nobody knows what became of it, and it is not started anew.
        (record,) = await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR)
        await cluster.delete(CONFIG_MAPS, namespace, record.metadata.name)
    async with open_engine(cluster, SystemClock(), namespace) as later:
        await until_idle(await trigger(remote, namespace), later)
    assert tree(remote)["long.yaml"] == "unknown"
    assert await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR) == []


async def test_what_never_starts_has_failed_in_the_end_and_says_why(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person, under_test: ClusterUnderTest
) -> None:
    missing = {"envFrom": [{"secretRef": {"name": "nobody-made-it"}}]}
    person.write("queued/config.yaml", text(job("config", container=missing)))
    words = ["StartTimeout", "nobody-made-it"]
    if under_test.name == "kubernetes":  # the local cluster's processes use no images
        person.write("queued/image.yaml", text(job("image", container={"image": "registry.invalid/nothing:1"})))
        words.append("registry.invalid/nothing:1")
    person.push()
    await until_idle(await trigger(remote, namespace, start_timeout=timedelta(seconds=15)), engine)
    assert set(tree(remote).values()) == {"failed"}
    told = git(remote, "log", "--format=%B", "main")
    for each in words:
        assert each in told, told


async def test_a_commit_that_claims_another_s_run_is_not_told_its_log(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person, tmp_path: Path
) -> None:
    flow = read(workflow("theirs", step("a", "echo what-nobody-here-may-read")), tmp_path)
    theirs = await engine.submit(RunRequest(trigger="cli", key="k", workflow=flow))
    await engine.outcome(theirs)
    for number, space in enumerate((namespace, "kube-system")):
        person.write(f"processing/evil-{number}.yaml", text(job("evil")))
        trailers = ("Jobyard-File: evil-{0}.yaml", "Jobyard-State: processing", "Jobyard-Run: {1}", "Jobyard-Namespace: {2}")
        person.push("evil\n\n" + "\n".join(trailers).format(number, theirs.id, space))
    await until_idle(await trigger(remote, namespace), engine)
    assert set(tree(remote).values()) == {"unknown"}
    assert "what-nobody-here-may-read" not in git(remote, "log", "--format=%B", "main")


async def test_the_same_name_in_two_folders(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/a.yaml", text(job("a")))
    person.write("succeeded/a.yaml", text(job("older")))
    person.push()
    await until_idle(await trigger(remote, namespace), engine)
    assert git(remote, "ls-tree", "-r", "--name-only", "main").split().count("succeeded/a.yaml") == 1
    assert [each.metadata.name for each in await cluster.list(JOBS, namespace)] == ["a"]
    person.pull()
    person.write("queued/a.yaml", text(job("b")))
    person.push()
    await until_idle(await trigger(remote, namespace, drop_duplicates=True), engine)
    assert subjects(remote)[0] == "Deleting duplicated jobs"
    assert [each.metadata.name for each in await cluster.list(JOBS, namespace)] == ["a"]


async def test_a_person_who_is_faster_wins(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    """Between our look and our push a file is deleted, another edited: what was deleted never runs, and the edited one runs as it is."""
    for name in ("gone", "edited", "kept"):
        person.write(f"queued/{name}.yaml", text(job(name, "echo first")))
    person.push()
    serving = await trigger(remote, namespace)
    publish, pushes = serving.repository.publish, 0

    async def late(old: str, new: str) -> None:
        nonlocal pushes
        pushes += 1
        if pushes == 1:
            (person.folder / "queued/gone.yaml").unlink()
            person.write("queued/edited.yaml", text(job("edited", "echo second")))
            person.push("a person was faster")
        await publish(old, new)

    serving.repository.publish = late  # type: ignore[method-assign]
    await until_idle(serving, engine)
    assert tree(remote) == {"edited.yaml": "succeeded", "kept.yaml": "succeeded"}
    assert "a person was faster" in subjects(remote)
    jobs = {each.metadata.name: each for each in await cluster.list(JOBS, namespace)}
    assert set(jobs) == {"edited", "kept"}
    assert len(await cluster.list(CONFIG_MAPS, namespace, labels=names.RECORD_SELECTOR)) == 2, "what was held for nothing is forgotten"
    assert "    second" in git(remote, "log", "--format=%B", "main")


async def test_a_file_that_a_person_takes_out_of_processing_stays_where_they_put_it(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/a.yaml", text(job("a", "sleep 1")))
    person.push()
    serving = await trigger(remote, namespace)
    async with asyncio.timeout(BOUND):
        await serving.run_once(engine)
        person.pull()
        person.move("processing/a.yaml", "kept/a.yaml")
        person.push()
        (run,) = await engine.runs(serving.name)
        await engine.outcome(run)
    await until_idle(serving, engine)
    assert tree(remote) == {"a.yaml": "kept"}
    assert await engine.runs(serving.name) == [], "it is released all the same"


async def test_history_that_is_pushed_anew_and_folders_that_vanish_are_survived(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person
) -> None:
    person.write("queued/a.yaml", text(job("a")))
    person.push()
    serving = await trigger(remote, namespace)
    await until_idle(serving, engine)
    person.pull()
    git(person.folder, "reset", "--quiet", "--hard", "HEAD~2")
    git(person.folder, "push", "--quiet", "--force", "origin", "HEAD:main")
    assert tree(remote) == {"a.yaml": "queued"}
    await until_idle(serving, engine)
    assert tree(remote) == {"a.yaml": "succeeded"}
    assert len(await cluster.list(JOBS, namespace)) == 1, "the same commit queued it: it is the same run"
    person.pull()
    git(person.folder, "rm", "-r", "--quiet", "queued", "processing", "failed", "unknown")
    person.push("tidied up")
    person.write("queued/b.yaml", text(job("b")))
    person.push()
    await until_idle(serving, engine)
    assert tree(remote)["b.yaml"] == "succeeded"


async def test_a_remote_that_goes_away_and_comes_back(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person, tmp_path: Path
) -> None:
    person.write("queued/a.yaml", text(job("a")))
    person.push()
    serving = await trigger(remote, namespace)
    report = Report(serving.name, SystemClock())
    remote.rename(tmp_path / "away.git")
    with pytest.raises(GitFailed, match="git fetch failed"):
        await serving.run_once(engine)
    supervised = Supervised(serving, report, SystemClock(), Restarts(backoff=Backoff(first=0.02, longest=0.2)))
    task = asyncio.create_task(supervised.run(engine))
    async with asyncio.timeout(BOUND):
        while report.health.failures < 3:
            await report.changed.wait()
        assert "git fetch failed" in report.health.error
        (tmp_path / "away.git").rename(remote)
        while tree(remote)["a.yaml"] != "succeeded":
            serving.wanted.set()
            await asyncio.sleep(0.05)
        git(remote, "branch", "-m", "main", "elsewhere")
        serving.wanted.set()
        while "couldn't find remote ref" not in report.health.error:
            await report.changed.wait()
        git(remote, "branch", "-m", "elsewhere", "main")
        while report.health.error and report.health.stage != "running":
            await report.changed.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_two_that_serve_one_branch_make_one_job_each(
    cluster: HttpCluster, namespace: str, remote: Path, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        person.write(f"queued/{number}.yaml", text(job(f"job-{number}")))
    person.push()

    async def serve(number: int, address: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{number}"))
        serving = await trigger(address, namespace)
        async with open_engine(cluster, SystemClock(), namespace) as engine:
            await until_idle(serving, engine)

    # Two know it by the same address, one by another: its runs have other names, and still each file is one Job.
    await asyncio.gather(serve(1, str(remote)), serve(2, str(remote)), serve(3, f"file://{remote}"))
    assert set(tree(remote).values()) == {"succeeded"}
    made = await cluster.list(JOBS, namespace)
    assert len(made) == len({each.metadata.name for each in made}) == 5
    told = [each for text_ in git(remote, "log", "--format=%B%x00", "main").split("\0") for each in moves.read(text_)]
    assert len(told) == 10, "each file moved twice, whoever moved it"


async def test_what_was_left_in_a_namespace_that_is_opened_late_is_seen_to(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person, tmp_path: Path
) -> None:
    """A service opens its namespaces one by one, and serves meanwhile."""
    person.write("queued/.gitkeep", "")
    person.push()
    serving = await trigger(remote, "default", policy=Policy(default_namespace="default", namespaces=frozenset([namespace])))
    flow = read(workflow("left", step("a")), tmp_path)
    left = await engine.submit(RunRequest(trigger=serving.name, key="never pushed", workflow=flow, namespace=namespace, held=True))
    async with open_engine(cluster, SystemClock(), "default") as another:
        looking = asyncio.create_task(serving.run(another))
        await until_gone(cluster, CONFIG_MAPS, namespace, left.name)
        looking.cancel()


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    if not remotes.find_sshd():
        pytest.skip("sshd is missing: apt-get install openssh-server")
    with remotes.ssh(tmp_path_factory.mktemp("ssh")) as server:
        yield server


async def test_over_ssh(
    engine: ClusterEngine,
    namespace: str,
    remote: Path,
    person: Person,
    ssh_server: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    address, key = ssh_server
    anybody = "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    command = f"{anybody} -o IdentitiesOnly=yes"
    person.write("queued/a.yaml", text(job("a")))
    person.push()
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{command} -i /nonexistent")
    async with asyncio.timeout(BOUND):
        with pytest.raises(GitFailed, match="Permission denied"):
            await (await trigger(f"{address}{remote}", namespace)).run_once(engine)
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{command} -i {key}")
    await until_idle(await trigger(f"{address}{remote}", namespace), engine)
    assert tree(remote) == {"a.yaml": "succeeded"}
    person.pull()
    person.write("queued/b.yaml", text(job("b")))
    person.push()
    monkeypatch.setenv("GIT_SSH_COMMAND", anybody)
    with remotes.ssh_agent(tmp_path, key) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        await until_idle(await trigger(f"{address}{remote}", namespace), engine)
    assert tree(remote)["b.yaml"] == "succeeded"


async def test_over_https_by_a_credential_helper_and_by_a_program_that_is_asked(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    git(remote, "config", "http.receivepack", "true")
    person.write("queued/a.yaml", text(job("a")))
    person.push()
    with remotes.http(remote.parent, server_context(tmp_path)) as address:
        url = f"{address}/remote.git"
        async with asyncio.timeout(BOUND):
            with pytest.raises(GitFailed, match="certificate"):
                await (await trigger(url, namespace)).run_once(engine)
        monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "ca.crt"))
        async with asyncio.timeout(BOUND):
            with pytest.raises(GitFailed, match="could not read Username"):
                await (await trigger(url, namespace)).run_once(engine)
        (tmp_path / "store").write_text(f"{url.replace('://', f'://{remotes.USER}:{remotes.PASSWORD}@')}\n")
        for name, value in (("COUNT", "1"), ("KEY_0", "credential.helper"), ("VALUE_0", f"store --file={tmp_path / 'store'}")):
            monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
        await until_idle(await trigger(url, namespace), engine)
        assert tree(remote) == {"a.yaml": "succeeded"}
        monkeypatch.setenv("GIT_CONFIG_COUNT", "0")
        asked = tmp_path / "asked"
        asked.write_text(f'#!/bin/sh\ncase "$1" in Username*) echo {remotes.USER} ;; *) echo {remotes.PASSWORD} ;; esac\n')
        asked.chmod(0o755)
        monkeypatch.setenv("GIT_ASKPASS", str(asked))
        person.pull()
        person.write("queued/b.yaml", text(job("b")))
        person.push()
        await until_idle(await trigger(url, namespace), engine)
    assert tree(remote)["b.yaml"] == "succeeded"


async def test_over_http_with_a_password(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(remote, "config", "http.receivepack", "true")
    person.write("queued/a.yaml", text(job("a")))
    person.push()
    with remotes.http(remote.parent) as address:
        url = f"{address}/remote.git"
        monkeypatch.setenv("GIT_USERNAME", remotes.USER)
        monkeypatch.setenv("GIT_PASSWORD", "wrong-password")
        async with asyncio.timeout(BOUND):
            with pytest.raises(GitFailed, match="Authentication failed") as refused:
                await (await trigger(url, namespace)).run_once(engine)
        assert "wrong-password" not in str(refused.value)
        assert "GIT_USERNAME and GIT_PASSWORD" in str(refused.value)
        monkeypatch.setenv("GIT_PASSWORD", remotes.PASSWORD)
        monkeypatch.setenv("GIT_ASKPASS", "/home/goji/askpass.py")  # as goji's chart sets it
        await until_idle(await trigger(url, namespace), engine)
        monkeypatch.delenv("GIT_PASSWORD")
        person.pull()
        person.write("queued/b.yaml", text(job("b")))
        person.push()
        inside = url.replace("http://", f"http://{remotes.USER}:{remotes.PASSWORD}@")
        await until_idle(await trigger(inside, namespace), engine)
    assert tree(remote) == {"a.yaml": "succeeded", "b.yaml": "succeeded"}
    seen = str(await cluster.list(CONFIG_MAPS, namespace)) + git(remote, "log", "--format=%B", "main")
    assert remotes.PASSWORD not in seen


async def test_shallow_and_partial_clones_and_signed_commits(
    engine: ClusterEngine, namespace: str, remote: Path, person: Person, tmp_path: Path
) -> None:
    git(remote, "config", "uploadpack.allowFilter", "true")
    person.write("queued/a.yaml", text(job("a", "sleep 2")))
    person.push()
    async with asyncio.timeout(BOUND):
        await (await trigger(remote, namespace)).run_once(engine)
    person.pull()
    for number in range(3):  # the commit that claimed the file is beyond what the shallow clone has
        person.write("notes", str(number))
        person.push()
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{remote}", "shallow")
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", f"file://{remote}", "partial")
    shallow = await open_here(tmp_path / "shallow", None, IDENTITY)
    await until_idle(GitTrigger(shallow.repository, Settings(policy=Policy(default_namespace=namespace)), str(remote)), engine)
    assert tree(remote)["a.yaml"] == "succeeded"
    assert (tmp_path / "shallow/succeeded/a.yaml").exists(), "a clone that a person works in follows"
    partial = await open_here(tmp_path / "partial", None, IDENTITY)
    person.pull()
    person.write("queued/b.yaml", text(job("b")))
    person.push()
    await until_idle(of(partial, namespace), engine)
    assert tree(remote)["b.yaml"] == "succeeded"
    await _sign(tmp_path, partial)
    person.pull()
    person.write("queued/c.yaml", text(job("c")))
    person.push()
    await until_idle(of(partial, namespace), engine)
    assert "-----BEGIN SSH SIGNATURE-----" in git(remote, "cat-file", "commit", "main")


async def _sign(folder: Path, found: Clone) -> None:
    import subprocess

    key = folder / "signing"
    await asyncio.to_thread(subprocess.run, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    for name, value in (("gpg.format", "ssh"), ("user.signingkey", str(key)), ("commit.gpgsign", "true")):
        git(found.repository.source.folder, "config", name, value)


async def test_a_repository_without_a_remote(engine: ClusterEngine, namespace: str, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", "alone")
    folder = tmp_path / "alone"
    (folder / "queued").mkdir()
    (folder / "queued/a.yaml").write_text(text(job("a")))
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "work")
    (folder / "scratch.txt").write_text("mine")
    await until_idle(of(await open_here(folder, None, IDENTITY), namespace), engine)
    assert (folder / "succeeded/a.yaml").exists()
    assert not (folder / "queued/a.yaml").exists()
    assert (folder / "scratch.txt").read_text() == "mine"
    assert git(folder, "status", "--short").strip() == "?? scratch.txt"


async def test_limits_keep_files_in_the_queue(
    engine: ClusterEngine, cluster: HttpCluster, namespace: str, remote: Path, person: Person, under_test: ClusterUnderTest
) -> None:
    for number in range(3):
        person.write(f"queued/{number}.yaml", text(workflow("one-at-a-time", step("a", "sleep 0.5"), maxRuns=1)))
    person.push()
    serving = await trigger(remote, namespace)
    async with asyncio.timeout(BOUND):
        first = await serving.run_once(engine)
    assert (len(first.moves), first.waiting) == (1, 2)
    async with asyncio.timeout(BOUND):
        while set(tree(remote).values()) != {"succeeded"}:
            await serving.run_once(engine)

"""What is missing for a while: a RoleBinding that is replaced, a token that is renewed, a policy that refuses, a quota that is full.

A service waits, says so, and goes on; a command gives up after its bound. What a policy refuses is for good, after three tries.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import yaml

from jobyard.cluster.client import HttpCluster, open_cluster
from jobyard.cluster.kubeconfig import connect
from jobyard.cluster.rights import needed, rbac
from jobyard.engine.clock import SystemClock
from jobyard.engine.engine import ClusterEngine, open_engine
from jobyard.engine.face import page
from jobyard.engine.namespace import Options
from jobyard.engine.refusal import ADMISSION_WAIT
from jobyard.model.errors import Forbidden, Rejected, Unauthorized, Unavailable, innermost
from jobyard.model.objects import JOBS, Manifest
from jobyard.model.run import Reason, Run, State
from jobyard.patience import Backoff, patiently
from tests.conftest import KUBERNETES, ClusterUnderTest
from tests.flows import read
from tests.manifests import Tree, job, step, workflow
from tests.restricted import restricted_kubeconfig
from tests.tours import asks, plain
from tests.waiting import BOUND, until_job

OFTEN = Backoff(first=0.2, longest=0.5)
GIVES_UP = Options(gives_up=timedelta(seconds=2))


@pytest.fixture(autouse=True)
def _real(under_test: ClusterUnderTest) -> None:
    if under_test.name != KUBERNETES:
        pytest.skip("the local cluster has no RBAC and no admission policies")


class NotYet(Unavailable):
    """What is waited for has not come."""


@dataclass(frozen=True, kw_only=True)
class Guest:
    """An account whose rights, or whose token, the administrator takes away and gives back."""

    admin: HttpCluster
    namespace: str
    kubeconfig: Path

    async def call(self, method: str, path: str, body: Manifest | None = None) -> Tree:
        text = msgspec.json.encode(body) if body else None
        answer: Tree = msgspec.json.decode(await self.admin.call(method, path, f"{method} {path}", body=text))
        return answer

    # --- the RoleBinding ---

    async def take_rights(self) -> None:
        await self.call("DELETE", f"{self._rbac}/jobyard")
        await self._until(lambda cluster: self._may(cluster, False))

    async def give_rights(self) -> None:
        (binding,) = (each for each in rbac(self.namespace) if each["kind"] == "RoleBinding")
        await self.call("POST", self._rbac, binding)

    @property
    def _rbac(self) -> str:
        return f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}/rolebindings"

    async def _may(self, cluster: HttpCluster, wanted: bool) -> bool:
        return await cluster.may("create", JOBS, self.namespace) is wanted

    # --- the token: it holds as long as a Secret is there ---

    async def renew_token(self) -> None:
        """A new token in the file, beside the Secret that it hangs on."""
        secrets = f"/api/v1/namespaces/{self.namespace}/secrets"
        made = await self.call("POST", secrets, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}})
        bound = {"kind": "Secret", "apiVersion": "v1", "name": "token", "uid": made["metadata"]["uid"]}
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/jobyard/token"
        self.token.write_text((await self.call("POST", path, asked))["status"]["token"])

    async def revoke_token(self) -> None:
        """The API server remembers for ten seconds that a token was good."""
        await self.call("DELETE", f"/api/v1/namespaces/{self.namespace}/secrets/token")
        await self._until(self._is_unknown)

    async def _is_unknown(self, cluster: HttpCluster) -> bool:
        try:
            await cluster.list(JOBS, self.namespace)
        except Unauthorized:
            return True
        return False

    @property
    def token(self) -> Path:
        return self.kubeconfig.with_suffix(".token")

    async def _until(self, holds: Callable[[HttpCluster], Awaitable[bool]]) -> None:
        async with open_cluster(connect(kubeconfig=str(self.kubeconfig))) as cluster:

            async def look() -> None:
                if not await holds(cluster):
                    raise NotYet(server="", what="is as it was")

            await patiently(look, over=(NotYet,), backoff=OFTEN, seconds=BOUND)


@pytest.fixture
async def guest(under_test: ClusterUnderTest, cluster: HttpCluster, namespace: str, tmp_path: Path) -> Guest:
    target = tmp_path / "kubeconfig"
    await restricted_kubeconfig(cluster, under_test.kubeconfig, namespace, target, needed(("run",)))
    made = Guest(admin=cluster, namespace=namespace, kubeconfig=target)
    await made.renew_token()
    tree = yaml.safe_load(target.read_text())
    tree["users"] = [{"name": each["name"], "user": {"tokenFile": str(made.token)}} for each in tree["users"]]
    target.write_text(yaml.safe_dump(tree))
    return made


@asynccontextmanager
async def engine_of(guest: Guest, options: Options) -> AsyncIterator[ClusterEngine]:
    async with (
        asyncio.timeout(BOUND),
        open_cluster(connect(kubeconfig=str(guest.kubeconfig))) as cluster,
        open_engine(cluster, SystemClock(), guest.namespace, options) as engine,
    ):
        yield engine


async def waiting_run(guest: Guest, engine: ClusterEngine, folder: Path) -> tuple[Run, str]:
    """A run of two steps whose first waits for us, and that step's Job."""
    flow = read(workflow("w", step("a", spec={"suspend": True}), step("b", "true", "a")), folder)
    run = await engine.submit(asks(flow, uuid.uuid4().hex))
    return run, await until_job(guest.admin, guest.namespace, run)


async def until_said(engine: ClusterEngine, run: Run, words: str) -> None:
    """Returns when the run's view says why it does not go on."""
    async with engine.changes(run) as changed:
        while (view := engine.driven(run)) is None or words not in view.unreachable + " ".join(each.message for each in view.steps):
            await changed.wait()


RESUME = {"spec": {"suspend": False}}


async def test_a_service_waits_for_its_role_binding(guest: Guest, tmp_path: Path) -> None:
    async with engine_of(guest, Options()) as engine:
        run, first = await waiting_run(guest, engine, tmp_path)
        driving = asyncio.create_task(engine.outcome(run))
        await guest.take_rights()
        with pytest.raises(Unavailable, match=r"rights? (is|are) missing in namespace .*: Jobyard may not create jobs.batch"):
            await engine.submit(asks(plain(job("new")), "new"))
        await guest.admin.patch(JOBS, guest.namespace, first, RESUME)
        await until_said(engine, run, "cannot")
        await guest.give_rights()
        assert (await driving).state is State.SUCCEEDED
        await engine.release(run)
        new = await engine.submit(asks(plain(job("new")), "new"))
        assert (await engine.outcome(new)).state is State.SUCCEEDED


async def test_a_service_that_starts_before_its_role_binding_knows_of_its_records(guest: Guest, tmp_path: Path) -> None:
    async with engine_of(guest, Options()) as engine:
        run, first = await waiting_run(guest, engine, tmp_path)
    await guest.take_rights()

    async def start() -> State:
        async with engine_of(guest, Options()) as engine:
            assert [each.id for each in await engine.runs("queue")] == [run.id], "ConfigMaps are not taken for left out"
            await guest.admin.patch(JOBS, guest.namespace, first, RESUME)
            return (await engine.outcome(run)).state

    starting = asyncio.create_task(start())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await asyncio.shield(starting)
    await guest.give_rights()
    assert await starting is State.SUCCEEDED


async def test_a_service_waits_for_its_token(guest: Guest, tmp_path: Path) -> None:
    async with engine_of(guest, Options()) as engine:
        run, first = await waiting_run(guest, engine, tmp_path)
        driving = asyncio.create_task(engine.outcome(run))
        await guest.revoke_token()
        with pytest.raises(Unavailable, match=r"does not accept Jobyard's credentials"):
            await engine.submit(asks(plain(job("new")), "new"))
        await guest.admin.patch(JOBS, guest.namespace, first, RESUME)
        await until_said(engine, run, "credentials")
        await guest.renew_token()
        assert (await driving).state is State.SUCCEEDED
        await engine.release(run)


async def test_a_release_waits_too(guest: Guest) -> None:
    async with engine_of(guest, Options()) as engine:
        run = await engine.submit(asks(plain(job("one")), "one"))
        await engine.outcome(run)
        await guest.take_rights()
        releasing = asyncio.create_task(engine.release(run))
        await guest.give_rights()
        await releasing
        assert await engine.runs("queue") == []


async def test_a_list_of_runs_that_is_refused_is_no_empty_list(guest: Guest) -> None:
    await guest.take_rights()
    async with open_cluster(connect(kubeconfig=str(guest.kubeconfig))) as cluster:
        with pytest.raises(Forbidden):
            await page(cluster, SystemClock(), guest.namespace)


@pytest.mark.parametrize("lost", ["rights", "token"])
async def test_a_command_gives_up_with_exit_code_3(guest: Guest, tmp_path: Path, lost: str) -> None:
    error: type[Rejected] = Forbidden if lost == "rights" else Unauthorized
    async with engine_of(guest, GIVES_UP) as engine:
        run, first = await waiting_run(guest, engine, tmp_path)
        driving = asyncio.create_task(engine.outcome(run))
        await (guest.take_rights() if lost == "rights" else guest.revoke_token())
        begun = asyncio.get_running_loop().time()
        with pytest.raises(error) as submitting:
            await engine.submit(asks(plain(job("new")), "new", waits=False))
        assert asyncio.get_running_loop().time() - begun >= 2
        await guest.admin.patch(JOBS, guest.namespace, first, RESUME)
        with pytest.raises(error) as told:
            await driving
    assert (submitting.value.exit_code, told.value.exit_code) == (3, 3)
    with pytest.raises(ExceptionGroup) as opening:
        async with engine_of(guest, GIVES_UP):
            pass
    assert isinstance(innermost(opening.value), error)


# --- what is refused though we may ---


def policy(name: str, namespace: str) -> list[tuple[str, Manifest]]:
    """A policy for this namespace alone: Jobs named `bad` are refused, as missing rights are: by a 403."""
    group = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    refuses = {"expression": "!object.metadata.name.startsWith('bad')", "message": "no bad Jobs here", "reason": "Forbidden"}
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        (
            "validatingadmissionpolicies",
            {
                **group,
                "kind": "ValidatingAdmissionPolicy",
                "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [refuses]},
            },
        ),
        (
            "validatingadmissionpolicybindings",
            {
                **group,
                "kind": "ValidatingAdmissionPolicyBinding",
                "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": chosen}},
            },
        ),
    ]


@pytest.fixture
async def _no_bad_jobs(cluster: HttpCluster, namespace: str) -> AsyncIterator[None]:
    api = "/apis/admissionregistration.k8s.io/v1"
    made = policy(f"jobyard-{namespace}", namespace)
    for plural, manifest in made:
        await cluster.call("POST", f"{api}/{plural}", f"create {plural}", body=msgspec.json.encode(manifest))
    async with asyncio.timeout(BOUND):
        while True:
            try:
                await cluster.create(JOBS, namespace, job("bad"), dry_run=True)
            except Forbidden:
                break
    yield
    for plural, manifest in made:
        await cluster.call("DELETE", f"{api}/{plural}/{manifest['metadata']['name']}", f"delete {plural}")


@pytest.mark.usefixtures("_no_bad_jobs")
async def test_a_policy_refuses_for_good_and_a_quota_waits(guest: Guest, tmp_path: Path) -> None:
    async with engine_of(guest, Options()) as engine:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        seen = await engine.submit(asks(plain(job("bad")), "seen", waits=False))
        two = read(workflow("w", step("bad"), step("b", "true", "bad")), tmp_path)
        steps = await engine.submit(asks(two, "steps"))
        ends = asyncio.gather(engine.outcome(seen), engine.outcome(steps))
        submitting = asyncio.create_task(engine.submit(asks(plain(job("bad")), "told")))
        quota = f"/api/v1/namespaces/{guest.namespace}/resourcequotas"
        await until_said(engine, steps, "no bad Jobs here")
        hard = {"metadata": {"name": "q"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
        await guest.call("POST", quota, hard)
        await _until_full(guest)
        waiting = await engine.submit(asks(plain(job("good")), "good", waits=False))
        late = asyncio.create_task(engine.outcome(waiting))
        await until_said(engine, waiting, "exceeded quota")
        await guest.call("DELETE", f"{quota}/q")
        assert (await late).state is State.SUCCEEDED
        with pytest.raises(Rejected, match="no bad Jobs here"):
            await submitting
        for outcome in await ends:
            assert outcome.state is State.FAILED
            (step_,) = (each for each in outcome.view.steps if each.name == "bad")
            assert step_.reason == Reason.REFUSED
            assert "no bad Jobs here" in step_.message
        assert 2 * ADMISSION_WAIT.total_seconds() <= loop.time() - begun <= 90


async def _until_full(guest: Guest) -> None:
    """The quota counts a moment after it was made."""
    async with asyncio.timeout(BOUND):
        while True:
            try:
                await guest.admin.create(JOBS, guest.namespace, job("probe"), dry_run=True)
            except Rejected:
                return

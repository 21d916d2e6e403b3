"""The rights that each part is given, as data; and that what is missing is named before anything begins."""

from __future__ import annotations

from typing import Any

import pytest

from jobyard import access
from jobyard.access import RUN, demand, lacking
from jobyard.cluster.rights import PARTS, KindRefused, UnknownKind, needed, rbac
from jobyard.contracts import Cluster
from jobyard.model.errors import MissingRights, Unauthorized, Unavailable
from jobyard.model.objects import Kind

ALL = "create get list watch patch delete"
RECORDS = {"jobs.batch": ALL, "configmaps": ALL, "pods": "list watch delete", "pods/log": "get", "events": "list watch"}
QUEUE = {"jobs.batch": ALL, "pods": "list watch delete", "pods/log": "get"}
LEASES = {"leases.coordination.k8s.io": "create get patch"}


def table(*parts: str, secrets: bool = False, kinds: tuple[str, ...] = ()) -> dict[str, str]:
    """A set of rights as a person reads it."""
    rights = needed(parts, secrets=secrets, kinds=kinds)
    assert all(right.why for right in rights)
    return {f"{each.resource}.{each.group}".rstrip("."): " ".join(each.verbs) for each in rights}


@pytest.mark.parametrize(
    ("part", "plain", "with_secrets"),
    [
        ("run", RECORDS, RECORDS | {"secrets": "create"}),
        ("git", RECORDS | LEASES, RECORDS | LEASES | {"secrets": "create get delete"}),
        ("pgboss", QUEUE, QUEUE),
        ("amqp", RECORDS | LEASES, RECORDS | LEASES | {"secrets": "create"}),
        ("page", RECORDS, RECORDS),
    ],
)
def test_each_part_has_its_rights(part: str, plain: dict[str, str], with_secrets: dict[str, str]) -> None:
    assert table(part) == plain
    assert table(part, secrets=True) == with_secrets


def test_all_parts_together_ask_for_each_resource_once_and_for_no_secret() -> None:
    assert table(*PARTS) == RECORDS | LEASES
    assert table(*PARTS, secrets=True) == RECORDS | LEASES | {"secrets": "create get delete"}


def test_amqp_can_do_without_all_but_what_pgboss_has_too() -> None:
    assert {f"{each.resource}.{each.group}".rstrip(".") for each in needed(["amqp"]) if each.without} == {
        "pods/log",
        "configmaps",
        "events",
        "leases.coordination.k8s.io",
    }


def test_what_one_part_needs_may_not_be_left_out_because_another_can_do_without() -> None:
    assert [each.resource for each in needed(["amqp", "run"]) if each.without] == ["events", "leases"]


@pytest.mark.parametrize(
    ("kind", "resource", "verbs"),
    [
        ("Service", "services", "create get delete"),
        ("ResourceClaimTemplate", "resourceclaimtemplates.resource.k8s.io", "create get delete"),
        ("PersistentVolumeClaim", "persistentvolumeclaims", "create"),
        ("ServiceAccount", "serviceaccounts", "create"),
        ("rayclusters.ray.io", "rayclusters.ray.io", "create get delete"),
    ],
)
def test_a_kind_adds_exactly_what_it_needs(kind: str, resource: str, verbs: str) -> None:
    assert table("pgboss", kinds=(kind,)) == QUEUE | {resource: verbs}


def test_kinds_that_are_there_already_are_merged() -> None:
    assert table("amqp", secrets=True, kinds=("Secret", "ConfigMap"))["secrets"] == "create get delete"


@pytest.mark.parametrize(
    ("kind", "error", "words"), [("service", UnknownKind, "did you mean Service"), ("Role", KindRefused, "apply them first")]
)
def test_other_kinds_are_refused_with_a_remedy(kind: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        needed(kinds=(kind,))


class Says:
    """A cluster that answers reviews, and is asked nothing else."""

    def __init__(self, answer: bool | Exception | None, *refused: str) -> None:
        self.answer = answer
        self.refused = refused
        self.asked: list[str] = []

    async def may(self, verb: str, kind: Kind[Any], namespace: str, *, subresource: str = "") -> bool | None:
        what = f"{verb} {kind.plural}.{kind.group}".rstrip(".")
        self.asked.append(what)
        if what in self.refused:
            return False
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def ask(says: Any) -> None:
    cluster: Cluster = says
    await demand(cluster, "n")


async def test_missing_rights_are_named_with_what_to_do() -> None:
    says = Says(True, "create jobs.batch", "watch pods")
    with pytest.raises(MissingRights) as told:
        await ask(says)
    assert str(told.value).startswith("no right to create jobs.batch, watch pods in namespace n. `jobyard manifests --rbac -n n | kubectl")
    assert told.value.exit_code == 3
    assert len(says.asked) == sum(len(each.verbs) for each in RUN)


@pytest.mark.parametrize("answer", [True, None, Unavailable(server="s", what="is away")], ids=str)
async def test_where_the_cluster_does_not_say_it_goes_on(answer: bool | Exception | None) -> None:
    await ask(Says(answer))


@pytest.mark.parametrize(
    ("says", "missing"),
    [
        (Says(True), []),
        (Says(None), None),
        (Says(None, "patch configmaps"), ["patch configmaps"]),
        (Says(True, "create jobs.batch", "watch configmaps"), ["create jobs.batch", "watch configmaps"]),
        (Says(Unauthorized(action="review", status=401, reason="Unauthorized", message="")), None),
    ],
    ids=["all", "unsaid", "one unsaid", "two", "who are you"],
)
async def test_what_a_review_says_is_told_from_what_it_does_not_say(says: Any, missing: list[str] | None) -> None:
    assert await lacking(says, "n", [access.JOB_RECORDS, access.RECORDS]) == missing


def test_an_account_of_another_namespace_is_bound_and_none_is_made() -> None:
    role, binding = rbac("reports", "jobyard", needed(["run"]), ("jobs", "yard"))
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "reports")
    assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) == ("reports", "jobyard")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "yard", "namespace": "jobs"}]

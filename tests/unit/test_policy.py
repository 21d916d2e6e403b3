"""What the files of a repository may ask for, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobyard.model.pod_level import PodLevel
from jobyard.triggers.git.manifests import Unread, read_queued
from jobyard.triggers.git.policy import Policy
from tests.manifests import Tree, job, workflow
from tests.pod_mutants import makers, pod

ANYTHING = Policy(default_namespace="default", namespaces=None, kinds=None, pods=PodLevel.ANY, service_accounts=None, finalizers=True)
"""As `compat goji` has it."""


def said(root: Path, policy: Policy | None = None, /, **files: str) -> list[str]:
    """What is wrong with the queued file `x`, which may name the others."""
    for name, text in files.items():
        path = root / ("queued/x.yaml" if name == "x" else f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    asked = Unread(path=str(root / "queued/x.yaml"), root=str(root), policy=policy or Policy(default_namespace="default"))
    return [str(finding) for finding in read_queued(asked).mistakes]


def text(*trees: Tree) -> str:
    return yaml.safe_dump_all(trees)


def allowing(**more: Any) -> Policy:
    return Policy(default_namespace="default", **more)


HOST_PATH = job("disk", pod={"volumes": [{"name": "root", "hostPath": {"path": "/"}}]})
PRIVILEGED = job("strong", container={"securityContext": {"privileged": True}})
MAP: Tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}


def test_a_repository_begins_with_baseline(tmp_path: Path) -> None:
    assert said(tmp_path, x=text(job("plain"))) == []
    (mistake,) = said(tmp_path, x=text(HOST_PATH))
    assert mistake == (
        "queued/x.yaml:22:11: a mapping as spec.template.spec.volumes[0].hostPath, which pods: baseline forbids, expected a volume of another"
        " kind; change or remove it, or allow it: --pods any (in a service's settings: pods: any)"
    )
    assert said(tmp_path, allowing(pods=PodLevel.ANY), x=text(HOST_PATH)) == []
    assert len(said(tmp_path, allowing(pods=PodLevel.RESTRICTED), x=text(job("plain")))) == 4


def test_manifests_that_a_workflow_names_are_judged_once_and_under_their_own_names(tmp_path: Path) -> None:
    steps: list[Tree] = [{"name": name, "manifest": "../strong.yaml"} for name in ("a", "b")]
    flow = workflow("flow", *steps, {"name": "c", "job": {"spec": job("c")["spec"]}, "revert": "../disk.yaml"})
    mistakes = said(tmp_path, x=text(flow), strong=text(PRIVILEGED), disk=text(HOST_PATH))
    assert [each.partition(",")[0] for each in mistakes] == [
        "strong.yaml:19:23: true as spec.template.spec.containers[0].securityContext.privileged",
        "disk.yaml:22:11: a mapping as spec.template.spec.volumes[0].hostPath",
    ]


def test_what_a_step_may_fill_in_decides_nothing_of_a_pod_s_power(tmp_path: Path) -> None:
    def flow(**spec: Any) -> str:
        parameters = [{"name": "x", "default": "y"}]
        return text(workflow("flow", {"name": "a", "job": {"spec": job("a", pod=spec)["spec"]}}, parameters=parameters))

    assert said(tmp_path, x=flow(nodeSelector={"zone": "{{ params.x }}"})) == []
    for spec in ({"hostPID": "{{ params.x }}"}, {"securityContext": "{{ params.x }}"}, {"serviceAccountName": "{{ params.x }}"}):
        assert said(tmp_path, x=flow(**spec)), spec
        assert said(tmp_path, ANYTHING, x=flow(**spec)) == []
    whole = text(workflow("flow", {"name": "a", "job": {"metadata": "{{ params.x }}", "spec": {"template": "{{ params.x }}"}}}))
    open_but_for_one: list[dict[str, Any]] = [{"pods": PodLevel.BASELINE}, {"service_accounts": frozenset()}, {"finalizers": False}]
    for more in open_but_for_one:
        told = "".join(said(tmp_path, replace(ANYTHING, **more), x=whole))
        for place in ("metadata", "spec.template"):
            assert f"as {place}, which is judged before it runs" in told
    assert "which is judged before it runs" not in "".join(said(tmp_path, ANYTHING, x=whole))


@pytest.mark.parametrize("maker", makers(pod(hostPID=True)), ids=lambda each: str(each["kind"]))
def test_pods_of_objects_beside_jobs_are_judged_too(tmp_path: Path, maker: Tree) -> None:
    if maker["kind"] == "Job":
        maker = {**maker, "metadata": {"name": "other"}}
    mistakes = said(tmp_path, allowing(kinds=None), x=text(maker, job("plain")))
    assert len(mistakes) == 1
    assert "spec.hostPID, which pods: baseline forbids" in mistakes[0]
    assert said(tmp_path, ANYTHING, x=text(maker, job("plain"))) == []


def test_a_kind_of_unknown_pods_is_allowed_by_its_full_name_alone(tmp_path: Path) -> None:
    ray: Tree = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "x"}}
    x = text(ray, job("plain"))
    for kinds in (None, frozenset(["Job", "RayJob"])):
        (mistake,) = said(tmp_path, allowing(kinds=kinds), x=x)
        assert "kind RayJob of ray.io/v1, whose pods can't be judged while pods: baseline holds" in mistake
        assert mistake.endswith("; take it out, or allow it by name: --allow-kind RayJob.ray.io (in a service's settings: kinds)")
    assert said(tmp_path, allowing(kinds=frozenset(["Job", "RayJob.ray.io"])), x=x) == []
    assert said(tmp_path, allowing(kinds=None, pods=PodLevel.ANY), x=x) == []
    knative: Tree = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "x"}}
    assert said(tmp_path, allowing(kinds=frozenset(["Job", "Service"])), x=text(knative, job("plain")))
    harmless: Tree = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    assert said(tmp_path, allowing(kinds=frozenset(["Job", "Service"])), x=text(harmless, job("plain"))) == []


@pytest.mark.parametrize("key", ["serviceAccountName", "serviceAccount"])
def test_a_pod_has_the_default_service_account_or_one_that_is_allowed(tmp_path: Path, key: str) -> None:
    (mistake,) = said(tmp_path, x=text(job("a", pod={key: "jobyard"})))
    assert 'service account "jobyard", which is not allowed in this repository, expected one of default; remove it' in mistake
    assert mistake.startswith("queued/x.yaml:")
    assert said(tmp_path, x=text(job("a", pod={key: "default"}))) == []
    assert said(tmp_path, allowing(service_accounts=frozenset(["jobyard"])), x=text(job("a", pod={key: "jobyard"}))) == []
    assert said(tmp_path, allowing(service_accounts=None), x=text(job("a", pod={key: "jobyard"}))) == []


def test_nor_does_a_secret_fetch_the_token_of_another(tmp_path: Path) -> None:
    def token(name: str) -> str:
        annotations = {"kubernetes.io/service-account.name": name}
        metadata = {"name": "t", "annotations": annotations}
        return text({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token", "metadata": metadata}, job("a"))

    (mistake,) = said(tmp_path, x=token("jobyard"))
    assert 'service account "jobyard", whose token this Secret asks for, expected one of default' in mistake
    assert said(tmp_path, x=token("default")) == []
    assert said(tmp_path, allowing(service_accounts=frozenset(["jobyard"])), x=token("jobyard")) == []


def test_finalizers_are_refused_wherever_metadata_stand(tmp_path: Path) -> None:
    held = {"finalizers": ["example.com/keep"]}
    of_job, of_map, of_pods = job("a"), {**MAP, "metadata": {"name": "x", **held}}, job("b")
    of_job["metadata"] |= held
    of_pods["spec"]["template"]["metadata"] = held
    mistakes = said(tmp_path, x=text(of_job, of_map, of_pods))
    assert [each.partition(": ")[2].partition(",")[0] for each in mistakes] == [
        "metadata.finalizers",
        "spec.template.metadata.finalizers",
        "metadata.finalizers",
    ]
    assert said(tmp_path, allowing(finalizers=True), x=text(of_job, of_map, of_pods)) == []

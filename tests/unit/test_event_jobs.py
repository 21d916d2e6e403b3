"""kubernetes-event-jobs' variables and ConfigMap, with every default and quirk."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.compat.event_jobs import EnvironmentWrong, read_entries, read_entry, read_environment, served, take
from jobyard.triggers.amqp.form import Form
from jobyard.triggers.amqp.settings import QueueSettings


def read(text: str, queue: str = "customer-created", **variables: str) -> tuple[QueueSettings | None, list[str]]:
    entry = read_entry(queue, text, "ConfigMap c, q", read_environment(variables))
    return entry.settings, [str(each) for each in entry.findings]


def good(text: str, **variables: str) -> tuple[QueueSettings, Form]:
    found, said = read(text, **variables)
    assert found is not None, said
    assert isinstance(found.job, Form)
    return found, found.job


# --- the environment ---


def test_without_variables_the_originals_defaults_hold() -> None:
    found = read_environment({})
    assert found.brokers.urls == ("amqp://guest:guest@localhost:5672/",)
    assert (found.config_namespaces, found.job_namespace, found.config_map) == (("default",), "default", "event-job-provisioner-configs")
    assert (found.registry, found.reloads, found.restricted, found.log_level) == ("", True, False, "info")


def test_all_variables() -> None:
    found = read_environment(
        {
            "AMQP_HOST": "rabbit",
            "AMQP_PORT": "5673",
            "AMQP_USERNAME": "me",
            "AMQP_PASSWORD": "p@/w",
            "DOCKER_REGISTRY": "r.io",
            "POD_NAMESPACE": "apps",
            "CONFIG_MAP_NAMESPACES": "team-a, team-b,apps",
            "KUBERNETES_JOB_SCOPE": "jobs",
            "CONFIG_MAP_NAME": "queues",
            "RELOAD_ENABLED": "off",
            "POD_SECURITY": "restricted",
            "LOG_LEVEL": "debug",
        }
    )
    assert found.brokers.urls == ("amqp://me:p%40%2Fw@rabbit:5673/",)
    assert found.config_namespaces == ("apps", "team-a", "team-b")
    assert (found.job_namespace, found.config_map, found.registry) == ("jobs", "queues", "r.io")
    assert (found.reloads, found.restricted, found.log_level) == (False, True, "debug")
    assert "p@" not in repr(found)


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"AQMP_USERNAME": "me", "AQMP_PASSWORD": "pass"}, "amqp://me:pass@localhost:5672/"),
        ({"AMQP_USERNAME": "right", "AQMP_USERNAME": "typo", "AMQP_PASSWORD": "p"}, "amqp://right:p@localhost:5672/"),
        ({"AMQP_USERNAME": ""}, "amqp://guest:guest@localhost:5672/"),
        ({"AMQP_USERNAME": "me"}, "amqp://me:@localhost:5672/"),
        ({"AMQP_HOST": "::1"}, "amqp://guest:guest@[::1]:5672/"),
    ],
)
def test_both_spellings_of_the_user_are_read(variables: dict[str, str], address: str) -> None:
    assert read_environment(variables).brokers.urls == (address,)


@pytest.mark.parametrize(("value", "reloads"), [("", True), ("true", True), ("False", True), ("OFF", True), ("0", False), ("no", False)])
def test_reloading_is_off_only_for_the_originals_words(value: str, reloads: bool) -> None:
    assert read_environment({"RELOAD_ENABLED": value}).reloads is reloads


@pytest.mark.parametrize(
    "variables",
    [{"AMQP_PORT": "x"}, {"AMQP_PORT": "0"}, {"POD_NAMESPACE": "A"}, {"CONFIG_MAP_NAMESPACES": "a,/b"}, {"CONFIG_MAP_NAME": "../x"}],
)
def test_a_variable_that_nothing_can_be_made_of_is_named(variables: dict[str, str]) -> None:
    with pytest.raises(EnvironmentWrong, match=next(iter(variables))):
        read_environment(variables)


# --- an entry ---


def test_an_image_is_all_that_an_entry_needs() -> None:
    found, form = good("image: worker", KUBERNETES_JOB_SCOPE="jobs")
    assert (found.queue, found.limit, found.namespace) == ("customer-created", 10, "jobs")
    assert form == Form(image="worker:latest")


def test_all_that_an_entry_may_say() -> None:
    text = """\
jobName: setup
image: worker
imageVersion: "2"
registry: mine.io
parallelism: 3
timeout: 60
environment: [{name: A, value: b}, {name: N, value: 1}, {name: S, valueFrom: {secretKeyRef: {name: s, key: k}}}]
serviceAccount: robot
namespace: elsewhere
resources: {requests: {cpu: "1"}}
labels: {team: a, number: 7, on: off}
"""
    found, form = good(text, DOCKER_REGISTRY="theirs.io", POD_SECURITY="restricted")
    assert (found.limit, found.namespace) == (3, "elsewhere")
    assert form == Form(
        image="mine.io/worker:2",
        job_name="setup",
        version="2",
        timeout=60,
        environment=(
            {"name": "A", "value": "b"},
            {"name": "N", "value": "1"},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ),
        service_account="robot",
        resources={"requests": {"cpu": "1"}},
        labels={"team": "a", "number": "7", "on": "off"},
        restricted=True,
    )
    assert good("image: worker", DOCKER_REGISTRY="theirs.io")[1].image == "theirs.io/worker:latest"


@pytest.mark.parametrize(
    ("text", "limit", "timeout"),
    [
        ("parallelism: unlimited", None, 3600),
        ("parallelism: 0", 10, 3600),
        ("parallelism: '5'", 5, 3600),
        ("parallelism: 2.0", 2, 3600),
        ("parallelism: null", 10, 3600),
        ("timeout: 0", 10, 3600),
        ("timeout: '90'", 10, 90),
    ],
)
def test_numbers_are_read_as_javascript_took_them(text: str, limit: int | None, timeout: int) -> None:
    found, form = good(f"image: w\n{text}")
    assert (found.limit, form.timeout) == (limit, timeout)


@pytest.mark.parametrize(("written", "version"), [("1.10", "1.10"), ("'1.10'", "1.10"), ("2", "2"), ("v1", "v1"), ("1e3 # c", "1e3")])
def test_a_version_is_what_was_written(written: str, version: str) -> None:
    assert good(f"image: w\nimageVersion: {written}")[1].image == f"w:{version}"


def test_environment_may_be_a_map_as_the_readme_has_it() -> None:
    assert good("image: w\nenvironment: {A: b, N: 1.10, T: true, Y: yes, Q: 'true', E: null}")[1].environment == (
        {"name": "A", "value": "b"},
        {"name": "N", "value": "1.10"},
        {"name": "T", "value": "true"},
        {"name": "Y", "value": "yes"},
        {"name": "Q", "value": "true"},
        {"name": "E", "value": ""},
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 documents"),
        ("just text", "a mapping"),
        ("jobName: x", "no image"),
        ("img: x", "no image"),
        ("image: [a]", "a text"),
        ("image: w\nparallelism: -1", "at least 1, or unlimited"),
        ("image: w\nparallelism: many", "at least 1, or unlimited"),
        ("image: w\nparallelism: true", "at least 1, or unlimited"),
        ("image: w\ntimeout: 1.5", "a whole number"),
        ("image: w\ntimeout: 99999999999", "a whole number"),
        ("image: w\nenvironment: text", "a list of name and value"),
        ("image: w\nenvironment: [text]", "a mapping of name and value"),
        ("image: w\nenvironment: {A: {b: c}}", "a text"),
        ("image: w\nnamespace: Up/down", "a namespace's name"),
        ("image: w\nresources: [a]", "a mapping"),
        ("image: w\nlabels: {a: 'b c'}", "as a label"),
        ("image: w\nlabels: {a: [b]}", "as a label"),
        ("image: w\n  bad: : yaml", "not YAML"),
        ("image: w\nimage: v", "image"),
    ],
)
def test_a_bad_entry_is_told_at_its_place(text: str, said: str) -> None:
    found, findings = read(text)
    assert found is None
    assert any(said in each for each in findings), findings


def test_unknown_keys_and_intervals_are_warned_of_and_refuse_nothing() -> None:
    found, findings = read("image: w\nparalelism: 3\ninterval: 5")
    assert found is not None
    assert 'did you mean "parallelism"' in findings[0]
    assert "not needed" in findings[1]


def test_a_bad_entry_keeps_no_other() -> None:
    entries = read_entries({"b": "image: w", "a": ": :", "c": "image: v"}, "ConfigMap c", read_environment({}))
    assert [(each.queue, each.settings is not None) for each in entries] == [("a", False), ("b", True), ("c", True)]


@given(
    st.text() | st.dictionaries(st.sampled_from(["image", "labels", "environment", "parallelism", "imageVersion", "x"]), st.text()).map(str)
)
def test_whatever_stands_there_is_read_or_told(text: str) -> None:
    entry: Any = read_entry("q", text, "ConfigMap c", read_environment({}))
    assert entry.settings is not None or any(each.is_error for each in entry.findings)


# --- as ConfigMaps change ---


def test_a_bad_entry_keeps_its_last_good_form_and_a_removed_queue_is_gone() -> None:
    environment = read_environment({})
    first = take({}, "apps", read_entries({"a": "image: a", "b": "image: b"}, "c", environment))
    second = take(first, "apps", read_entries({"a": "image: [", "c": "image: c"}, "c", environment))
    assert second == {"apps": {"a": first["apps"]["a"], "c": second["apps"]["c"]}}
    assert take(second, "apps", []) == {"apps": {}}


def test_a_queue_that_two_config_maps_name_is_the_first_ones() -> None:
    environment = read_environment({})
    known = take({}, "b", read_entries({"q": "image: late", "r": "image: r"}, "c", environment))
    known = take(known, "a", read_entries({"q": "image: first"}, "c", environment))
    found, told = served(known, ["a", "b"])
    assert {name: each.job.image for name, each in found.items() if isinstance(each.job, Form)} == {"q": "first:latest", "r": "r:latest"}
    assert told == ["queue q of namespace b is left out: the ConfigMap of namespace a names it already"]

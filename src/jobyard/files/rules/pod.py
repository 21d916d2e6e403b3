"""The pods of a Job: their containers together, and what they share."""

from __future__ import annotations

from dataclasses import replace

from jobyard.files.rules import container as containers
from jobyard.files.rules import quantities, scheduling, security, volumes
from jobyard.files.rules.checks import LARGEST, Fields, Number, Text, words
from jobyard.files.rules.forms import ADDRESS, KEY, LABEL, SEARCH, SUBDOMAIN, is_subdomain
from jobyard.files.rules.metadata import labels
from jobyard.files.rules.part import Part
from jobyard.model.finding import did_you_mean

FIELDS: Fields = {
    "PodSpec": {
        "dnsPolicy": words("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
        "preemptionPolicy": words("PreemptLowerPriority", "Never", even_empty=True),
        "serviceAccountName": Text(form=SUBDOMAIN),
        "nodeName": Text(form=SUBDOMAIN),
        "hostname": Text(form=LABEL),
        "subdomain": Text(form=LABEL),
        "priorityClassName": Text(form=SUBDOMAIN),
        "runtimeClassName": Text(form=SUBDOMAIN, even_empty=True),
        "activeDeadlineSeconds": Number(low=1, high=LARGEST),
    },
    "PodOS": {"name": words("linux", "windows", required=True)},
    "PodDNSConfigOption": {"name": Text(required=True)},
    "PodReadinessGate": {"conditionType": Text(form=KEY, required=True)},
    "PodSchedulingGate": {"name": Text(form=KEY, required=True)},
    "PodResourceClaim": {
        "name": Text(form=LABEL, required=True),
        "resourceClaimName": Text(form=SUBDOMAIN, even_empty=True),
        "resourceClaimTemplateName": Text(form=SUBDOMAIN, even_empty=True),
    },
}


def check(pod: Part) -> None:
    """What is wrong with a pod as a whole."""
    _restart_policy(pod)
    plain, init = pod.parts("containers"), pod.parts("initContainers")
    if not pod.value.get("containers"):
        pod.error(("containers",), "no containers", "at least one")
    if pod.list("ephemeralContainers"):
        pod.forbidden("ephemeralContainers", "of a pod that is still to be")
    around = _surroundings(pod)
    _names(plain, init)
    for each in plain:
        containers.check(each, around)
    for each in init:
        containers.check(each, replace(around, is_init=True))
        containers.host_ports([each])
    containers.host_ports(plain)
    labels(pod, "nodeSelector")
    if not pod.text("serviceAccountName") and (account := pod.text("serviceAccount")) and not is_subdomain(account):
        pod.wrong(("serviceAccount",), account, SUBDOMAIN.expected)
    _hostname(pod)
    _dns(pod)
    _aliases(pod)
    _once(pod, "schedulingGates")
    _claims(pod)
    scheduling.spreads(pod)
    security.of_host(pod)
    security.of_system(pod, [*init, *plain])
    quantities.overhead(pod)
    _resources(pod, around)


def _restart_policy(pod: Part) -> None:
    policy = pod.text("restartPolicy")
    if policy == "":
        what = "restartPolicy is missing, and then means Always, which a Job may not have"
        pod.error((), what, "Never or OnFailure", "add restartPolicy: Never")
    elif policy and policy not in ("Never", "OnFailure"):
        remedy = "a Job ends, so it can't always restart" if policy == "Always" else did_you_mean(policy, ("Never", "OnFailure"))
        pod.error(("restartPolicy",), f"restartPolicy {policy[:40]}", "Never or OnFailure", remedy)


def _surroundings(pod: Part) -> containers.Surroundings:
    grace = pod.number("terminationGracePeriodSeconds")
    claims = [claim.text("name") for claim in pod.parts("resourceClaims")]
    return containers.Surroundings(
        volumes=volumes.sources(pod),
        claims=None if None in claims else {name for name in claims if name},
        pod_restarts=pod.text("restartPolicy"),
        grace=30 if not pod.has("terminationGracePeriodSeconds") else 2**63 if grace is None else grace,
        host_network=pod.is_true("hostNetwork"),
        host_users=pod.value.get("hostUsers") is not False,
    )


def _names(plain: list[Part], init: list[Part]) -> None:
    seen: set[str] = set()
    for each in [*plain, *init]:
        name = each.text("name")
        if name and name in seen:
            each.error(("name",), f'container name "{name}" appears twice', "a name of its own")
        seen.add(name or "")


def _hostname(pod: Part) -> None:
    name = pod.text("hostnameOverride")
    if not pod.has("hostnameOverride"):
        return
    for key in ("setHostnameAsFQDN", "hostNetwork"):
        if pod.is_true(key):
            pod.forbidden("hostnameOverride", f"together with {key}", "keep one of the two")
    if name is not None and (len(name) > 64 or not is_subdomain(name)):
        pod.wrong(("hostnameOverride",), name, SUBDOMAIN.expected.replace("253", "64"))


def _dns(pod: Part) -> None:
    config = pod.part("dnsConfig")
    if pod.text("dnsPolicy") == "None" and (config is None or not config.list("nameservers")):
        pod.error(("dnsConfig",), "dnsPolicy None without a name server", "dnsConfig.nameservers")
        return
    if config is None:
        return
    servers, searches = config.list("nameservers"), config.list("searches")
    if len(servers) > 3:
        config.error(("nameservers",), f"{len(servers)} name servers", "at most 3")
    for index, server in config.texts("nameservers"):
        if not ADDRESS.fits(server):
            config.wrong(("nameservers", index), server, ADDRESS.expected)
    if len(searches) > 32 or len(" ".join(str(each) for each in searches)) > 2048:
        config.error(("searches",), f"{len(searches)} search paths", "at most 32, of 2,048 characters together")
    for index, search in config.texts("searches"):
        if not SEARCH.fits(search):
            config.wrong(("searches", index), search, SEARCH.expected)


def _aliases(pod: Part) -> None:
    for alias in pod.parts("hostAliases"):
        address = alias.text("ip")
        if address is not None and not ADDRESS.fits(address):
            alias.wrong(("ip",), address, ADDRESS.expected)
        for index, name in alias.texts("hostnames"):
            if not is_subdomain(name):
                alias.wrong(("hostnames", index), name, SUBDOMAIN.expected)


def _once(pod: Part, field: str) -> None:
    seen: set[str] = set()
    for each in pod.parts(field):
        name = each.text("name")
        if name and name in seen:
            each.twice(("name",), name)
        seen.add(name or "")


def _claims(pod: Part) -> None:
    _once(pod, "resourceClaims")
    for claim in pod.parts("resourceClaims"):
        given = [key for key in ("resourceClaimName", "resourceClaimTemplateName") if claim.has(key)]
        if len(given) != 1:
            what = "both" if given else "neither"
            claim.error((), f"{claim.spell()} with {what} of resourceClaimName and resourceClaimTemplateName", "one of the two")


def _resources(pod: Part, around: containers.Surroundings) -> None:
    own = pod.part("resources")
    if own is None:
        return
    if own.value.get("claims") is not None:
        own.forbidden("claims", "of a pod as a whole", "move them to a container")
    quantities.resources(own, around.claims, of_pod=True)
    quantities.consistent(pod)

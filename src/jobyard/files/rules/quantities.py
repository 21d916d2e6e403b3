"""Amounts: `500m`, `128Mi`, 1.5; and what resources may ask for."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from fractions import Fraction

from jobyard.files.rules.forms import is_key, is_label
from jobyard.files.rules.part import Part
from jobyard.schema.values import quantity as read

_HUGE = "hugepages-"
_OF_CONTAINERS = ("cpu", "memory", "ephemeral-storage")
LONGEST = 1000
"""Characters: nobody means more digits."""
EXPECTED = 'a number with a unit such as "500m" or "128Mi"'


def check(part: Part, keys: tuple[str | int, ...], value: object) -> None:
    """Says what is wrong with a quantity as such."""
    text = part.judged(value) if isinstance(value, str) else value
    if isinstance(text, str) and len(text) > LONGEST:
        part.error(keys, f"a quantity of {len(text):,} characters", f"at most {LONGEST:,}")
        return
    if text is None or read(text) is not None or isinstance(value, dict | list | bool):
        return
    guess = re.sub(r"([kmgtpe])i?b?$", lambda unit: unit[1].upper() + "i", str(value).strip().lower())
    hint = f'perhaps "{guess}"' if _guessable(guess) else ""
    part.error(keys, f'"{str(value)[:40]}" is not a quantity', EXPECTED, hint)


def _guessable(text: str) -> bool:
    return any(each.isdigit() for each in text) and read(text) is not None


def _amounts(part: Part, field: str) -> dict[str, Fraction]:
    """The amounts of `limits` or `requests` that can be judged, in thousandths at the finest."""
    found: dict[str, Fraction] = {}
    for name, value in part.mapping(field).items():
        amount = read(0 if value is None else part.judged(value) if isinstance(value, str) else value)
        if amount is not None:
            found[name] = Fraction(math.ceil(amount * 1000), 1000)
    return found


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _is_overcommitted(name: str) -> bool:
    return _is_native(name) and not name.startswith(_HUGE)


def _is_extended(name: str) -> bool:
    return not _is_native(name) and not name.startswith("requests.") and is_key(f"requests.{name}")


def _is_for_containers(name: str) -> bool:
    if not is_key(name):
        return False
    return name in _OF_CONTAINERS or name.startswith(_HUGE) if "/" not in name else _is_native(name) or _is_extended(name)


def _is_for_pods(name: str) -> bool:
    return is_key(name) and (name in ("cpu", "memory") or name.startswith(_HUGE))


def resources(part: Part, claims: Collection[str] | None, *, of_pod: bool = False) -> None:
    """The `resources` of a container or a pod. `claims`: the claims of the pod; None when not all can be judged."""
    limits, requests = _amounts(part, "limits"), _amounts(part, "requests")
    for field, amounts in (("limits", limits), ("requests", requests)):
        names(part, field, of_pod=of_pod)
        for name, amount in amounts.items():
            _amount(part, (field, name), name, amount)
    for name, amount in requests.items():
        if name in limits and amount != limits[name] and not _is_overcommitted(name):
            part.error(("requests", name), f"a request of {name} that is not its limit", "the same amount")
        elif name in limits and amount > limits[name]:
            part.error(("requests", name), f"a request of {name} above its limit", "at most the limit", "raise the limit, or ask for less")
        elif name not in part.mapping("limits") and not _is_overcommitted(name):
            part.error(("requests", name), f"a request of {name} without a limit", "the same amount under limits")
    every = {*part.mapping("limits"), *part.mapping("requests")}
    if any(name.startswith(_HUGE) for name in every) and not every & {"cpu", "memory"}:
        part.error((), "huge pages without cpu or memory", "an amount of one of the two")
    _claims(part, claims)


def names(part: Part, field: str, *, of_pod: bool = False) -> None:
    """The names of resources."""
    expected = (
        "cpu, memory or hugepages-SIZE" if of_pod else "cpu, memory, ephemeral-storage or a name with a domain such as nvidia.com/gpu"
    )
    for name in part.mapping(field):
        if not (_is_for_pods if of_pod else _is_for_containers)(name):
            part.error((field, name), f'resource "{name[:80]}"', expected, key=True)


def _amount(part: Part, keys: tuple[str | int, ...], name: str, amount: Fraction) -> None:
    if amount < 0:
        part.error(keys, f"{part.spell(*keys)} is below 0", "0 or more")
    elif _is_extended(name) and amount.denominator != 1:
        part.error(keys, f"a part of a {name}", "a whole number")
    elif name.startswith(_HUGE):
        page = read(name.removeprefix(_HUGE))
        if page is None or page <= 0 or page.denominator != 1 or math.ceil(amount) % page:
            part.error(keys, f"{part.spell(*keys)} is not a multiple of {name}", "a multiple of the page size such as hugepages-2Mi: 4Mi")


def overhead(part: Part) -> None:
    """The `overhead` of a pod."""
    names(part, "overhead")
    amounts = _amounts(part, "overhead")
    for name, amount in amounts.items():
        _amount(part, ("overhead", name), name, amount)
    if any(name.startswith(_HUGE) for name in amounts) and not set(amounts) & {"cpu", "memory"}:
        part.error(("overhead",), "huge pages without cpu or memory", "an amount of one of the two")


def _claims(part: Part, known: Collection[str] | None) -> None:
    seen: set[str] = set()
    for claim in part.parts("claims"):
        name, request = claim.text("name"), claim.text("request")
        if name is None or request is None:
            continue
        if not name:
            claim.missing("name")
            continue
        if request and not is_label(request):
            claim.wrong(("request",), request, "lower-case letters, digits and -")
        key = f"{name}/{request}" if request else name
        if name in seen or key in seen or (not request and any(each.startswith(f"{name}/") for each in seen)):
            claim.twice(("name",), name)
        seen.add(key)
        if known is not None and name not in known:
            claim.error(("name",), f'no resource claim is named "{name}"', "", "add it to spec.template.spec.resourceClaims")


def consistent(pod: Part) -> None:
    """What a pod asks for as a whole, and what its containers ask for."""
    whole = pod.part("resources")
    if whole is None:
        return
    limits, requests = _amounts(whole, "limits"), _amounts(whole, "requests")
    for name, wanted in _together(pod, "requests").items():
        if name in requests and wanted > requests[name]:
            whole.error(("requests", name), f"a request of {name} that is less than the containers' together", "as much at least")
    for name, wanted in _together(pod, "limits").items():
        if name.startswith(_HUGE) and name in limits and wanted > limits[name]:
            whole.error(("limits", name), f"a limit of {name} that is less than the containers' together", "as much at least")
    for container in pod.parts("containers"):
        own = container.part("resources")
        for name, limit in _amounts(own, "limits").items() if own else ():
            if name in limits and limit > limits[name]:
                container.error(("resources", "limits", name), f"a limit of {name} above the pod's", "at most the pod's")


def _together(pod: Part, field: str) -> dict[str, Fraction]:
    """What containers need at once: all of them and those that stay beside them, or an init container while it runs."""
    total: dict[str, Fraction] = {}
    beside: dict[str, Fraction] = {}
    highest: dict[str, Fraction] = {}
    for container in pod.parts("containers"):
        _add(total, _of(container, field))
    for container in pod.parts("initContainers"):
        own = _of(container, field)
        if container.text("restartPolicy") == "Always":
            _add(total, own)
            _add(beside, own)
            own = beside
        else:
            own = dict(own)
            _add(own, beside)
        highest = {name: max(highest.get(name, own.get(name, Fraction(0))), own.get(name, Fraction(0))) for name in {*highest, *own}}
    return {name: max(total.get(name, highest.get(name, Fraction(0))), highest.get(name, Fraction(0))) for name in {*total, *highest}}


def _of(container: Part, field: str) -> dict[str, Fraction]:
    own = container.part("resources")
    return _amounts(own, field) if own else {}


def _add(total: dict[str, Fraction], more: dict[str, Fraction]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Fraction(0)) + amount

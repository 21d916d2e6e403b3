"""The words for states, reasons and causes: one table, in which none is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobyard.model.cause import Cause
from jobyard.model.run import Reason, State
from jobyard.model.words import REASONS, STATES, clause, sentence, words
from tests.unit.test_diagnosis import CASES, Case, diagnosed

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("each", State)
def test_every_state_has_its_word(each: State) -> None:
    assert STATES[each] == STATES[each].lower()


@pytest.mark.parametrize("each", [*Reason, *Cause])
def test_every_reason_and_cause_has_its_words(each: str) -> None:
    found = REASONS[each]
    assert found[0].isupper()
    assert not found.endswith(".")
    assert " " in found or found in ("Suspended", "Cancelled", "Failed")  # words, no name in CamelCase


def test_no_reason_is_a_cause_too() -> None:
    assert not {str(each) for each in Reason} & {str(each) for each in Cause}


def test_the_reference_lists_them_all_in_these_words() -> None:
    rows = [line for line in (DOCS / "workflow-reference.md").read_text().splitlines() if line.startswith("| `")]
    table: dict[str, str] = {**{str(each): word for each, word in STATES.items()}, **REASONS}
    told = {each for each, words in table.items() if any(f"`{each}`" in row and f"| {words} |" in row for row in rows)}
    assert told == set(table)


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_every_diagnosis_has_a_reason_with_words(case: Case) -> None:
    found = diagnosed(case)
    assert found.reason in REASONS or found.reason in FROM_NODES


FROM_NODES = ("SysctlForbidden", "AppArmor", "OutOfcpu")
"""Words of Kubernetes' that stand in a diagnosis as they are."""


@pytest.mark.parametrize(
    ("reason", "known", "said"),
    [
        ("OOMKilled", "it needed more than the 2Gi it may use", "Ran out of memory: it needed more than the 2Gi it may use."),
        ("ImagePullBackOff", "version 2.8.1 does not exist", "Could not fetch the program: version 2.8.1 does not exist."),
        ("WaitingForLimit", '3 of 3 runs of "shop" are active', 'Waiting for its turn: 3 of 3 runs of "shop" are active.'),
        ("JobVanished", "", "Somebody deleted its Job before it ended."),
    ],
)
def test_the_page_s_words_are_the_command_line_s(reason: str, known: str, said: str) -> None:
    assert sentence(reason, known) == said


def test_a_reason_that_only_kubernetes_knows_stands_for_itself() -> None:
    assert (words("OutOfcpu"), clause("OutOfcpu")) == ("OutOfcpu", "OutOfcpu")
    assert clause(Cause.OUT_OF_MEMORY) == "ran out of memory"

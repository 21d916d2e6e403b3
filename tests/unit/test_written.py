"""Numbers and moments in labels and annotations, which anybody may have written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.model.written import moment, whole


@pytest.mark.parametrize("text", ["²", "٣", "-1", "+1", "1.5", "", " 1", "1_0", "1e3", "9" * 5000, "101"])
def test_what_is_no_number_within_its_bounds_is_none(text: str) -> None:
    assert whole(text, 100) is None


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("100", 100), ("0" * 5000 + "7", 7), ("000", 0)])
def test_a_number_is_read(text: str, number: int) -> None:
    assert whole(text, 100) == number


@given(st.text())
def test_whatever_stands_there_is_a_number_within_its_bounds_or_none(text: str) -> None:
    number = whole(text, 50)
    assert number is None or 0 <= number <= 50


@pytest.mark.parametrize(
    "text", [None, "", "soon", "2026-01-01", "2026-01-01T00:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "²026-01-01T00:00:00Z"]
)
def test_what_is_no_moment_that_anybody_means_is_none(text: str | None) -> None:
    assert moment(text) is None


def test_a_moment_is_read() -> None:
    assert moment("2026-01-01T00:00:00+00:00") == datetime(2026, 1, 1, tzinfo=UTC)

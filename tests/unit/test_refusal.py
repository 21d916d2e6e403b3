"""What it means that the cluster refused a create: a table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobyard.engine.refusal import (
    ADMISSION_TRIES,
    ADMISSION_WAIT,
    INVALID_TRIES,
    INVALID_WAIT,
    LOOK_FOR_RIGHTS,
    LOOK_FOR_ROOM,
    judge,
)
from jobyard.model.errors import Conflict, Forbidden, NamespaceTerminating, NoRoom, NotFound, Rejected, Unauthorized
from jobyard.model.run import Reason


def refused(kind: type[Rejected], status: int) -> Rejected:
    return kind(action="create Job", status=status, reason="x", message="said so")


FULL, GOING, TOKEN = refused(NoRoom, 403), refused(NamespaceTerminating, 403), refused(Unauthorized, 401)
FORBIDDEN, MISSING = refused(Forbidden, 403), refused(NotFound, 404)


@pytest.mark.parametrize(
    ("error", "tries", "may", "reason", "wait"),
    [
        pytest.param(FULL, 1, None, Reason.QUOTA_EXCEEDED, LOOK_FOR_ROOM, id="a full quota waits"),
        pytest.param(FULL, 1000, True, Reason.QUOTA_EXCEEDED, LOOK_FOR_ROOM, id="however long"),
        pytest.param(GOING, 1, None, Reason.NAMESPACE_TERMINATING, None, id="a namespace that goes does not come back"),
        pytest.param(TOKEN, 1, None, Reason.NO_RIGHT, LOOK_FOR_RIGHTS, id="a token is renewed"),
        pytest.param(TOKEN, 1000, True, Reason.NO_RIGHT, LOOK_FOR_RIGHTS, id="whenever that may be"),
        pytest.param(FORBIDDEN, 1, False, Reason.NO_RIGHT, LOOK_FOR_RIGHTS, id="a missing right is given"),
        pytest.param(FORBIDDEN, 1000, False, Reason.NO_RIGHT, LOOK_FOR_RIGHTS, id="whenever that may be given"),
        pytest.param(FORBIDDEN, 1000, None, Reason.NO_RIGHT, LOOK_FOR_RIGHTS, id="where nobody knows, it may be a right"),
        pytest.param(FORBIDDEN, 1, True, Reason.REFUSED, ADMISSION_WAIT, id="an admission hook may be mended"),
        pytest.param(FORBIDDEN, ADMISSION_TRIES - 1, True, Reason.REFUSED, ADMISSION_WAIT, id="or may be about to start"),
        pytest.param(FORBIDDEN, ADMISSION_TRIES, True, Reason.REFUSED, None, id="but it is not asked for ever"),
        pytest.param(MISSING, 1, None, Reason.REFUSED, None, id="no such namespace, or kind"),
        pytest.param(refused(Rejected, 422), 1, None, Reason.REFUSED, INVALID_WAIT, id="invalid, perhaps for now"),
        pytest.param(refused(Rejected, 422), INVALID_TRIES, None, Reason.REFUSED, None, id="invalid for good"),
        pytest.param(refused(Rejected, 400), 1, None, Reason.REFUSED, INVALID_WAIT, id="malformed, perhaps for now"),
        pytest.param(refused(Rejected, 400), INVALID_TRIES, None, Reason.REFUSED, None, id="malformed for good"),
        pytest.param(refused(Rejected, 405), 1, None, Reason.REFUSED, None, id="any other no is one"),
        pytest.param(refused(Conflict, 409), 1, None, Reason.REFUSED, None, id="a name that others have"),
    ],
)
def test_a_refusal_is_for_good_or_waits(error: Rejected, tries: int, may: bool | None, reason: Reason, wait: timedelta | None) -> None:
    verdict = judge(error, tries, may, "prod")
    assert (verdict.reason, verdict.wait) == (reason, wait)
    assert ("prod" if error is GOING else "said so") in verdict.message


def test_admission_is_asked_three_times_within_a_minute() -> None:
    assert ADMISSION_TRIES == 3
    assert timedelta(minutes=1) >= (ADMISSION_TRIES - 1) * ADMISSION_WAIT

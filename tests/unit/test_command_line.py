"""Every command and every option, looked at as a whole: one word for one thing."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import rich_click as click

from jobyard.cli import render
from jobyard.cli.hints import Given, as_given, complete, wrap
from jobyard.cli.main import cli
from jobyard.cli.screens import Lines
from jobyard.cli.usage import in_our_words
from jobyard.model.back_off import Tries
from jobyard.model.diagnosis import Diagnosis
from jobyard.model.run import Reason, RunView, State, StepView
from jobyard.service.options import TargetOptions

NO_JSON = {
    "serve": "runs until it is told to stop, and logs",
    "triggers pause": "prints no data",
    "triggers resume": "prints no data",
    "completion": "prints a script",
    "schema": "is JSON",
    "git init": "makes something, and prints no data",
    "git template": "prints a manifest for a file",
    "local kubeconfig": "prints a path, for $(...)",
    "local stop": "prints no data",
    "local reset": "prints no data",
}
"""Commands without -o json, and why. Beside them `compat`, whose commands are those of other tools."""


def walk(group: click.Group = cli, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that is no group, by its words."""
    for word, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from walk(command, f"{name}{word} ")
        elif f"{name}{word}".split()[0] != "compat":
            yield f"{name}{word}", command


COMMANDS = dict(walk())


def options(command: click.Command) -> dict[str, click.Option]:
    return {option.opts[-1]: option for option in command.params if isinstance(option, click.Option)}


def test_a_letter_means_one_thing_everywhere() -> None:
    meanings: defaultdict[str, set[str]] = defaultdict(set)
    for command in COMMANDS.values():
        for long, option in options(command).items():
            for short in option.opts:
                if not short.startswith("--"):
                    meanings[short].add(long)
    assert {short: len(long) for short, long in meanings.items()} == dict.fromkeys(meanings, 1), dict(meanings)
    assert meanings["-n"] == {"--namespace"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_options_say_what_they_do(name: str) -> None:
    command = COMMANDS[name]
    first = (command.help or "").strip().splitlines()[0]
    assert first[0].isupper()
    assert first.endswith((".", ")"))
    for long, option in options(command).items():
        assert option.help, f"{long} says nothing"
        assert option.help[0].isupper()
        assert option.help.endswith("."), f"{long}: {option.help}"


@pytest.mark.parametrize("name", COMMANDS)
def test_options_stand_only_where_they_do_something(name: str) -> None:
    known = set(options(COMMANDS[name]))
    assert ("--output" in known) is (name not in NO_JSON)
    if "--output" in known:
        kind = options(COMMANDS[name])["--output"].type
        assert isinstance(kind, click.Choice)
        assert "json" in kind.choices
    cluster = {"--local", "--context", "--kubeconfig"}
    assert cluster <= known or not cluster & known
    assert "--namespace" in known or not cluster & known
    is_outside = bool(known & {"--local", "--repository"})
    assert ("--verbose" in known) is is_outside, "who asks a cluster or git can say so"
    if is_outside:
        assert options(COMMANDS[name])["--verbose"].count
    assert ("--author" in known) is (name in ("git init", "git process", "git requeue", "git watch")), "who commits"


# --- commands in messages ---


def test_a_command_in_a_message_is_given_the_options_that_it_takes() -> None:
    given = as_given(TargetOptions(local=True, namespace="shop"))
    text = "no run x; `jobyard runs` lists them, `jobyard graph FILE` draws, `jobyard manifests --rbac -n shop | kubectl apply -f -`"
    assert complete(text, cli, given) == text.replace("`jobyard runs`", "`jobyard runs --local -n shop`")
    assert complete("`jobyard limits set NAME 1`", cli, given) == "`jobyard limits set NAME 1 --local -n shop`"
    assert complete("`jobyard run --resume x -n other`", cli, given) == "`jobyard run --resume x -n other --local`"
    assert complete(text, cli, Given()) == text
    awkward = as_given(TargetOptions(kubeconfig="/a b/config"))
    assert complete("`jobyard runs`", cli, awkward) == "`jobyard runs --kubeconfig '/a b/config'`"


def test_a_command_is_never_broken_over_lines() -> None:
    command = "`jobyard run --resume etl-7edpc5y6mzzj5cib --kubeconfig /home/somebody/with/a/long/path/config -n team`"
    text = f"The run goes on without anybody who looks; come back with {command}, or leave it as it is.\n  jobyard run {'x' * 90}"
    lines = wrap(text, 60).splitlines()
    assert any(command in line for line in lines)
    assert lines[-1] == f"  jobyard run {'x' * 90}"
    assert all(len(line) <= 60 for line in lines if "jobyard" not in line)


# --- tables ---


def test_a_table_fits_its_terminal_and_keeps_names_whole() -> None:
    name = "nightly-sales-report-e3qg5kjv7rfvjm5l"
    rows = [(name, "nightly-sales-report", "failed", "11-28 16:57", "2h10m", "ActiveDeadlineExceededAndMore")]
    head = ("RUN", "WORKFLOW", "STATE", "STARTED", "DURATION", "REASON")
    wide = render.fitted(head, rows, 140, ("WORKFLOW", "DURATION"))
    assert wide == render.plain_table(head, rows)
    narrow = render.fitted(head, rows, 80, ("WORKFLOW", "DURATION"))
    assert all(len(line) <= 80 for line in narrow)
    assert narrow[1].startswith(f"{name}  failed")
    assert narrow[1].endswith("…")


def test_times_are_as_long_as_they_have_to_be() -> None:
    now = datetime(2026, 11, 28, 16, 57).astimezone()
    assert render.clock(now - timedelta(minutes=5), now) == "16:52:00"
    assert render.clock(now - timedelta(days=3), now) == "11-25 16:57"
    assert render.clock(now - timedelta(days=500), now) == "2025-07-16"


# --- plain lines ---


def _view(step: StepView, unreachable: str = "") -> RunView:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    return RunView(
        id="i",
        name="r-i",
        workflow="r",
        namespace="n",
        trigger="cli",
        state=State.PENDING,
        started=now,
        steps=(step,),
        unreachable=unreachable,
    )


def _waiting(reason: str, attempt: int = 1) -> StepView:
    diagnosis = Diagnosis(reason=reason, sentence="The image can't be pulled.", remedy="Check its name.")
    return StepView(name="a", state=State.PENDING, attempt=attempt, job="a-1", diagnosis=diagnosis)


def test_each_failure_before_another_try_is_told_once_with_the_end_of_its_log() -> None:
    said: list[str] = []
    screen = Lines(said.append)
    now = datetime(2026, 11, 28, tzinfo=UTC)
    found = Diagnosis(reason="ExitCode", sentence="Container main exited with code 4.", exit_code=4, remedy="Its log tells more.")
    failed = StepView(name="a", state=State.PENDING, reason=Reason.RETRY_BACK_OFF, attempt=1, job="a-1", diagnosis=found)
    for failures in (1, 2):
        step = replace(failed, tries=Tries(failed=failures, of=7, by="Kubernetes"))
        for lines in ((), ("no connection",), ("no connection",)):  # the log is there a moment later
            screen.show(_view(replace(step, last_lines=lines)), {}, now)
        screen.show(_view(replace(failed, state=State.RUNNING, reason="")), {}, now)
    assert [line[9:].strip() for line in said] == [
        "· a pending [RetryBackOff]",
        "Failed 1 of 7 times: exit code 4; Kubernetes tries again soon.",
        "a | no connection",
        "▸ a running",
        "· a pending [RetryBackOff]",
        "Failed 2 of 7 times: exit code 4; Kubernetes tries again soon.",
        "a | no connection",
        "▸ a running",
    ]


def test_plain_lines_say_nothing_twice() -> None:
    said: list[str] = []
    screen = Lines(said.append)
    now = datetime(2026, 11, 28, tzinfo=UTC)
    for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"):
        screen.show(_view(_waiting(reason)), {}, now)
    assert [line[9:].strip() for line in said] == [
        "· a pending [ErrImagePull]",
        "The image can't be pulled.",
        "Check its name.",
        "· a pending [ImagePullBackOff]",
    ]
    said.clear()
    screen.show(_view(_waiting("ErrImagePull", attempt=2)), {}, now)
    assert [line[9:] for line in said] == ["· a pending (attempt 2) [ErrImagePull]"], "news again, of another attempt"
    said.clear()
    for away in ("gone (1)", "gone (2)", "gone (1)", "", "", "gone (1)"):
        screen.show(_view(_waiting("ErrImagePull", attempt=2), away), {}, now)
    assert [line[9:] for line in said] == ["reconnecting: gone (1)", "reconnecting: gone (2)", "connected again", "reconnecting: gone (1)"]


# --- what is wrong with the line itself ---


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("logs x --tail base", "--tail base: expected a whole number, at least 0"),
        ("logs x --attempt 0", "--attempt 0: expected a whole number, at least 1"),
        ("limits set database many", "NUMBER many: expected a whole number, at least 0"),
        ("runs -o jsn", '--output jsn: expected one of text, json; did you mean "json"?'),
        ("run --cleanup sometimes", "--cleanup sometimes: expected one of never, succeeded, always"),
        ("logs", "RUN|JOB is missing"),
        ("cancel", "RUN is missing"),
        ("runs --limt 3", 'there is no option --limt; did you mean "--limit"?'),
        *((f"{command} ''", f"{name} is empty") for command, name in (("logs", "RUN|JOB"), ("why", "RUN|JOB"), ("cancel", "RUN"))),
        ("rerun ' '", "RUN is empty"),
        ("run --resume ''", "RUN is empty"),
    ],
)
def test_a_wrong_line_is_told_in_our_words(line: str, said: str) -> None:
    with pytest.raises(click.ClickException) as raised:
        cli.main(shlex.split(line), prog_name="jobyard", standalone_mode=False)
    assert in_our_words(raised.value) == said
    assert raised.value.exit_code == 2

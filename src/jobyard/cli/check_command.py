"""`jobyard check` and `jobyard schema`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import rich_click as click
from click.exceptions import Exit

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, output_option
from jobyard.cli.printing import print_json
from jobyard.service.options import TargetOptions


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@cluster_options
@output_option
def check(files: tuple[Path, ...], target: TargetOptions, output: str) -> None:
    """Find every mistake in workflows, models, manifests, and a service's settings.

    FILE may be a folder: everything in it is checked, also Jobs that no workflow there names.
    Checks against Kubernetes' schema and rules without a cluster; with one, asks it too (a strict dry run of each Job).
    Exit code 2 when anything is wrong.
    """
    from jobyard.cli.asking import ask_cluster
    from jobyard.files.folder import show
    from jobyard.files.manifest import without_command
    from jobyard.files.rest import rest
    from jobyard.model.errors import JobyardError
    from jobyard.model.finding import Finding
    from jobyard.service.reading import READERS, files_of, read_file
    from jobyard.service.shapes import finding_json

    findings: list[Finding] = []
    seen: dict[str, None] = {}
    asked: dict[str, None] = {}
    looked_into: set[str] = set()
    unasked: JobyardError | None = None
    beside: list[str] = []
    runnable = False

    def all_files() -> Iterator[Path]:
        for path in files:
            yield from files_of(path)
            if path.is_dir():
                more = rest(path, looked_into, READERS)
                findings.extend(more.findings)
                beside.extend(more.skipped)
                yield from more.files

    for file in all_files():
        reading = read_file(file)
        runnable |= reading.instead is None
        looked_into |= reading.files
        seen.update(dict.fromkeys([show(file)] if not file.is_dir() else sorted(reading.files)))
        findings += [*reading.findings, *reading.advice]
        findings += without_command(reading.jobs)
        if not reading.errors and unasked is None:
            try:
                answer = asyncio.run(ask_cluster(target, reading))
            except JobyardError as error:
                unasked = error  # what was found in the files is told all the same
                continue
            findings += answer.findings
            asked[answer.who] = None
    findings = list(dict.fromkeys(findings))
    wrong = [finding.position.file for finding in findings if finding.is_error]
    if output == "json":
        for finding in findings:
            print_json(finding_json(finding))
    else:
        for finding in findings:
            say(str(finding), err=False)
        if beside:
            say(f"Not checked, for they hold neither Jobs nor a workflow: {', '.join(beside[:12])}{' …' if len(beside) > 12 else ''}.")
        for line in summary(wrong, list(seen), [who for who in asked if who], runnable=runnable) if wrong or unasked is None else ():
            say(line, err=bool(wrong))
    if unasked is not None and wrong:
        say(f"The cluster was not asked: {unasked}")
    if wrong:
        raise Exit(2)
    if unasked is not None:
        raise unasked


def summary(wrong: Sequence[str], seen: Sequence[str], asked: Sequence[str], *, runnable: bool = True) -> list[str]:
    """Which files are good, by what that is known, and how much is wrong. Pure.

    `wrong`: the file of each mistake; `seen`: the files that were read; `asked`: the clusters that were asked, in words; `runnable`: whether
    there was anything among them for Kubernetes."""
    from jobyard import schema
    from jobyard.files.rules import RELEASE
    from jobyard.model.errors import number

    every = list(dict.fromkeys([*seen, *wrong]))
    good = [file for file in every if file not in wrong]
    if wrong:
        count = number(len(wrong), "mistake")
        told = f"{every[0]}: {count}" if len(every) == 1 else f"{count} in {len(set(wrong))} of {len(every)} files"
    else:
        told = f"{every[0]}: all good" if len(every) == 1 else f"{len(every)} files: all good"
    by = f"asked: {'; '.join(asked)}" if asked else "no cluster was asked"
    return [
        *(f"{file}: good" for file in good if len(every) > 1),
        *([f"Checked by the rules of Kubernetes {RELEASE} and the fields of {schema.version()}; {by}."] if runnable else []),
        told,
    ]


@click.command()
@click.argument("kind", default="workflow", type=click.Choice(["workflow", "service"]))
def schema(kind: str) -> None:
    """Print the JSON Schema of workflow files and run files, or of a service's settings, for editors."""
    import json

    from jobyard.files import workflow_schema
    from jobyard.service import service_schema

    module = workflow_schema if kind == "workflow" else service_schema
    click.echo(json.dumps(module.json_schema(), indent=2))

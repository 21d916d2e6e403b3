"""`jobyard check` and `jobyard schema`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import rich_click as click
from click.exceptions import Exit

from jobyard.cli.options import cluster_options, output_option
from jobyard.service.options import TargetOptions


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@cluster_options
@output_option
def check(files: tuple[Path, ...], target: TargetOptions, output: str) -> None:
    """Find every mistake in workflows, models and manifests.

    All that can be found without a cluster; with one, it is asked too (a strict dry run of each Job). Exit code 2 when anything is wrong.
    """
    import json

    from jobyard.cli.asking import ask_cluster
    from jobyard.files.folder import show
    from jobyard.files.manifest import without_command
    from jobyard.model.finding import Finding
    from jobyard.service.reading import read_file
    from jobyard.service.shapes import finding_json

    findings: list[Finding] = []
    seen: set[str] = set()
    for file in files:
        reading = read_file(file)
        seen |= {show(file)} if not file.is_dir() else {placed.document.file for placed in reading.placed}
        findings += reading.findings
        findings += without_command(reading.jobs)
        if not reading.errors:
            findings += asyncio.run(ask_cluster(target, reading))
    findings = list(dict.fromkeys(findings))
    wrong = sum(finding.is_error for finding in findings)
    for finding in findings:
        click.echo(json.dumps(finding_json(finding)) if output == "json" else str(finding))
    if output == "text":
        click.echo(_last_line([finding.position.file for finding in findings if finding.is_error], seen), err=bool(wrong))
    if wrong:
        raise Exit(2)


def _last_line(wrong: list[str], seen: set[str]) -> str:
    """How much is wrong in how many files. `wrong`: the file of each mistake; `seen`: the files that were looked at."""
    from jobyard.model.errors import number

    every = seen | set(wrong)
    if len(every) == 1:
        return f"{next(iter(every))}: {number(len(wrong), 'mistake') if wrong else 'all good'}"
    if not wrong:
        return f"{number(len(every), 'file')}: all good"
    return f"{number(len(wrong), 'mistake')} in {len(set(wrong))} of {len(every)} files"


@click.command()
def schema() -> None:
    """Print the JSON Schema of workflow files and run files, for editors."""
    import json

    from jobyard.files.workflow_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))

"""`jobyard graph`: a workflow as text, JSON, mermaid or SVG."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from jobyard.cli.options import output_as
from jobyard.cli.printing import print_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@output_as("text", "json", "mermaid", "svg")
def graph(file: Path, output: str) -> None:
    """Draw the workflow in FILE. Objects beside its Jobs get a line of their own, except in SVG."""
    from jobyard.cli import draw
    from jobyard.service.reading import read_file
    from jobyard.service.shapes import workflow_json

    reading = read_file(file)
    workflow = reading.require()
    if output == "json":
        print_json(workflow_json(workflow, reading.objects))
        return
    click.echo({"text": draw.text, "mermaid": draw.mermaid, "svg": draw.svg}[output](workflow), nl=output != "svg")
    if reading.objects and output != "svg":
        click.echo(f"{'%% ' if output == 'mermaid' else ''}{draw.beside(reading.objects)}")

"""`jobyard graph`: a workflow as text, mermaid or SVG."""

from __future__ import annotations

from pathlib import Path

import rich_click as click


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("-f", "--format", "form", type=click.Choice(["text", "mermaid", "svg"]), default="text", show_default=True)
def graph(file: Path, form: str) -> None:
    """Draw the workflow of FILE. Objects beside its Jobs stand in a line of their own, but not in the SVG."""
    from jobyard.cli import draw
    from jobyard.service.reading import read_file

    reading = read_file(file)
    workflow = reading.require()
    click.echo({"text": draw.text, "mermaid": draw.mermaid, "svg": draw.svg}[form](workflow), nl=form != "svg")
    if reading.objects and form != "svg":
        click.echo(f"{'%% ' if form == 'mermaid' else ''}{draw.beside(reading.objects)}")

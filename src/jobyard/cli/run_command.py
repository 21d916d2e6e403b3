"""`jobyard run`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.exceptions import Exit

from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, complete_run, containers, named, output_option, runtime_option
from jobyard.cli.printing import print_json
from jobyard.service.options import TargetOptions

if TYPE_CHECKING:
    from jobyard.engine.engine import ClusterEngine
    from jobyard.files.objects import SideObject
    from jobyard.files.reading import Reading
    from jobyard.model.run import Run
    from jobyard.model.workflow import Workflow
    from jobyard.service.target import Target


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `jobyard run` was asked."""

    file: Path | None
    target: TargetOptions
    output: str
    given: dict[str, str]
    dry_run: bool
    timeout: str | None
    parallelism: int | None
    cleanup: str | None
    resume: str | None
    detach: bool


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="[FILE]", required=False)
@cluster_options
@runtime_option
@output_option
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="Give a parameter a value. May be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and create nothing.")
@click.option("--timeout", metavar="DURATION", help="How long the run may take, such as 30s, 15m or 1h30m.")
@click.option("--parallelism", type=click.IntRange(min=0), metavar="N", help="How many Jobs may be active at once; 0 means no limit.")
@click.option("--cleanup", type=click.Choice(["never", "succeeded", "always"]), help="When to delete the run's Jobs after it has ended.")
@click.option(
    "--resume", metavar="RUN", help="Go on with this run instead of starting a new one.", shell_complete=complete_run, callback=named
)
@click.option("--detach", is_flag=True, help="Submit the run and return; a service that serves the namespace drives it.")
def run(given: tuple[str, ...], target: TargetOptions, runtime: str | None, **options: Any) -> None:
    """Run a workflow, a run file, a Jobernetes model or plain Job manifests; wait, and show it live.

    FILE may be a folder (by default, this one): the workflow or model in it is run, or else all manifests under it.
    Ctrl-C leaves the Jobs running and says how to come back; a second one cancels the run.
    """
    values = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.UsageError(f"--set {each}: expected NAME=VALUE")
        values[name] = value
    if options["detach"] and options["dry_run"]:
        raise click.UsageError("--dry-run creates nothing, so --detach has no effect: leave it out")
    if runtime and not target.local:
        raise click.UsageError("--runtime is about the local cluster: add --local, or leave it out")
    asked = RunOptions(given=values, target=replace(target, runtime=runtime), **options)
    if asked.resume is None:
        code = asyncio.run(_run_file(asked))
    else:
        if given_too := _given_too(asked):
            raise click.UsageError(f"--resume goes on with a run as it was started: leave out {', '.join(given_too)}")
        code = asyncio.run(_resume(asked))
    if code:
        raise Exit(code)


def _given_too(asked: RunOptions) -> list[str]:
    """What was given beside --resume that a run which has begun does not take."""
    given = {
        "FILE": asked.file,
        "--runtime": asked.target.runtime,
        "--set": asked.given,
        "--dry-run": asked.dry_run,
        "--timeout": asked.timeout,
        "--parallelism": asked.parallelism,
        "--cleanup": asked.cleanup,
        "--detach": asked.detach,
    }
    return [name for name, value in given.items() if value not in (None, False, {})]


def _workflow(options: RunOptions, reading: Reading) -> Workflow:
    """The workflow as the file and the command line want it."""
    from jobyard.model import duration
    from jobyard.model.parameters import resolve
    from jobyard.model.workflow import Cleanup

    workflow = reading.require()
    resolve(workflow.parameters, {**reading.inputs, **options.given})
    if options.timeout is not None:
        try:
            workflow = replace(workflow, timeout=duration.parse(options.timeout))
        except ValueError as error:
            raise click.UsageError(f"--timeout: {error}") from None
    if options.parallelism is not None:
        workflow = replace(workflow, parallelism=options.parallelism)
    if options.cleanup is not None:
        workflow = replace(workflow, cleanup=Cleanup(options.cleanup))
    return workflow


async def _run_file(options: RunOptions) -> int:
    import uuid

    from jobyard.access import demand
    from jobyard.cli.watch_run import watch_run
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.engine import open_engine
    from jobyard.files import namespaces
    from jobyard.files.manifest import without_command
    from jobyard.model.errors import InvalidFiles
    from jobyard.model.run import RunRequest
    from jobyard.service.reading import read_file
    from jobyard.service.target import open_target

    reading = read_file(options.file or Path())
    workflow = _workflow(options, reading)
    warnings = [finding for finding in reading.findings if not finding.is_error]
    for warning in [
        *warnings,
        *(without_command(reading.jobs) if options.target.local and options.target.runtime in (None, "process") else []),
    ]:
        say(str(warning))
    if options.dry_run:
        return _dry_run(options, workflow, reading.objects)
    async with open_target(
        options.target, wanted=workflow.namespace, in_cluster=reading.in_cluster, quiet_tls=reading.quiet_tls, make=True
    ) as target:
        if options.detach and target.ends_with_us:
            raise click.UsageError(
                "--detach: the local cluster would end with this command; start one that stays (`jobyard local start`), or leave out --detach"
            )
        if elsewhere := namespaces.foreign_to(reading.placed, target.namespace):
            raise InvalidFiles(elsewhere)
        if target.is_local:
            await _make_namespace(target.cluster, target.namespace)
            which = "a local cluster that ends with this command" if target.ends_with_us else "the local cluster"
            say(f"On {which}: {containers(target.runtime)}.")
            for each in reading.objects:
                if each.kind == "Service":
                    say(f"Service {each.name} is only kept there: nothing answers at its name.")
        else:
            await demand(target.cluster, target.namespace)
        async with open_engine(target.cluster, SystemClock(), target.namespace) as engine:
            request = RunRequest(
                trigger="cli",
                key=uuid.uuid4().hex,
                workflow=workflow,
                inputs={**reading.inputs, **options.given},
                waits=False,
                key_names_workflow=True,
                objects=tuple(each.manifest for each in reading.objects),
            )
            started = await engine.submit(request)
            if options.detach:
                return await _leave(options, target, engine, started)
            return await watch_run(engine, started, target, options.output, steps=len(workflow.jobs))


async def _leave(options: RunOptions, target: Target, engine: ClusterEngine, started: Run) -> int:
    """Says what becomes of a run that nobody waits for."""
    from jobyard.cli.leaving import is_driven, what_goes_on
    from jobyard.service.shapes import listed_json

    driven = await is_driven(target)
    if options.output == "json":
        print_json({**listed_json(started), "driven": driven})
    else:
        say(f"Run {started.name} is submitted, in namespace {target.namespace}.", err=False)
    if not driven:
        view = await engine.view(started.name, started.namespace)
        say(what_goes_on(view, f"jobyard run --resume {started.name}{target.options.words()}", driven=False))
    return 0


async def _resume(options: RunOptions) -> int:
    from jobyard.access import GO_ON, demand
    from jobyard.cli.watch_run import watch_run
    from jobyard.engine.clock import SystemClock
    from jobyard.engine.engine import open_engine
    from jobyard.service.target import open_target
    from jobyard.service.there import find_run

    async with open_target(options.target) as target:
        await demand(target.cluster, target.namespace, GO_ON)
        async with open_engine(target.cluster, SystemClock(), target.namespace) as engine:
            started = await find_run(target.cluster, engine, options.resume or "", "run --resume")
            return await watch_run(engine, started, target, options.output)


async def _make_namespace(cluster: Any, namespace: str) -> None:
    """The local cluster makes the namespace that a file names; on others that is for who runs them."""
    from jobyard.model.errors import Conflict

    try:
        await cluster.create_namespace(namespace)
    except Conflict:
        return


def _dry_run(options: RunOptions, workflow: Workflow, objects: Sequence[SideObject]) -> int:
    from jobyard.cli import draw
    from jobyard.service.shapes import object_json

    if options.output == "json":
        for each in objects:
            print_json({"object": object_json(each)})
        for step in workflow.ordered:
            if step.job is not None:
                print_json({"step": step.name, "needs": list(step.needs), "manifest": step.job.manifest})
    else:
        click.echo(draw.text(workflow))
        if objects:
            click.echo(draw.beside(objects))
        click.echo("Nothing was created (--dry-run).")
    return 0

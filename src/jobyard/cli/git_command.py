"""`jobyard git`: commit a Job to run it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.exceptions import Exit

from jobyard.cli.git_moves import Ends, print_move, print_move_json, warn
from jobyard.cli.git_options import author_option, git_options, largest_option, repository_options, serve_options
from jobyard.cli.hints import say
from jobyard.cli.options import cluster_options, output_option, verbose_option
from jobyard.cli.printing import print_json, print_table
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions

if TYPE_CHECKING:
    from jobyard.triggers.git.history import Standing


@click.group(name="git")
def git_group() -> None:
    """Commit a Job to run it.

    A manifest or workflow that is committed to `queued/` is run; its file goes on to `processing/`, and from there to `succeeded/`,
    `failed/` or `unknown/`. Begin with `jobyard git init`.
    """


@git_group.command()
@click.argument("folder", default="jobs", type=click.Path())
@click.option("--repository", metavar="URL", envvar="JOBYARD_GIT_REPOSITORY", show_envvar=True, help="Clone this repository into FOLDER.")
@click.option("--branch", metavar="NAME", help="The branch. By default, the repository's own.")
@click.option("--folder", "inside", metavar="PATH", help="The folder in the repository that is to hold queued/ and the others.")
@author_option
@verbose_option
def init(folder: str, repository: str | None, branch: str | None, inside: str | None, author: str) -> None:
    """Clone a repository of jobs into FOLDER, or make one; commit the five folders if they are missing."""
    asyncio.run(make(folder, GitOptions(repository=repository, branch=branch, folder=inside, author=author)))


async def make(name: str, options: GitOptions) -> None:
    """Clones or makes a repository of jobs, and says what was done. Raises GitFailed."""
    from jobyard.triggers.git import clone
    from jobyard.triggers.git.credentials import read_address

    folder = Path(name)
    if folder.exists():
        click.echo(f"{folder} exists already.")
    elif options.repository:
        await clone.clone(options.repository, folder, options.branch)
        address = read_address(options.repository)
        click.echo(f"Cloned {address.shown} into {folder}.")
        if address.password:
            click.echo(
                "Its address is kept without the password: from now on a credential helper, or GIT_USERNAME and GIT_PASSWORD, gives it."
            )
    else:
        await clone.make(folder)
        click.echo(f"Made a repository in {folder}.")
    found = await clone.open_here(folder.resolve(), options.branch, options.identity, options.repository or "")
    made = await clone.make_folders(found, options.base)
    if made:
        remote = " and pushed" if found.repository.source.remote else ""
        click.echo(f"Committed{remote} {', '.join(path.rsplit('/', 1)[0] for path in made)}.")
    if not found.repository.source.remote:
        branch = found.repository.source.branch
        click.echo(f"It has no remote yet:\n  cd {folder}\n  git remote add origin URL\n  git push -u origin {branch}")
    say("Next: commit a Job manifest to queued/, push, and run `jobyard git process` or `jobyard git watch`.", err=False)


@git_group.command()
@click.option("--wait", is_flag=True, help="Keep going until nothing is queued or running.")
@git_options
@serve_options
@cluster_options
@output_option
def process(wait: bool, git: GitOptions, serve: ServeOptions, target: TargetOptions, output: str) -> None:
    """Look once: start what is queued, move what has ended, push, and exit.

    Dependent steps, retries and timeouts only proceed while somebody looks: use `jobyard git watch`, or --wait, for workflows.
    With --wait, the exit code is 1 if a file did not succeed.
    """
    if code := asyncio.run(_process(git, serve, target, output, wait)):
        raise Exit(code)


async def _process(git: GitOptions, serve: ServeOptions, options: TargetOptions, output: str, wait: bool) -> int:
    from contextlib import nullcontext

    from jobyard.cli.git_live import live_files
    from jobyard.engine.clock import SystemClock
    from jobyard.service.git import open_trigger
    from jobyard.triggers.git.idle import why_idle

    live = live_files(SystemClock()) if wait and output == "text" else None
    move = live.move if live else print_move_json if output == "json" else print_move
    ends, told = Ends(move), live.note if live else lambda _: None
    async with open_trigger(git, serve, options, ends.say, live.say if live else warn, told=told, waits=False) as (trigger, engine):
        async with live.drawn(engine, trigger) if live else nullcontext():
            done = await (trigger.run_until_idle(engine) if wait else trigger.run_once(engine))
        if output == "text" and not (done.moves or wait):
            click.echo("Nothing to move." if done.running or done.waiting else await why_idle(trigger.repository, git.base), err=True)
        if output == "text" and (done.running or done.waiting):
            click.echo(f"{done.running} running, {done.waiting} waiting in the queue.", err=True)
    if not wait or not ends.bad:
        return 0
    say(ends.told())
    return 1


@git_group.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@git_options
@verbose_option
@output_option
def requeue(files: tuple[str, ...], git: GitOptions, output: str) -> None:
    """Put files that have ended back into the queue, from failed/, unknown/ or succeeded/. Each becomes a new run."""
    asyncio.run(print_requeued(git, files, output))


async def print_requeued(git: GitOptions, files: tuple[str, ...], output: str) -> None:
    """Queues files again, and says which. Raises NotThere, GitFailed."""
    from jobyard.service.git import open_repository
    from jobyard.triggers.git.history import requeue as back

    for move in await back(await open_repository(git), git.base, files):
        (print_move if output == "text" else print_move_json)(move)


@git_group.command()
@repository_options
@verbose_option
@output_option
def status(git: GitOptions, output: str) -> None:
    """Show which folder each file is in, since when, and which run it is. Needs only the repository."""
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service.shapes import standing_json

    rows, now = asyncio.run(_status(git)), SystemClock().now()
    if output == "json":
        for each in rows:
            print_json(standing_json(each))
        return
    if not rows:
        say("No files yet. Commit a Job manifest to queued/ and push it.")
        return
    shown = [(row.file, row.state, render.clock(row.at, now) if row.at else "", row.run, row.reason) for row in rows]
    print_table(("FILE", "STATE", "SINCE", "RUN", "REASON"), shown, ("SINCE",))


async def _status(git: GitOptions) -> list[Standing]:
    from jobyard.service.git import open_repository
    from jobyard.triggers.git.history import standing

    found = await open_repository(git)
    tip, look = await found.repository.look(git.base)
    return await standing(found, tip, look)


@git_group.command()
@click.argument("file", default="")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="List at most N.")
@repository_options
@verbose_option
@output_option
def log(file: str, limit: int, git: GitOptions, output: str) -> None:
    """Show the history of all files, or of FILE, newest first. Needs only the repository."""
    from jobyard.cli import render
    from jobyard.engine.clock import SystemClock
    from jobyard.service.shapes import transition_json

    rows, now = asyncio.run(_log(git, file.rsplit("/", 1)[-1], limit)), SystemClock().now()
    if output == "json":
        for each in rows:
            print_json(transition_json(each))
        return
    if not rows:
        say(f"No transitions of {file} yet." if file else "No transitions yet.")
        return
    shown = [(render.clock(each.at, now), each.file, each.state, each.run, each.commit[:10], each.reason) for each in rows]
    print_table(("TIME", "FILE", "STATE", "RUN", "COMMIT", "REASON"), shown, ("COMMIT", "RUN"))


async def _log(git: GitOptions, file: str, number: int) -> list[Any]:
    from jobyard.service.git import open_repository
    from jobyard.triggers.git.history import transitions

    found = await open_repository(git)
    tip, look = await found.repository.look(git.base)
    return [*await transitions(found, tip, look, number, file)]


@git_group.command()
@click.option(
    "--listen", metavar="HOST:PORT", default="0.0.0.0:8080", show_default=True, help="Where to receive webhooks, once a secret is set."
)
@click.option(
    "--poll",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="How often to look, whether or not a webhook comes.",
)
@largest_option
@git_options
@serve_options
@cluster_options
@output_option
def watch(listen: str, poll: float, largest: int, git: GitOptions, serve: ServeOptions, target: TargetOptions, output: str) -> None:
    """Keep looking: when a webhook tells of a push, when a run ends, and every minute.

    Webhooks are received at /webhooks/github, gitlab, gitea, forgejo and bitbucket once JOBYARD_WEBHOOK_SECRET (or
    GITHUB_WEBHOOK_SECRET) is set.
    """
    from jobyard.cli.git_watch import WatchOptions, keep_watching

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError(f"--listen {listen}: expected HOST:PORT, for example 127.0.0.1:8080")
    options = WatchOptions(host=host.strip("[]"), port=int(port), poll=timedelta(seconds=poll), largest=largest, output=output)
    asyncio.run(keep_watching(git, serve, target, options))


@git_group.command(context_settings={"allow_interspersed_args": False})
@click.argument("name")
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def template(name: str, image: str, command: tuple[str, ...]) -> None:
    """Print a Job manifest to begin with: its NAME, its IMAGE, and the rest of the line, as it is, for its COMMAND.

    Its pods keep to `restricted`, the strictest of the Pod Security Standards; what an image needs beyond that, change in the file.

    \b
    jobyard git template hello busybox sh -c 'date' > queued/hello.yaml
    """
    import yaml

    from jobyard.files.document import Document
    from jobyard.files.folder import Folder
    from jobyard.files.manifest import check_job

    words = list(command[1:] if command[:1] == ("--",) else command)
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        **({"command": words} if words else {}),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    # Most images are root's and name no other user: without a number, none of them would start as somebody else.
    user = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"restartPolicy": "Never", "securityContext": user, "containers": [container]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    folder = Folder(Path())
    check_job(folder, Document(file="", tree=job), literal=True)
    wrong = [f"{each.what}, expected {each.expected}" for each in folder.findings if each.is_error]
    if wrong or image.startswith("-"):  # nothing is printed then: the line may end in a file
        raise click.UsageError(
            wrong[0] if wrong else f"{image} in place of an image, as in: `jobyard git template hello busybox echo hello`"
        )
    click.echo(yaml.safe_dump(job, sort_keys=False, width=1000, allow_unicode=True), nl=False)

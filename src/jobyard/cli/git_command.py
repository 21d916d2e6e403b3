"""`jobyard git`: commit a Job to run it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import rich_click as click
from click.exceptions import Exit

from jobyard.cli.git_moves import Ends, print_move, print_move_json, warn
from jobyard.cli.git_options import git_options, largest_option, serve_options
from jobyard.cli.options import cluster_options, output_option
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions


@click.group(name="git")
def git_group() -> None:
    """Commit a Job to run it.

    A manifest or workflow that is committed to `queued/` is run; its file goes on to `processing/`, and from there to `succeeded/`,
    `failed/` or `unknown/`. Begin with `jobyard git init`.
    """


@git_group.command()
@click.argument("folder", default="jobs", type=click.Path())
@click.option("--repository", metavar="URL", envvar="JOBYARD_GIT_REPOSITORY", show_envvar=True, help="Clone this repository into FOLDER.")
@click.option("--branch", metavar="NAME", help="The branch; else the repository's default.")
@click.option("--folder", "inside", metavar="PATH", help="The folder in the repository that is to hold queued/ and the others.")
def init(folder: str, repository: str | None, branch: str | None, inside: str | None) -> None:
    """Clone a repository of jobs into FOLDER, or make one; commit the five folders if they are missing."""
    asyncio.run(make(folder, GitOptions(repository=repository, branch=branch, folder=inside)))


async def make(name: str, options: GitOptions) -> None:
    """Clones or makes a repository of jobs, and says what was done. Raises GitFailed."""
    from jobyard.triggers.git import clone
    from jobyard.triggers.git.credentials import read_address

    folder = Path(name)
    if folder.exists():
        click.echo(f"{folder} is there already.")
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
    click.echo("Next: commit a Job manifest to queued/, push, and run `jobyard git process` or `jobyard git watch`.")


@git_group.command()
@click.option("--wait", is_flag=True, help="Go on until nothing is queued or running any more.")
@git_options
@serve_options
@cluster_options
@output_option
def process(wait: bool, git: GitOptions, serve: ServeOptions, target: TargetOptions, output: str) -> None:
    """Look once: start what is queued, move what has ended, push, and exit.

    Steps that need others, retries and timeouts go on only while somebody looks: use `watch`, or --wait, for workflows.
    With --wait, exit code 1 when a file did not succeed.
    """
    if code := asyncio.run(_process(git, serve, target, output, wait)):
        raise Exit(code)


async def _process(git: GitOptions, serve: ServeOptions, options: TargetOptions, output: str, wait: bool) -> int:
    from jobyard.service.git import open_trigger

    ends = Ends(print_move_json if output == "json" else print_move)
    async with open_trigger(git, serve, options, ends.say, warn) as (trigger, engine):
        done = await (trigger.run_until_idle(engine) if wait else trigger.run_once(engine))
        if output == "text" and not (done.moves or wait):
            click.echo("Nothing to move." if done.running or done.waiting else "Nothing is queued or running.", err=True)
        if output == "text" and (done.running or done.waiting):
            click.echo(f"{done.running} running, {done.waiting} waiting in the queue.", err=True)
    if not wait or not ends.bad:
        return 0
    click.echo(ends.told(), err=True)
    return 1


@git_group.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@git_options
@output_option
def requeue(files: tuple[str, ...], git: GitOptions, output: str) -> None:
    """Queue files again that have ended: from failed/, unknown/ or succeeded/. Each becomes a new run."""
    asyncio.run(print_requeued(git, files, output))


async def print_requeued(git: GitOptions, files: tuple[str, ...], output: str) -> None:
    """Queues files again, and says which. Raises NotThere, GitFailed."""
    from jobyard.service.git import open_repository
    from jobyard.triggers.git.history import requeue as back

    for move in await back(await open_repository(git), git.base, files):
        (print_move if output == "text" else print_move_json)(move)


@git_group.command()
@git_options
@output_option
def status(git: GitOptions, output: str) -> None:
    """Show which file is in which folder, since when, and which run it is. Needs the repository alone."""
    from jobyard.cli import render

    rows = asyncio.run(_status(git))
    if output == "json":
        for each in rows:
            click.echo(json.dumps(each))
        return
    if not rows:
        click.echo("No files. Commit a Job manifest to queued/ and push.", err=True)
        return
    shown = [(row["file"], row["state"], row["since"], row["run"], row["reason"]) for row in rows]
    for line in render.plain_table(("FILE", "STATE", "SINCE", "RUN", "REASON"), shown):
        click.echo(line)


async def _status(git: GitOptions) -> list[dict[str, str]]:
    from jobyard.service.git import open_repository
    from jobyard.triggers.git.history import latest
    from jobyard.triggers.git.layout import show

    found = await open_repository(git)
    tip, look = await found.repository.look(git.base)
    known = await latest(found, tip, look)
    rows = []
    for place, files in look.files.items():
        for name in files:
            entry = known.get((show(name), place))
            since = entry.at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if entry else ""
            rows.append(
                {
                    "file": show(name),
                    "state": str(place),
                    "since": since,
                    "run": entry.run if entry else "",
                    "reason": entry.reason if entry else "",
                }
            )
    return rows


@git_group.command()
@click.argument("file", default="")
@click.option("-n", "--number", type=click.IntRange(min=1), default=50, show_default=True, help="How many transitions at most.")
@git_options
@output_option
def log(file: str, number: int, git: GitOptions, output: str) -> None:
    """Tell the history of all files, or of FILE, the newest first. Needs the repository alone."""
    from jobyard.cli import render
    from jobyard.service.shapes import transition_json

    rows = asyncio.run(_log(git, file.rsplit("/", 1)[-1], number))
    if output == "json":
        for each in rows:
            click.echo(json.dumps(transition_json(each)))
        return
    if not rows:
        click.echo("No transition yet.", err=True)
        return
    shown = [(row.at.astimezone().strftime("%Y-%m-%d %H:%M:%S"), row.file, row.state, row.run, row.commit[:10], row.reason) for row in rows]
    for line in render.plain_table(("AT", "FILE", "STATE", "RUN", "COMMIT", "REASON"), shown):
        click.echo(line)


async def _log(git: GitOptions, file: str, number: int) -> list[Any]:
    from jobyard.service.git import open_repository
    from jobyard.triggers.git.history import transitions

    found = await open_repository(git)
    tip, look = await found.repository.look(git.base)
    return [*await transitions(found, tip, look, number, file)]


@git_group.command()
@click.option(
    "--listen", metavar="HOST:PORT", default="0.0.0.0:8080", show_default=True, help="Where webhooks are received, if a secret is set."
)
@click.option(
    "--poll", metavar="SECONDS", type=click.FloatRange(min=1), default=60.0, show_default=True, help="How often to look in any case."
)
@largest_option
@git_options
@serve_options
@cluster_options
def watch(listen: str, poll: float, largest: int, git: GitOptions, serve: ServeOptions, target: TargetOptions) -> None:
    """Look again and again: when a forge tells of a push, when a run has ended, and every minute.

    Webhooks are received at /webhooks/github, gitlab, gitea, forgejo and bitbucket once JOBYARD_WEBHOOK_SECRET (or
    GITHUB_WEBHOOK_SECRET) is set.
    """
    from jobyard.cli.git_watch import WatchOptions, keep_watching

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise click.UsageError(f"--listen {listen}: expected HOST:PORT, for instance 127.0.0.1:8080")
    options = WatchOptions(host=host.strip("[]"), port=int(port), poll=timedelta(seconds=poll), largest=largest)
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
        raise click.UsageError(wrong[0] if wrong else f"{image} in place of an image, as in: jobyard git template hello busybox echo hello")
    click.echo(yaml.safe_dump(job, sort_keys=False, width=1000, allow_unicode=True), nl=False)

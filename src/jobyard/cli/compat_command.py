"""`jobyard compat`: the five tools' own commands, as drop-ins."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import rich_click as click

from jobyard.cli.git_options import largest_option
from jobyard.compat import goji
from jobyard.model.pod_level import PodLevel
from jobyard.service.options import GitOptions, ServeOptions, TargetOptions

_ANYTHING = ServeOptions(namespaces=("*",), kinds=("*",), pods=PodLevel.ANY, service_accounts=("*",), finalizers=True, commit_each=True)


@click.group()
def compat() -> None:
    """Run as one of the tools that Jobyard replaces, with its commands, variables and files."""


@compat.group(name="goji")
def goji_group() -> None:
    """As goji: works on ./jobs, commits each transition, and may create whatever its service account may.

    What goji promised but did not do, this does: processing/ is watched, requeue queues, and a refused push is tried again.
    """


def _options(repository: str = "") -> GitOptions:
    return GitOptions(repository=repository or None, author=goji.AUTHOR)


def _target() -> TargetOptions:
    return TargetOptions(namespace=goji.NAMESPACE)


@goji_group.command(name="init")
@click.option("--repository", metavar="URL")
def init(repository: str | None) -> None:
    """Clone the repository to ./jobs, or make ./jobs with its five folders."""
    from jobyard.cli.git_command import make

    if Path(goji.FOLDER).exists():
        click.echo(f"{goji.FOLDER} already exists, skipping.")
        return
    asyncio.run(make(goji.FOLDER, GitOptions(repository=repository)))


@goji_group.command(name="process")
@click.option("--repository", metavar="URL", help="Accepted and ignored, as in goji.")
def process(repository: str | None) -> None:
    """Start what is queued, and move what has ended."""
    asyncio.run(_process())


async def _process() -> None:
    from jobyard.cli.git_moves import print_move, warn
    from jobyard.service.git import open_trigger

    in_cluster = goji.read(os.environ).in_cluster
    async with open_trigger(_options(), _ANYTHING, _target(), print_move, warn, in_cluster=in_cluster, drop_duplicates=True) as (
        trigger,
        engine,
    ):
        await trigger.run_once(engine)


@goji_group.command(name="requeue")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def requeue(files: tuple[str, ...]) -> None:
    """Put files that have ended back into the queue."""
    from jobyard.cli.git_command import print_requeued

    asyncio.run(print_requeued(_options(), files, "text"))


@goji_group.command(name="template")
@click.argument("template")
@click.argument("job_name")
@click.argument("image")
@click.argument("filename")
def template(template: str, job_name: str, image: str, filename: str) -> None:
    """Print the template `basic-job`, or fill a template file and write it to jobs/queued/FILENAME."""
    if template == goji.BASIC:
        click.echo(goji.basic_job(job_name, image), nl=False)
        return
    try:
        text = Path(template).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise goji.TemplateWrong(file=template, why=str(getattr(error, "strerror", "") or "it is not a text file")) from None
    queued = Path(goji.FOLDER, "queued")
    if not queued.is_dir():
        raise goji.TemplateWrong(file=template, why=f"there is no folder {queued} to write to; `jobyard compat goji init` makes it")
    if Path(filename).name != filename:
        raise goji.TemplateWrong(file=template, why=f"{filename} is not a plain file name")
    (queued / filename).write_text(goji.fill(text, template, job_name, image, filename))
    click.echo(f"Wrote {queued / filename}. Commit and push it.")


@goji_group.command(name="server")
@click.option("--repository", metavar="URL", help="Accepted and ignored, as in goji.")
@click.option("--port", type=int, default=goji.PORT, show_default=True)
@largest_option
def server(repository: str | None, port: int, largest: int) -> None:
    """Receive GitHub's webhooks at :8080/webhooks/github, and look at the queue every minute as well."""
    from jobyard.cli.git_watch import WatchOptions, keep_watching

    known = goji.read(os.environ)
    options = _options("" if Path(goji.FOLDER).exists() else known.repository)
    watch = WatchOptions(
        host=goji.HOST,
        port=port,
        poll=timedelta(seconds=60),
        secret=known.secret,
        largest=largest,
        drop_duplicates=True,
        always_listen=True,
        in_cluster=known.in_cluster,
    )
    asyncio.run(keep_watching(options, _ANYTHING, _target(), watch))


@compat.command(name="event-jobs")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Where health and metrics are served.")
@click.option("--kubeconfig", metavar="FILE", help="The kubeconfig to use, outside a cluster.")
@click.option("--context", metavar="NAME", help="Its context.")
def event_jobs(port: int, kubeconfig: str | None, context: str | None) -> None:
    """As kubernetes-event-jobs: a Job for each AMQP message, by its variables and its ConfigMap.

    What the original promised but did not do, this does: the limit holds, no message is lost, a change of the ConfigMap is taken at once.
    """
    from jobyard.cli.event_jobs import serve_event_jobs

    asyncio.run(serve_event_jobs(os.environ, TargetOptions(kubeconfig=kubeconfig, context=context), port))

"""`jobyard`: the command and its subcommands; errors become a message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import rich_click as click
from click.exceptions import Abort, Exit

from jobyard import __version__
from jobyard.cli.check_command import check, schema
from jobyard.cli.clean_command import clean
from jobyard.cli.compat_command import compat
from jobyard.cli.git_command import git_group
from jobyard.cli.graph_command import graph
from jobyard.cli.limits_command import limits
from jobyard.cli.local_command import local
from jobyard.cli.logs_command import logs
from jobyard.cli.manifests_command import manifests
from jobyard.cli.rerun_command import rerun
from jobyard.cli.run_command import run
from jobyard.cli.runs_command import cancel, runs, show, why
from jobyard.model.errors import InvalidFiles, JobyardError

INTERRUPTED = 130

click.rich_click.TEXT_MARKUP = None
click.rich_click.COMMAND_GROUPS = {
    "jobyard": [
        {"name": "Run", "commands": ["run", "rerun", "git", "check", "graph"]},
        {"name": "Look", "commands": ["runs", "show", "logs", "why", "cancel", "clean"]},
        {"name": "Set up", "commands": ["limits", "local", "manifests", "schema", "compat", "completion"]},
    ],
    "jobyard git": [
        {"name": "Run", "commands": ["init", "process", "watch", "requeue"]},
        {"name": "Look", "commands": ["status", "log"]},
        {"name": "Help", "commands": ["template"]},
    ],
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="jobyard", message="%(prog)s %(version)s")
def cli() -> None:
    """Launches Kubernetes Jobs and keeps the record.

    Start with `jobyard run --local FILE`: it runs a workflow, a Jobernetes model or plain Job manifests on this machine.
    """


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL: put `eval "$(jobyard completion bash)"` into ~/.bashrc."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(cli, {}, "jobyard", "_JOBYARD_COMPLETE").source())


for command in (
    run,
    rerun,
    git_group,
    compat,
    check,
    graph,
    runs,
    show,
    logs,
    cancel,
    why,
    limits,
    clean,
    local,
    manifests,
    schema,
    completion,
):
    cli.add_command(command)


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 a run failed, 2 wrong input or usage, 3 no cluster or it refuses, 130 interrupted, 143 terminated."""
    try:
        sys.exit(cli.main(prog_name="jobyard", standalone_mode=False) or 0)
    except Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except (JobyardError, ExceptionGroup) as error:
        sys.exit(_tell(error))


def _tell(error: Exception) -> int:
    """Prints what went wrong, each thing once, and returns the exit code. What is not ours is a mistake of the program, and shows itself."""
    ours = list(_ours(error))
    if not ours:
        raise error
    for each in ours[:1]:
        if isinstance(each, InvalidFiles):
            for finding in each.findings:
                click.echo(str(finding), err=True)
        click.echo(f"jobyard: {each}", err=True)
    return ours[0].exit_code


def _ours(error: BaseException) -> Iterator[JobyardError]:
    if isinstance(error, JobyardError):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        found = [list(_ours(each)) for each in error.exceptions]
        if all(found):
            for each in found:
                yield from each

"""`jobyard`: the command and its subcommands; errors become a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import rich_click as click
from click.exceptions import Abort, Exit, NoArgsIsHelpError

from jobyard import __version__
from jobyard.cli.cancel_command import cancel
from jobyard.cli.check_command import check, schema
from jobyard.cli.clean_command import clean
from jobyard.cli.compat_command import compat
from jobyard.cli.git_command import git_group
from jobyard.cli.graph_command import graph
from jobyard.cli.hints import Given, tell
from jobyard.cli.limits_command import limits
from jobyard.cli.local_command import local
from jobyard.cli.logging import log_to_stderr
from jobyard.cli.logs_command import logs
from jobyard.cli.manifests_command import manifests
from jobyard.cli.rerun_command import rerun
from jobyard.cli.run_command import run
from jobyard.cli.runs_command import runs
from jobyard.cli.serve_command import serve, triggers
from jobyard.cli.show_command import show, why
from jobyard.cli.usage import in_our_words
from jobyard.model.errors import InvalidFiles, JobyardError, innermost

INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a program ends that SIGPIPE killed."""

click.rich_click.TEXT_MARKUP = None
click.rich_click.COMMAND_GROUPS = {
    "jobyard": [
        {"name": "Run", "commands": ["run", "rerun", "git", "serve", "check", "graph"]},
        {"name": "Look", "commands": ["runs", "show", "logs", "why", "cancel", "triggers", "clean"]},
        {"name": "Set up", "commands": ["limits", "local", "manifests", "schema", "compat", "completion"]},
    ],
    "jobyard git": [
        {"name": "Run", "commands": ["init", "process", "watch", "requeue"]},
        {"name": "Look", "commands": ["status", "log"]},
        {"name": "Help", "commands": ["template"]},
    ],
}


class Root(click.RichGroup):
    """Ends as other programs do when nobody reads any more what is printed (`| head`)."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (OSError, ExceptionGroup) as error:
            if not isinstance(innermost(error), BrokenPipeError):
                raise
            # What is still in a buffer goes nowhere, or Python would complain at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(BROKEN_PIPE) from None


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="jobyard", message="%(prog)s %(version)s")
def cli() -> None:
    """Launch Kubernetes Jobs and keep the record.

    Start with `jobyard run --local FILE`: it runs a workflow, a Jobernetes model or plain Job manifests on this machine.
    """


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a SHELL. Put `eval "$(jobyard completion bash)"` into ~/.bashrc."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(cli, {}, "jobyard", "_JOBYARD_COMPLETE").source())


for command in (
    run,
    rerun,
    git_group,
    serve,
    triggers,
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
    given = Given()
    log_to_stderr()
    try:
        sys.exit(cli.main(prog_name="jobyard", standalone_mode=False, obj=given) or 0)
    except Exit as leave:
        sys.exit(leave.exit_code)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        tell(f"jobyard: {in_our_words(error)}", cli, given)
        if isinstance(error, click.UsageError) and error.ctx is not None:
            tell(f"Try `{error.ctx.command_path} --help`.", None, given)
        sys.exit(error.exit_code)
    except (Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except (JobyardError, ExceptionGroup) as error:
        sys.exit(_tell(error, given))


def _tell(error: Exception, given: Given) -> int:
    """Prints what went wrong, each thing once, and returns the exit code. What is not ours is a mistake of the program, and shows itself."""
    ours = list(_ours(error))
    if not ours:
        raise error
    for each in ours[:1]:
        if isinstance(each, InvalidFiles):
            for finding in each.findings:
                tell(str(finding), cli, given)
        tell(f"jobyard: {each}", cli, given)
    return ours[0].exit_code


def _ours(error: BaseException) -> Iterator[JobyardError]:
    if isinstance(error, JobyardError):
        yield error
    elif isinstance(error, BaseExceptionGroup):
        found = [list(_ours(each)) for each in error.exceptions]
        if all(found):
            for each in found:
                yield from each

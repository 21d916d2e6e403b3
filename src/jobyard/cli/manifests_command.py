"""`jobyard manifests`: what has to be in a namespace for Jobyard to work there."""

from __future__ import annotations

import rich_click as click

from jobyard.cli.options import output_as
from jobyard.cli.printing import print_json


@click.command()
@click.option("--rbac", is_flag=True, required=True, help="Print the service account, the Role and the binding.")
@click.option("-n", "--namespace", metavar="NAME", default="default", show_default=True, help="The namespace that they are for.")
@click.option("--name", metavar="NAME", default="jobyard", show_default=True, help="What to call all three.")
@click.option(
    "--account",
    metavar="NAMESPACE/NAME",
    help="Bind this service account of another namespace, instead of making one: for the further namespaces of a service.",
)
@click.option(
    "--for", "parts", metavar="PART,...", help="Only what these parts need: run, git, pgboss, amqp, page. By default, all of them."
)
@click.option(
    "--secrets", is_flag=True, help="Include what runs need that bring Secrets; for git, also reading those that a repository commits."
)
@click.option(
    "--kinds", metavar="KIND,...", help="Include what runs need that bring objects of these kinds, such as Service,PersistentVolumeClaim."
)
@output_as("yaml", "json")
def manifests(
    rbac: bool, namespace: str, name: str, account: str | None, parts: str | None, secrets: bool, kinds: str | None, output: str
) -> None:
    """Print what a namespace needs: `jobyard manifests --rbac -n NAME | kubectl apply -f -`."""
    import yaml

    from jobyard.cluster import rights
    from jobyard.model.names import is_namespace

    named = list(rights.PARTS) if parts is None else _words(parts)
    if not named:  # an unset variable of a script must not print the widest Role
        raise click.UsageError(f"--for names no part; expected one or more of {', '.join(rights.PARTS)}")
    if unknown := [part for part in named if part not in rights.PARTS]:
        raise click.UsageError(f"--for {unknown[0]}: no such part; expected one or more of {', '.join(rights.PARTS)}")
    if secrets and not any(part in rights.SECRETS for part in named):
        raise click.UsageError(f"--secrets does nothing for {', '.join(named)}: leave it out")
    theirs, _, called = (account or "").partition("/")
    if account is not None and not (is_namespace(theirs) and is_namespace(called)):
        raise click.UsageError(f"--account {account}: expected NAMESPACE/NAME, for example jobs/jobyard")
    needed = rights.needed(named, secrets=secrets, kinds=_words(kinds))
    objects = rights.rbac(namespace, name, needed, (theirs, called) if account is not None else None)
    if output == "json":
        print_json({"apiVersion": "v1", "kind": "List", "items": objects})
        return
    click.echo(f"# For {', '.join(named)}{' with Secrets' if secrets else ''}.")
    for right in needed:
        left_out = f" (may be left out: {right.without})" if right.without else ""
        click.echo(f"# {right.resource}, {' '.join(right.verbs)}: {right.why}{left_out}")
    click.echo(yaml.safe_dump_all(objects, sort_keys=False), nl=False)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]

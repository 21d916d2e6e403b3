"""`jobyard manifests`: what has to be in a namespace for Jobyard to work there."""

from __future__ import annotations

import rich_click as click


@click.command()
@click.option("--rbac", is_flag=True, required=True, help="The service account, the Role and the binding.")
@click.option("-n", "--namespace", metavar="NAME", default="default", show_default=True, help="The namespace to work in.")
@click.option("--name", metavar="NAME", default="jobyard", show_default=True, help="The name of all three.")
@click.option("--for", "parts", metavar="PART,...", help="Only what these parts need: run, git, pgboss, amqp, page. All by default.")
@click.option("--secrets", is_flag=True, help="Also for runs that bring Secrets; for git also reading those that a repository commits.")
@click.option("--kinds", metavar="KIND,...", help="Also for runs that bring objects of these kinds, as Service,PersistentVolumeClaim.")
def manifests(rbac: bool, namespace: str, name: str, parts: str | None, secrets: bool, kinds: str | None) -> None:
    """Print what a namespace needs: jobyard manifests --rbac -n NAME | kubectl apply -f -"""
    import yaml

    from jobyard.cluster import rights

    named = list(rights.PARTS) if parts is None else _words(parts)
    if not named:  # an unset variable of a script must not print the widest Role
        raise click.UsageError(f"--for names no part: expected some of {', '.join(rights.PARTS)}")
    if unknown := [part for part in named if part not in rights.PARTS]:
        raise click.UsageError(f"--for {unknown[0]}: expected some of {', '.join(rights.PARTS)}")
    needed = rights.needed(named, secrets=secrets, kinds=_words(kinds))
    click.echo(f"# For {', '.join(named)}{' with Secrets' if secrets else ''}.")
    for right in needed:
        left_out = f" (may be left out: {right.without})" if right.without else ""
        click.echo(f"# {right.resource}, {' '.join(right.verbs)}: {right.why}{left_out}")
    click.echo(yaml.safe_dump_all(rights.rbac(namespace, name, needed), sort_keys=False), nl=False)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]

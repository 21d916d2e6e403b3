"""`jobyard manifests`: what has to be in a namespace for Jobyard to work there."""

from __future__ import annotations

import rich_click as click


@click.command()
@click.option("--rbac", is_flag=True, required=True, help="The service account, the Role and the binding.")
@click.option("-n", "--namespace", metavar="NAME", default="default", show_default=True, help="The namespace to work in.")
@click.option("--name", metavar="NAME", default="jobyard", show_default=True, help="The name of all three.")
def manifests(rbac: bool, namespace: str, name: str) -> None:
    """Print what a namespace needs: jobyard manifests --rbac -n NAME | kubectl apply -f -"""
    import yaml

    from jobyard.cluster import rights

    for right in rights.RIGHTS:
        click.echo(f"# {right.resource}: {right.why}")
    click.echo(yaml.safe_dump_all(rights.rbac(namespace, name), sort_keys=False), nl=False)

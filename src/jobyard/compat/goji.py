"""goji: its folder, its variables, its port, its templates. Pure but for the environment, which is handed in."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobyard.model.errors import WrongInput

FOLDER = "jobs"
AUTHOR = "Goji Bot <goji-bot@goji>"
NAMESPACE = "default"
"""Where goji put what names no namespace, whatever the kubeconfig's context said."""
HOST, PORT = "0.0.0.0", 8080  # noqa: S104 - what goji's chart expects
BASIC = "basic-job"


class TemplateWrong(WrongInput):
    """A template that can't be filled or written."""

    sentence = (
        "template {file}: {why}. Its placeholders are {{args.job_name}}, {{args.image}} and {{args.filename}}; write a literal brace twice"
    )
    file: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What goji read from its environment."""

    in_cluster: bool
    repository: str
    secret: str


def read(variables: Mapping[str, str]) -> Environment:
    """goji's variables. `IN_CLUSTER` counts only as exactly "true"."""
    return Environment(
        in_cluster=variables.get("IN_CLUSTER") == "true",
        repository=variables.get("GIT_REPOSITORY", ""),
        secret=variables.get("GITHUB_WEBHOOK_SECRET", ""),
    )


class _Fields(string.Formatter):
    """Fills `{args.NAME}` from known names, and nothing else: a template must not reach into our objects."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        known = kwargs.get(field_name)
        if known is None:
            raise KeyError(field_name)
        return known, field_name


def fill(text: str, file: str, job_name: str, image: str, filename: str) -> str:
    """A template's text with its placeholders filled. Raises TemplateWrong."""
    known = {"args.job_name": job_name, "args.image": image, "args.filename": filename}
    try:
        return _Fields().vformat(text, (), known)
    except KeyError as error:
        raise TemplateWrong(file=file, why=f"{{{error.args[0]}}} is not a valid placeholder") from None
    except (ValueError, IndexError) as error:
        raise TemplateWrong(file=file, why=str(error)) from None


def basic_job(job_name: str, image: str) -> str:
    """goji's `basic-job`."""
    return f"""apiVersion: batch/v1
kind: Job
metadata:
  name: {job_name}
spec:
  template:
    spec:
      containers:
      - name: {job_name}
        image: {image}
      restartPolicy: Never
  backoffLimit: 1
"""

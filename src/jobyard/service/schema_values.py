"""What values in a settings file are made of: each may come from the environment or a file, where everything is text."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from jobyard.service.sources import FromOutside


class Part(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", strict=True)


def number(value: object) -> object:
    """A number may come from the environment, where everything is text."""
    return int(value) if isinstance(value, FromOutside) and value.isascii() and value.isdigit() and len(value) < 10 else value


def _text(value: object) -> object:
    return str(value) if isinstance(value, FromOutside) else value


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, FromOutside) else value


Text = Annotated[str, BeforeValidator(_text)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Secret = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": "string", "description": "A secret: {env: NAME} or {file: PATH}."})]
"""A value that nothing may show."""

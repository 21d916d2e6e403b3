"""What one field may hold, as values: a form, one of some words, a range."""

from __future__ import annotations

from dataclasses import dataclass

from jobyard.files.rules.forms import Form
from jobyard.files.rules.part import Part
from jobyard.model.finding import did_you_mean

LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text of a form. `required`: it may not be missing. `even_empty`: "" is judged, too, where a text that is left out is fine."""

    form: Form | None = None
    required: bool = False
    even_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class Word:
    """One of some words. `even_empty`: "" is none of them; elsewhere it means the default."""

    words: tuple[str, ...]
    required: bool = False
    even_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class Number:
    """A whole number. `required`: neither missing nor 0."""

    low: int = 0
    high: int | None = None
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A list of texts, each of a form. `required`: one at least."""

    form: Form | None = None
    required: bool = False


Check = Text | Word | Number | Texts
Fields = dict[str, dict[str, Check]]


def words(*allowed: str, required: bool = False, even_empty: bool = False) -> Word:
    return Word(words=allowed, required=required, even_empty=even_empty)


def judge(part: Part, key: str, check: Check) -> None:
    """Says what is wrong with the field `key`."""
    match check:
        case Text():
            _text(part, key, check)
        case Word():
            _word(part, key, check)
        case Number():
            _number(part, key, check)
        case Texts():
            if check.required and not part.value.get(key):
                part.missing(key)
            for index, text in part.texts(key) if check.form else ():
                if check.form and not check.form.fits(text):
                    part.wrong((key, index), text, check.form.expected)


def _text(part: Part, key: str, check: Text) -> None:
    text = part.text(key)
    if text is None or (not text and not check.required and not (check.even_empty and part.has(key))):
        return
    if not text and check.required:
        part.missing(key)
    elif check.form and not check.form.fits(text):
        part.wrong((key,), text, check.form.expected)


def _word(part: Part, key: str, check: Word) -> None:
    text = part.text(key)
    if text is None or text in check.words:
        return
    if text or (check.even_empty and part.has(key)):
        part.wrong((key,), text, either(check.words), did_you_mean(text, check.words))
    elif check.required:
        part.missing(key, remedy=f"add {either(check.words)}")


def _number(part: Part, key: str, check: Number) -> None:
    number = part.number(key)
    if check.required and not part.value.get(key) and not isinstance(part.value.get(key), str):
        part.missing(key)
    elif number is not None and (number < check.low or (check.high is not None and number > check.high)):
        expected = f"{check.low} or more" if check.high is None else f"{check.low} to {check.high}"
        part.error((key,), f"{part.spell(key)} is {number}", expected)


def either(allowed: tuple[str, ...]) -> str:
    """Words as a choice: `Never or OnFailure`."""
    return f"{', '.join(allowed[:-1])} or {allowed[-1]}" if len(allowed) > 1 else allowed[0]


def one_source(part: Part, sources: tuple[str, ...], *, required: bool = True) -> str:
    """Which of some fields stands there; more than one is wrong, and none where one is required. The first, or ""."""
    there = [each for each in sources if part.has(each)]
    if not there and required:
        part.error((), f"{part.spell()} has none of {', '.join(sources)}", "one of them")
    for each in there[1:]:
        part.forbidden(each, f"together with {there[0]}", "keep one of the two")
    return there[0] if there else ""

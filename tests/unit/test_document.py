"""YAML and JSON as kubectl reads them, with positions."""

from __future__ import annotations

import pytest

from jobyard.files.document import load


def value(text: str, name: str = "f.yaml") -> object:
    documents, findings = load(text.encode(), name)
    assert not findings, findings[0]
    return documents[0].tree


def finding(text: bytes, name: str = "f.yaml") -> str:
    _, findings = load(text, name)
    return str(findings[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        ("Off", False),
        ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"),
        ("012", 10),
        ("0o14", 12),
        ("0x1F", 31),
        ("1e3", 1000),
        ("1.50", 1.5),
        (".5", 0.5),
        ("1_000", 1000),
        ("~", None),
        ("", None),
        ('"yes"', "yes"),
        ("'012'", "012"),
        ("!!str 12", "12"),
        ("!!binary aGk=", "hi"),
        ("-7", -7),
        ("1.2.3", "1.2.3"),
        (".inf", ".inf"),
    ],
)
def test_scalars_follow_kubectl(text: str, expected: object) -> None:
    tree = value(f"a: {text}\n")
    assert isinstance(tree, dict)
    assert tree["a"] == expected
    assert type(tree["a"]) is type(expected)


def test_keys_are_strings_and_merges_work() -> None:
    assert value("n: 1\n2: x\nbase: &b {q: 1, r: 1}\nd:\n  <<: *b\n  r: 2\n") == {
        "false": 1,
        "2": "x",
        "base": {"q": 1, "r": 1},
        "d": {"q": 1, "r": 2},
    }


def test_every_value_knows_where_it_stands() -> None:
    document = load(b"a:\n  - b: 1\n    c: [x, y]\n", "f.yaml")[0][0]
    assert str(document.at(("a", 0, "c", 1))) == "f.yaml:3:12"
    assert str(document.at(("a", 0, "c"), key=True)) == "f.yaml:3:5"
    assert str(document.at(("a", 7, "nowhere"))) == "f.yaml:2:3", "of what is not there, the nearest thing around it"


def test_json_keeps_its_own_values_and_still_has_positions() -> None:
    documents, findings = load(b'{"a": "\\ud83d\\ude00", "b": [1,\n 2]}', "f.json")
    assert not findings
    assert documents[0].tree == {"a": "\U0001f600", "b": [1, 2]}
    assert str(documents[0].at(("b", 1))) == "f.json:2:2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a: 1\nb: 2\na: 3\n", "f.yaml:3:1: the key 'a' appears twice"),
        (b"a:\n\t- x\n", "f.yaml:2:1: not YAML"),
        (b"a: b: c\n", "f.yaml:1:5: not YAML"),
        (b"a: [1,\nb: 3", "f.yaml:"),
        (b"ok: 1\nbad: \xff\n", "f.yaml:2:6: byte 0xff is not UTF-8"),
        (b"a: \x01\n", "f.yaml:1:4: a character that YAML does not allow"),
        (b"a: &x [*x]\n", "f.yaml:1:8: an alias inside its own anchor"),
        (b"? [a]\n: b\n", "f.yaml:1:3: a key that is a list"),
        (b"[" * 5000, "f.yaml:"),
        (b"a: !!binary '?'\n", "f.yaml:1:4: !!binary"),
    ],
)
def test_mistakes_have_a_place(text: bytes, expected: str) -> None:
    assert finding(text).startswith(expected)


def test_a_file_too_large_is_refused_before_it_is_read() -> None:
    assert "the file has more than 10,485,760 bytes" in finding(b" " * (10 * 1024 * 1024 + 1))


def test_empty_documents_are_left_out() -> None:
    assert [document.tree for document in load(b"---\n---\na: 1\n---\n# nothing\n", "f.yaml")[0]] == [{"a": 1}]

"""Files that were made to do harm: what a person who may push could push. The small ones lie in this folder, the large ones are made here.

Each is refused with a sentence, and ends nothing but itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent

JOB = """apiVersion: batch/v1
kind: Job
metadata: {name: good}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox, command: [sh, -c, echo hi]}]}}}
"""
FLOW = "apiVersion: jobyard.dev/v1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  steps:\n"


def _job(spec: str) -> str:
    return f"apiVersion: batch/v1\nkind: Job\nmetadata: {{name: good}}\nspec: {{template: {{spec: {spec}}}}}\n"


def _pod(more: str) -> str:
    return _job(f"{{restartPolicy: Never, containers: [{{name: main, image: busybox}}], {more}}}")


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _chain(count: int, line: str) -> Iterator[str]:
    yield "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"
    for number in range(1, count):
        yield f"a{number}: &a{number} [{line.format(f'*a{number - 1}')}]"


def _steps(count: int, more: str) -> str:
    spec = "{restartPolicy: Never, containers: [{name: main, image: busybox, command: [x]}]}"
    return FLOW + _lines(
        f"    - {{name: s{number}, job: {{spec: {{backoffLimit: 0, template: {{spec: {spec}}}}}}}, {more.format(before=f's{number - 1}')}}}"
        for number in range(1, count)
    )


def finalizers() -> str:
    """A hundred thousand finalizers, in as many bytes as a Job takes."""
    text = "apiVersion: example.org/v1\nkind: Foo\nmetadata: {name: foo}\nspec:\n  a0: &a0 {metadata: {finalizers: [a]}}\n"
    return text + _lines(f"  a{depth}: &a{depth} [{','.join([f'*a{depth - 1}'] * 18)}]" for depth in range(1, 5))


LARGE: dict[str, Callable[[], str]] = {
    # depth
    "deep-lists.yaml": lambda: "- " * 200_000,
    "deep-lists-in-a-line.yaml": lambda: "[" * 200_000,
    "deep-lists.json": lambda: "[" * 200_000 + "]" * 200_000,
    "deep-mappings.json": lambda: '{"a":' * 200_000 + "1" + "}" * 200_000,
    "deep-keys.yaml": lambda: "? " * 200_000,
    "deep-lines.yaml": lambda: _lines(" " * number + "a:" for number in range(4_000)),
    "deep-by-aliases.yaml": lambda: _lines(_chain(5_000, "{}")),
    "deep-in-a-job.yaml": lambda: JOB + "x: " + "{a: " * 100_000,
    # values, and what they hold
    "aliases-of-aliases.yaml": lambda: _lines(_chain(9, ", ".join(["{0}"] * 10))),
    "merges-of-merges.yaml": lambda: _lines(
        [
            f"m: &m {{{', '.join(f'k{number}: 1' for number in range(1_000))}}}",
            f"n: [{', '.join(['{<<: *m}'] * 2_000)}]",
        ]
    ),
    "aliases-of-a-megabyte.yaml": lambda: _lines([f"a: &a {'x' * 1_000_000}", f"b: [{', '.join(['*a'] * 300)}]"]),
    "a-million-values.yaml": lambda: f"[{'1,' * 1_100_000}]",
    "a-million-documents.yaml": lambda: "---\n" * 1_200_000,
    "eleven-megabytes.yaml": lambda: JOB + f"# {'x' * 11_000_000}",
    # mistakes, and what is said of them
    "unknown-fields.yaml": lambda: _pod(", ".join(f"field{number}: 1" for number in range(100_000))),
    "unknown-steps.yaml": lambda: _steps(1_000, "needs: [{before}x, {before}y]"),
    "finalizers-by-aliases.yaml": finalizers,
    "no-objects.yaml": lambda: "a: 1\n---\n" * 100_000,
    "keys-of-a-megabyte.yaml": lambda: JOB + _lines(f"? {chr(97 + number) * 1_000_000}\n: 1" for number in range(8)),
    "wrong-steps.yaml": lambda: FLOW + "    - {name: 1, job: 2, needs: 3, when: 4}\n" * 10_000,
    "twins.yaml": lambda: f"{JOB}---\n" * 5_000,
    "twins-beside.yaml": lambda: JOB + "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: twin}}\n" * 20_000,
    "labels-that-are-none.yaml": lambda: _lines(
        [
            f"apiVersion: batch/v1\nkind: Job\nmetadata: {{name: good, labels: {{{', '.join(f'a {number}: b c' for number in range(50_000))}}}}}"
        ]
    ),
    # texts that a careless pattern goes over again and again
    "spaces-in-a-placeholder.yaml": lambda: (
        FLOW
        + f"    - {{name: a, needs: [b], job: {{spec: {{template: {{spec: {{restartPolicy: Never, hostname: '{{{{ params.x{' ' * 2_000_000}'}}}}}}}}}}\n"
    ),
    "digits-of-a-duration.yaml": lambda: (
        FLOW.replace("  steps", f"  timeout: '{'1' * 2_000_000}x'\n  steps") + "    - {name: a, job: {}}\n"
    ),
    "brackets-of-a-field.yaml": lambda: _pod(
        f"""volumes: [{{name: v, downwardAPI: {{items: [{{path: p, fieldRef: {{fieldPath: "{"['" * 1_000_000}"}}}}]}}}}]"""
    ),
    "quantity-of-a-megabyte.yaml": lambda: _pod(f"resources: {{limits: {{cpu: '{'1' * 1_000_000}x'}}}}"),
    "name-of-a-megabyte.yaml": lambda: JOB.replace("good", "a-" * 500_000 + "."),
    "value-of-a-megabyte.yaml": lambda: JOB.replace(
        "{name: good}", f"{{name: good, labels: {{a: '{'b' * 1_000_000}', {'c.' * 500_000}: d}}}}"
    ),
    # workflows
    "chain-after-a-failure.yaml": lambda: (
        _steps(3_000, "needs: [{before}]")
        .replace("needs: [s0]", "needs: []")
        .replace("needs: [s1]", "needs: [s1], when: failed")
        .replace("needs: [s2998]", "needs: [s2998, s1]")
    ),
    "all-need-all.yaml": lambda: _steps(200, f"needs: [{', '.join(f's{number}' for number in range(200))}]"),
}


def small() -> list[Path]:
    """The small ones, sorted by name."""
    return sorted(path for path in FOLDER.iterdir() if path.suffix in (".yaml", ".json"))


def names() -> list[str]:
    """Of all of them."""
    return [*(path.name for path in small()), *LARGE]


def write(name: str, folder: Path) -> Path:
    """Puts one of them into a folder."""
    path = folder / name
    path.write_bytes((FOLDER / name).read_bytes() if name not in LARGE else LARGE[name]().encode())
    return path

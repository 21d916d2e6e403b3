"""The pure parts of Git: folders, messages, webhooks, what must not be told, goji's templates."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import tarfile
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.compat import goji
from jobyard.triggers.git import layout, moves, webhooks
from jobyard.triggers.git.clone import is_in, without_password
from jobyard.triggers.git.layout import Entry, Place, QueueFile
from jobyard.triggers.git.listen import Message, Webhooks
from jobyard.triggers.git.manifests import hide, secrets, unpack
from jobyard.triggers.git.moves import Move
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.repository import Repository, Source
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger

SECRET = "s3cret"


def entry(path: str) -> Entry:
    return Entry(path=path, mode="100644", oid="a" * 40, size=1)


def test_folders_are_found_at_the_top_or_under_jobs() -> None:
    top = layout.read(
        [entry("queued/a.yaml"), entry("queued/.gitkeep"), entry("queued/deep/b.yaml"), entry("queued/c.txt"), entry("x/queued/d.yaml")]
    )
    assert (top.base, set(top.files[Place.QUEUED])) == ("", {"a.yaml"})
    assert top.missing == (Place.PROCESSING, Place.SUCCEEDED, Place.FAILED, Place.UNKNOWN)
    under = layout.read([entry("jobs/failed/a.json"), entry("README.md")])
    assert (under.base, under.places("a.json"), under.path(Place.QUEUED, "x")) == ("jobs/", [Place.FAILED], "jobs/queued/x")
    assert layout.read([entry("ops/queued/a.yml")], "ops/").files[Place.QUEUED].keys() == {"a.yml"}
    assert layout.read([]).base == ""


def move(name: str = "a.yaml", target: Place | None = Place.PROCESSING, **more: object) -> Move:
    return Move(file=QueueFile(name=name, place=Place.QUEUED, mode="100644", oid="o"), target=target, **more)  # type: ignore[arg-type]


def test_one_file_has_goji_s_first_line() -> None:
    assert moves.message([move()]).splitlines()[0] == "a.yaml transitioned from queued to processing"
    assert moves.subject([move("a"), move("b")]) == "2 files transitioned from queued to processing"
    assert (
        moves.subject([move("a"), move("b", Place.FAILED)]) == "2 files transitioned: 1 from queued to processing, 1 from queued to failed"
    )


@given(st.lists(st.tuples(st.text(min_size=1), st.text(), st.lists(st.text())), min_size=1, max_size=4, unique_by=lambda each: each[0]))
def test_what_a_message_says_is_read_again_whatever_a_log_says(files: list[tuple[str, str, list[str]]]) -> None:
    """Neither names nor logs nor reasons can forge a trailer."""
    told = [
        move(
            name.replace("/", "_").replace("\0", "_").encode("utf-8", "replace").decode(),
            run="r-1",
            namespace="n",
            reason=reason,
            lines=("Jobyard-Run: evil", *lines),
        )
        for name, reason, lines in files
    ]
    read = moves.read(moves.message(told))
    assert [(each.file, each.state, each.run, each.namespace) for each in read] == [
        (layout.show(each.name), "processing", "r-1", "n") for each in told
    ]


def test_claims_are_the_newest_word_on_a_file() -> None:
    claimed, ended = moves.message([move(run="r1")]), moves.message([move(target=Place.FAILED, run="r1")])
    assert moves.claims([claimed], ["a.yaml"])["a.yaml"].run == "r1"
    assert moves.claims([ended, claimed], ["a.yaml"]) == {}
    assert moves.claims(["a person's words", moves.message([move(run="r2")]), ended, claimed], ["a.yaml"])["a.yaml"].run == "r2"
    assert moves.read("just\n\nwords: of a person") == []


def signed(body: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(SECRET.encode(), body, getattr(hashlib, algorithm)).hexdigest()


PUSH = json.dumps({"ref": "refs/heads/main", "before": "0", "after": "c1"}).encode()
FORM = urlencode({"payload": PUSH.decode()}).encode()
CLOUD = json.dumps({"push": {"changes": [{"new": {"type": "branch", "name": "main", "target": {"hash": "c1"}}}, {"new": None}]}}).encode()
SERVER = json.dumps({"changes": [{"refId": "refs/heads/main", "toHash": "c1"}]}).encode()
LAB = json.dumps({"object_kind": "push", "ref": "refs/heads/main", "before": "0", "after": "c1"}).encode()


@pytest.mark.parametrize(
    ("forge", "headers", "body"),
    [
        ("github", {"x-hub-signature-256": f"sha256={signed(PUSH)}"}, PUSH),
        ("github", {"x-hub-signature": f"sha1={signed(PUSH, 'sha1')}"}, PUSH),
        ("github", {"x-hub-signature-256": f"sha256={signed(FORM)}", "content-type": "application/x-www-form-urlencoded"}, FORM),
        ("gitea", {"x-gitea-signature": signed(PUSH)}, PUSH),
        ("forgejo", {"x-forgejo-signature": signed(PUSH)}, PUSH),
        ("gitlab", {"x-gitlab-token": SECRET}, LAB),
        ("bitbucket", {"x-hub-signature": f"sha256={signed(CLOUD)}"}, CLOUD),
        ("bitbucket", {"x-hub-signature": f"sha256={signed(SERVER)}"}, SERVER),
    ],
)
def test_each_forge_tells_of_a_push_in_its_own_way(forge: str, headers: dict[str, str], body: bytes) -> None:
    assert webhooks.read(forge, headers, body, SECRET).branches == {"main": "c1"}


@pytest.mark.parametrize(
    ("forge", "headers", "body", "status"),
    [
        ("github", {}, PUSH, 400),
        ("github", {"x-hub-signature-256": "sha256=00"}, PUSH, 400),
        ("github", {"x-hub-signature-256": f"sha256={signed(PUSH)}"}, PUSH + b" ", 400),
        # A wrong newer signature is not mended by a right older one.
        ("github", {"x-hub-signature-256": "sha256=00", "x-hub-signature": f"sha1={signed(PUSH, 'sha1')}"}, PUSH, 400),
        ("github", {"x-hub-signature-256": f"sha256={signed(b'{')}"}, b"{", 400),
        ("github", {"x-hub-signature-256": "sha256=\u00e9"}, PUSH, 400),
        ("gitlab", {"x-gitlab-token": "other"}, LAB, 400),
        ("gitea", {"x-gitea-signature": ""}, PUSH, 400),
        ("bitbucket", {"x-hub-signature": f"sha1={signed(CLOUD, 'sha1')}"}, CLOUD, 400),
        ("sourceforge", {}, PUSH, 404),
    ],
)
def test_who_does_not_know_the_secret_is_refused(forge: str, headers: dict[str, str], body: bytes, status: int) -> None:
    with pytest.raises(webhooks.Refused) as refused:
        webhooks.read(forge, headers, body, SECRET)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "body",
    [
        {"zen": "Design for failure.", "hook_id": 1},
        {"ref": "refs/tags/v1", "before": "0", "after": "c"},
        {"ref": 3},
        [1],
        {"action": "synchronize", "before": "a", "after": "b"},
    ],
)
def test_pings_tags_and_other_news_move_no_branch(body: object) -> None:
    data = json.dumps(body).encode()
    for forge, headers in (("github", {"x-hub-signature-256": f"sha256={signed(data)}"}), ("gitlab", {"x-gitlab-token": SECRET})):
        assert webhooks.read(forge, headers, data, SECRET).branches == {}


def test_without_a_secret_nobody_is_believed() -> None:
    with pytest.raises(webhooks.Refused) as refused:
        webhooks.read("gitlab", {"x-gitlab-token": ""}, LAB, "")
    assert refused.value.status == 503


def test_what_manifests_keep_secret_is_not_told() -> None:
    encoded = base64.b64encode(b"decoded-value").decode()
    tree = {
        "kind": "List",
        "items": [
            {"kind": "Secret", "data": {"a": encoded, "bad": "%%"}, "stringData": {"b": "line one\nline two", "c": "x"}},
            {"env": [{"name": "DB_PASSWORD", "value": "from-env"}, {"name": "PLAIN", "value": "visible"}]},
        ],
    }
    told = hide("decoded-value, line two, from-env, visible, x", secrets([tree]))
    assert told == "***, ***, ***, visible, x"


def test_an_archive_can_t_write_elsewhere(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("good/a.yaml", "../outside.yaml", "/tmp/absolute.yaml"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    (tmp_path / "in").mkdir()
    unpack(data.getvalue(), tmp_path / "in")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == ["in/good/a.yaml"]
    assert not (tmp_path / "in/link").exists()


def test_paths_and_addresses() -> None:
    assert is_in("failed/x.yaml") == is_in("jobs/failed/x.yaml") == is_in("./failed/x.yaml") == (Place.FAILED, "x.yaml")
    assert is_in("x.yaml") == (None, "x.yaml")
    assert without_password("https://me:pw@host/x.git") == "https://host/x.git"
    assert without_password("git@github.com:me/x.git") == "git@github.com:me/x.git"


def test_goji_s_templates_are_filled_and_reach_nothing_else() -> None:
    assert goji.fill("{args.job_name} {args.image} {args.filename} {{x}}", "t", "j", "i", "f") == "j i f {x}"
    for wrong in ("{args.__class__}", "{args}", "{0}", "{args.job_name.__class__}", "{"):
        with pytest.raises(goji.TemplateWrong):
            goji.fill(wrong, "t", "j", "i", "f")
    assert goji.read({"IN_CLUSTER": "True", "GIT_REPOSITORY": "u"}) == goji.Environment(in_cluster=False, repository="u", secret="")


class Caller:
    """Calls an ASGI application."""

    def __init__(self, folder: Path) -> None:
        source = Source(folder=folder, branch="main", remote="origin")
        settings = Settings(policy=Policy(default_namespace="default"))
        self.trigger = GitTrigger(Repository(source), settings, "https://example.com/jobs.git")
        self.app = Webhooks(self.trigger, SECRET)

    async def __call__(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, str]:
        sent: list[Message] = []
        pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)] or [b""]

        async def receive() -> Message:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            sent.append(message)

        raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        await self.app({"type": "http", "path": path, "method": method, "headers": raw}, receive, send)
        return sent[0]["status"], sent[1]["body"].decode()

    async def push(self, commit: str, branch: str = "main") -> bool:
        """Tells of a push; whether it was worth a look."""
        self.trigger.wanted.clear()
        body = json.dumps({"ref": f"refs/heads/{branch}", "before": "0", "after": commit}).encode()
        assert await self("POST", "/webhooks/github", body, {"X-Hub-Signature-256": f"sha256={signed(body)}"}) == (200, "OK")
        return self.trigger.wanted.is_set()


async def test_each_push_to_the_branch_is_one_look(tmp_path: Path) -> None:
    call = Caller(tmp_path)
    call.trigger.pushed = "ours"
    assert [await call.push(commit) for commit in ("c1", "c1", "c2", "ours", "c1")] == [True, False, True, False, False]
    assert not await call.push("c3", branch="other")


async def test_what_is_no_delivery_is_answered_plainly(tmp_path: Path) -> None:
    call = Caller(tmp_path)
    assert await call("GET", "/health") == (200, "OK!")
    assert (await call("GET", "/webhooks/github"))[0] == 405
    assert (await call("POST", "/webhooks/unheard-of"))[0] == 404
    assert (await call("GET", "/"))[0] == 404
    assert await call("POST", "/webhooks/github", b"{}") == (400, "Invalid webhook signature")
    assert (await call("POST", "/webhooks/github", b"x" * (webhooks.BODY_LIMIT + 1)))[0] == 413
    assert not call.trigger.wanted.is_set()

"""The pure parts of Git: folders, messages, webhooks, what must not be told, goji's templates."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobyard.compat import goji
from jobyard.port import Contained, Message
from jobyard.triggers.git import credentials, layout, moves, webhooks
from jobyard.triggers.git.clone import FolderNotOurs, is_in, own_folder
from jobyard.triggers.git.command import PIECE
from jobyard.triggers.git.credentials import NOBODY, Login, read_address
from jobyard.triggers.git.hiding import hide, secrets
from jobyard.triggers.git.layout import Entry, Place, QueueFile
from jobyard.triggers.git.materials import Text, named
from jobyard.triggers.git.moves import Move
from jobyard.triggers.git.objects import Tree
from jobyard.triggers.git.policy import Policy
from jobyard.triggers.git.repository import Repository, Source
from jobyard.triggers.git.settings import Settings
from jobyard.triggers.git.trigger import GitTrigger
from jobyard.triggers.git.turns import TRIED, choose
from tests.listener import application

SECRET = "s3cret"


FILE, FOLDER = Entry(mode="100644", oid="a" * 40), Entry(mode="040000", oid="b" * 40)


def folder(*names: str) -> dict[str, Entry]:
    return {name: FOLDER if name.endswith("/") else FILE for name in names} | {
        name.rstrip("/"): FOLDER for name in names if name[-1] == "/"
    }


def test_folders_are_found_at_the_top_or_under_jobs() -> None:
    top = layout.read({"queued/": folder("a.yaml", ".gitkeep", "deep.yaml/", "c.txt", ".d.yaml"), "jobs/queued/": folder("x.yaml")})
    assert (top.base, list(top.files[Place.QUEUED])) == ("", ["a.yaml"])
    assert "deep.yaml" not in top.files[Place.QUEUED]
    assert top.missing == (Place.PROCESSING, Place.SUCCEEDED, Place.FAILED, Place.UNKNOWN)
    under = layout.read({"jobs/failed/": folder("a.json"), "queued/": {}})
    assert (under.base, under.places("a.json"), under.path(Place.QUEUED, "x")) == ("jobs/", [Place.FAILED], "jobs/queued/x")
    assert layout.read({"ops/queued/": folder("a.yml")}, "ops/").files[Place.QUEUED].keys() == {"a.yml"}
    assert layout.read({}).base == ""


def test_a_folder_is_read_as_git_stores_it_and_changed_byte_for_byte() -> None:
    oid = bytes(range(20))
    odd = (
        b"100644 a 100644 b.yaml\0" + oid,
        b"100664 b.yaml\0" + oid,
        b"40000 b\0" + oid,
        b"120000 caf\xe9\n\0" + oid,
        b"160000 z\0" + oid,
    )
    found = Tree(b"".join(odd), 20)
    assert [(name, entry.mode) for name, entry in found.entries()] == [
        ("a 100644 b.yaml", "100644"),
        ("b.yaml", "100644"),
        ("b", "040000"),
        ("caf\udce9\n", "120000"),
        ("z", "160000"),
    ]
    assert all(found[name] == entry for name, entry in found.entries())
    assert "a" not in found
    assert "c" not in found
    assert found.changed({}) == b"".join(odd)
    new = Entry(mode="040000", oid="f" * 40)
    changed = found.changed({"b.yaml": None, "caf\udce9\n": None, "b-c": FILE, "z": new})
    assert changed == b"".join((odd[0], b"100644 b-c\0" + b"\xaa" * 20, odd[2], b"40000 z\0" + b"\xff" * 20))


def test_of_those_that_wait_everybody_has_a_turn() -> None:
    new = {
        f"{push}{number:04}": QueueFile(name=f"{push}{number:04}", place=Place.QUEUED, mode="100644", oid="o", size=1)
        for push in "ab"
        for number in range(2000)
    }
    new["z"] = QueueFile(name="z", place=Place.QUEUED, mode="100644", oid="o", size=1)
    commits = {name: name[0] for name in new}
    chosen = choose(new, commits, {})
    assert len(chosen) == TRIED
    assert "z" in chosen
    assert list(chosen)[:3] == ["a0000", "b0000", "z"]
    again = choose(new, commits, dict.fromkeys(chosen, 1))
    assert not chosen.keys() & again.keys()
    large = {name: dataclasses.replace(file, size=40 * 1024 * 1024) for name, file in new.items()}
    assert len(choose(large, commits, {})) == 1


def move(name: str = "a.yaml", target: Place | None = Place.PROCESSING, **more: object) -> Move:
    return Move(file=QueueFile(name=name, place=Place.QUEUED, mode="100644", oid="o"), target=target, **more)  # type: ignore[arg-type]


def test_who_watches_is_told_what_is_wrong_with_a_file() -> None:
    wrong = move(target=Place.FAILED, reason="7 mistakes in a.yaml", lines=tuple(f"a.yaml:{each}:1: wrong\x1b[2J" for each in range(7)))
    said = moves.told(wrong)
    assert said[0] == "a.yaml  queued → failed: 7 mistakes in a.yaml"
    assert said[1] == "  a.yaml:0:1: wrong [2J"
    assert (len(said), said[-1]) == (7, "  and 2 more; the commit lists them")
    file = QueueFile(name="a.yaml", place=Place.PROCESSING, mode="100644", oid="o")
    ended = Move(file=file, target=Place.FAILED, reason="ExitCode: no", lines=("the log",))
    assert moves.told(ended) == ["a.yaml  processing → failed: ExitCode: no"], "its log is not all that is said"
    assert moves.words(dataclasses.replace(ended, run="a-x")) == "a.yaml  processing → failed: ExitCode: no (run a-x)", "what `logs` needs"


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("queued/x.yaml", ""),
        ("jobs/queued/x.yaml", "jobs/"),
        ("a/b/queued/x.yaml", "a/b/"),
        ("queued/queued/x.yaml", "queued/"),
        ("notqueued/x.yaml", None),
        ("queued/b/x.yaml", None),
        ("x.yaml", None),
        ("", None),
    ],
)
def test_the_folders_of_a_queued_file(path: str, base: str | None) -> None:
    assert layout.base_of(path) == base


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
            run="r-7edpc5y6mzzj5cib",
            namespace="n",
            reason=reason,
            lines=("Jobyard-Run: evil", *lines),
        )
        for name, reason, lines in files
    ]
    read = moves.read(moves.message(told))
    assert [(each.file, each.state, each.run, each.namespace) for each in read] == [
        (layout.show(each.name), "processing", "r-7edpc5y6mzzj5cib", "n") for each in told
    ]


def test_claims_are_the_newest_word_on_a_file() -> None:
    one, other = "r-7edpc5y6mzzj5cib", "r-6edpc5y6mzzj5cib"
    claimed, ended = moves.message([move(run=one, namespace="n")]), moves.message([move(target=Place.FAILED, run=one)])
    assert moves.claims([claimed], ["a.yaml"])["a.yaml"].run == one
    assert moves.claims([ended, claimed], ["a.yaml"]) == {}
    newer = moves.message([move(run=other, namespace="n")])
    assert moves.claims(["a person's words", newer, ended, claimed], ["a.yaml"])["a.yaml"].run == other
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
    told = hide("decoded-value, line two, from-env, visible, x", secrets([tree]), 500)
    assert told == "***, ***, ***, visible, x"


def test_a_workflow_names_files_of_its_repository_alone() -> None:
    steps = ["../manifests/a.yaml", "/etc/passwd", "../../outside.yaml", "..", "../..", "b.yaml", "a\0b", "../x/../y/"]
    text = json.dumps(
        {"apiVersion": "jobyard.dev/v1", "spec": {"steps": [{"manifest": each} for each in steps] + [{"revert": "r.yaml"}, 3]}}
    )
    assert named([Text(path="queued/f.json", content=text.encode())]) == ["manifests/a.yaml", ".", "queued/b.yaml", "y", "queued/r.yaml"]
    for content in (b"- 1", b"spec: {steps: {a: b}}", b"["):
        assert named([Text(path="queued/f.yaml", content=content)]) == []


@pytest.mark.parametrize(
    ("written", "url", "shown", "username", "password"),
    [
        ("https://me:pw@host/x.git", "https://host/x.git", "https://host/x.git", "me", "pw"),
        ("https://me:p%2Fw@host/x.git", "https://host/x.git", "https://host/x.git", "me", "p/w"),
        ("https://me:p/w@host/x.git", "https://host/x.git", "https://host/x.git", "me", "p/w"),
        ("https://me:p/w@x@host:8443/x@y.git", "https://host:8443/x@y.git", "https://host:8443/x@y.git", "me", "p/w@x"),
        ("https://me:p#w?x@host/x", "https://host/x", "https://host/x", "me", "p#w?x"),
        ("https://token@host/x.git", "https://host/x.git", "https://host/x.git", "token", ""),
        ("https://host:8443/team@home/x.git", "https://host:8443/team@home/x.git", "https://host:8443/team@home/x.git", "", ""),
        ("ssh://git:pw@host/x.git", "ssh://git@host/x.git", "ssh://host/x.git", "", ""),
        ("git@github.com:me/x.git", "git@github.com:me/x.git", "git@github.com:me/x.git", "", ""),
        ("/srv/a:b@c/x.git", "/srv/a:b@c/x.git", "/srv/a:b@c/x.git", "", ""),
    ],
)
def test_addresses_lose_what_they_say_of_who_we_are(written: str, url: str, shown: str, username: str, password: str) -> None:
    found = read_address(written)
    assert (found.url, found.shown, found.username, found.password) == (url, shown, username, password)
    if password:
        assert password not in repr(found)
        assert "pw" not in credentials.hide(f"fatal: unable to access '{written}': no route", ())


def test_only_the_git_that_talks_to_the_remote_knows_who_we_are() -> None:
    outer = {"PATH": "/bin", "GIT_PASSWORD": "p", "JOBYARD_WEBHOOK_SECRET": "w", "GITHUB_WEBHOOK_SECRET": "w", "GIT_TRACE_CURL": "1"}
    outer |= {"GIT_REPOSITORY": "https://a:b@c/d", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b", "GIT_CONFIG_VALUE_0": "c"}
    env = credentials.plain(outer)
    kept = {"PATH", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"}
    assert env.keys() - {"GIT_TERMINAL_PROMPT", "GCM_INTERACTIVE", "GIT_OPTIONAL_LOCKS", "LC_ALL"} == kept
    assert "HOOK" in credentials.plain({"HOOK": "hook-s3cret"})
    assert "HOOK" not in credentials.plain({"HOOK": "hook-s3cret", "EMPTY": ""}, None, ("hook-s3cret", ""))
    login = Login(addresses=(read_address("https://me:secret@host/x"),), written={"https://me:secret@host/x": "https://host/x"})
    told = credentials.signed_in(env, outer, login, "fetch")
    assert (told["GIT_USERNAME"], told["GIT_PASSWORD"], told["GIT_CONFIG_COUNT"]) == ("me", "secret", "4")
    assert (told["GIT_CONFIG_KEY_0"], told["GIT_CONFIG_KEY_1"], told["GIT_CONFIG_VALUE_2"]) == ("a.b", "url.https://host/x.insteadOf", "")
    assert credentials.signed_in(env, outer, NOBODY, "fetch")["GIT_PASSWORD"] == "p"


def test_a_folder_that_others_could_have_put_there_is_not_used(tmp_path: Path) -> None:
    made = own_folder(tmp_path, "jobyard", "git")
    assert made.stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    assert own_folder(tmp_path, "open").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(made)
    (tmp_path / "file").write_text("")
    for name, what in (("link", "is a link"), ("file", "is not a folder")):
        with pytest.raises(FolderNotOurs, match=what):
            own_folder(tmp_path, name, "git")
    assert not (made / "git").exists()


def test_what_is_read_of_a_commit_can_be_shown_and_is_a_run_or_nothing() -> None:
    def told(run: str, space: str = "default") -> str:
        return f"x\n\nJobyard-File: a.yaml\nJobyard-State: processing\nJobyard-Run: {run}\nJobyard-Namespace: {space}\nJobyard-Reason: \x1b[2Jgone\n"

    good = "a-7edpc5y6mzzj5cib"
    assert moves.claims([told(good)], ["a.yaml"])["a.yaml"].run == good
    for wrong in (told("x" * 100_000), told("../../" + good), told(good, "../kube-system"), told(good, ""), told("")):
        assert moves.claims([wrong], ["a.yaml"]) == {}
    assert moves.read(told(good))[0].reason.isprintable()


def test_a_message_is_never_longer_than_what_is_read_again() -> None:
    many = [move("x" * 190 + f"{number}.yaml", reason="r" * 500, run="r", namespace="n", lines=("l" * 500,) * 40) for number in range(250)]
    text = moves.message(many)
    assert len(text) < PIECE
    assert len(moves.read(text)) == 250
    assert "    lll" in text


def test_paths_of_files() -> None:
    assert is_in("failed/x.yaml") == is_in("jobs/failed/x.yaml") == is_in("./failed/x.yaml") == (Place.FAILED, "x.yaml")
    assert is_in("x.yaml") == (None, "x.yaml")


def test_goji_s_templates_are_filled_and_reach_nothing_else() -> None:
    assert goji.fill("{args.job_name} {args.image} {args.filename} {{x}}", "t", "j", "i", "f") == "j i f {x}"
    for wrong in ("{args.__class__}", "{args}", "{0}", "{args.job_name.__class__}", "{"):
        with pytest.raises(goji.TemplateWrong):
            goji.fill(wrong, "t", "j", "i", "f")
    assert goji.read({"IN_CLUSTER": "True", "GIT_REPOSITORY": "u"}) == goji.Environment(in_cluster=False, repository="u", secret="")


LIMIT = 100_000


class Caller:
    """Calls an ASGI application."""

    def __init__(self, folder: Path) -> None:
        source = Source(folder=folder, branch="main", remote="origin")
        settings = Settings(policy=Policy(default_namespace="default"))
        self.trigger = GitTrigger(Repository(source), settings, "https://example.com/jobs.git")
        self.app = application(LIMIT, SECRET, self.trigger)

    async def __call__(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, str]:
        sent: list[Message] = []
        pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)] or [b""]

        async def receive() -> Message:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            sent.append(message)

        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        await self.app({"type": "http", "path": path, "method": method, "headers": raw, "query_string": b""}, receive, send)
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
    one, other = "1" * 40, "2" * 40
    assert [await call.push(commit) for commit in (one, one, other, "ours", one)] == [True, False, True, False, False]
    assert not await call.push("3" * 40, branch="other")
    assert [await call.push("x" * 1000), await call.push("x" * 1000)] == [True, True], "what is no commit is not remembered"
    assert await call.push("x" * 70_000, branch="other"), "what is too long to be read is a look"


async def test_what_is_no_delivery_is_answered_plainly(tmp_path: Path) -> None:
    call = Caller(tmp_path)
    assert await call("GET", "/health") == (200, "OK!")
    assert (await call("GET", "/webhooks/github"))[0] == 405
    assert (await call("POST", "/webhooks/unheard-of"))[0] == 404
    assert (await call("GET", "/"))[0] == 404
    assert await call("POST", "/webhooks/github", b"{}") == (400, "Invalid webhook signature")
    signed_ = {"X-Hub-Signature-256": "sha256=00"}
    assert (await call("POST", "/webhooks/github", b"x" * (LIMIT + 1), signed_))[0] == 413
    assert (await call("POST", "/webhooks/github", b"", {"Content-Length": str(LIMIT + 1)}))[0] == 413
    assert not call.trigger.wanted.is_set()


async def test_a_request_that_breaks_ends_with_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def breaking(scope: Message, receive: object, send: object) -> None:
        raise ZeroDivisionError("what nobody foresaw")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    await Contained(breaking, LIMIT)({"type": "http", "path": "/x\x1b", "headers": []}, receive, send)
    assert [sent[0]["status"], sent[1]["body"]] == [500, b"Internal Server Error"]
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "ZeroDivisionError" in record.getMessage()
    assert record.getMessage().isprintable()
    assert record.exc_info is None

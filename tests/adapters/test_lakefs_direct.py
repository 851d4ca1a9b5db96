"""Bytes go to and from the block store itself where lakeFS signs addresses, and through lakeFS wherever that fails."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from perago.adapters.lakefs import LakeFSStore, block_store
from perago.adapters.lakefs import upload as direct_upload
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed, unsafe_address
from perago.adapters.lakefs.session import LakeFSSession, just_before
from perago.cache import ObjectCache
from perago.ports import CorruptTransfer, StoreNotes
from perago.settings import LakeFSSettings
from perago.workspace.scan import FileChanging
from tests.cache.shelves import entries

from ..transfers import download, files_in, to_upload
from .lakefs_script import API, CALM, COMMIT, QUICK, SECRET, md5
from .scripted import Action, Drop, Hang, Reply, Request, ScriptedServer, tls_context
from .signing import Signing, Store, signing

OBJECT = f"{API}/refs/{COMMIT}/objects"
PAGE = 100
MANY = {f"d{number % 7}/é {number:04}": f"{number}\n".encode() * 3 for number in range(3 * PAGE)}
SOME = {f"d/{number}": bytes([65 + number]) * 1000 for number in range(5)}
LARGE = direct_upload.DIRECT
WITHOUT_MD5: dict[str, dict[str, object]] = {"d/0": {"checksum": f"{'0' * 32}-2"}}
"""As lakeFS lists an object that was uploaded in parts."""


def fetch(store: LakeFSStore, workspace: Path) -> dict[str, bytes]:
    download(store, "repo", COMMIT, workspace)
    return files_in(workspace)


def through_lakefs(asked: list[Request]) -> list[str]:
    """The objects whose bytes lakeFS was asked for."""
    return [request.query["path"] for request in asked if request.path == OBJECT]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_store, "PAGE", PAGE)


@pytest.mark.usefixtures("small_pages")
def test_addresses_come_page_by_page(tmp_path: Path) -> None:
    with signing(Signing(MANY, page=PAGE), Store(MANY)) as (store, asked, stored):
        assert fetch(store, tmp_path / "w") == MANY
        assert store.take_notes() == StoreNotes()
    assert len(stored) == len(MANY)
    assert len(asked) == 3 + 1 + 3  # the listing, the configuration, the addresses
    assert not [request for request in stored if "Authorization" in request.headers]


def test_a_few_addresses_are_asked_for_one_by_one(tmp_path: Path) -> None:
    with signing(Signing(SOME), Store(SOME)) as (store, asked, stored):
        assert fetch(store, tmp_path / "w") == SOME
    assert sum(request.path.endswith("/objects/stat") for request in asked) == len(stored) == len(SOME)


@pytest.mark.usefixtures("small_pages")
def test_objects_between_those_that_are_wanted_do_no_harm(cache: ObjectCache, tmp_path: Path) -> None:
    """The cache has nine in ten, so a page has ten that are wanted."""
    known = {key: {"physical_address": f"s3://bucket/{key}"} for number, key in enumerate(sorted(MANY)) if number % 10}
    tree = Signing(MANY, listed=known, page=PAGE)  # type: ignore[arg-type]
    with signing(tree, Store(MANY), cache=cache) as (store, asked, stored):
        fetch(store, tmp_path / "first")
        del asked[:], stored[:]
        assert fetch(store, tmp_path / "second") == MANY
    assert len(stored) == 30
    assert through_lakefs(asked) == []


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("missing", [30, PAGE])
def test_an_object_whose_copy_in_the_cache_is_damaged_comes_directly_too(
    cache: ObjectCache, tmp_path: Path, missing: int
) -> None:
    """Its page was not to be asked for, and it may lie outside of what the others share."""
    damaged = {"z": b"damaged", "zé": b"damaged, too"}
    objects = {f"a/{number}": str(number).encode() for number in range(missing)} | damaged
    listed: dict[str, dict[str, object]] = {key: {"physical_address": f"s3://bucket/{key}"} for key in objects}
    with signing(Signing(damaged, listed=listed), Store(damaged), cache=cache) as (store, _, _):
        fetch(store, tmp_path / "first")
    for entry in entries(cache):
        os.truncate(entry, 1)

    with signing(Signing(objects, listed=listed), Store(objects), cache=cache) as (store, asked, _):
        assert fetch(store, tmp_path / "second") == objects
        assert through_lakefs(asked) == []
        (note,), repaired = store.take_notes()
        assert repaired == 2
        assert (
            f"The cache {cache.root / '.cache'} had 2 damaged objects, deleted and downloaded from lakeFS again."
            in note
        )
        assert store.take_notes() == StoreNotes()


@pytest.mark.parametrize("offers", [{}, {"pre_sign_support": False}, {"pre_sign_support": "yes"}])
def test_a_server_that_signs_nothing_is_not_asked_to(tmp_path: Path, offers: dict[str, object]) -> None:
    with signing(Signing(SOME, offers=offers), Store(SOME)) as (store, asked, stored):
        assert fetch(store, tmp_path / "w") == SOME
        assert fetch(store, tmp_path / "again") == SOME
    assert stored == []
    assert sum(request.path.endswith("/config") for request in asked) == 1


TROUBLES: dict[str, Action] = {
    "403": Reply(403),
    "404": Reply(404),
    "500": Reply(500),
    "a redirect": Reply(307, headers={"Location": "http://127.0.0.1:1/"}),
    "other bytes": Reply(200, b"x" * 1000),
    "half of the bytes": Reply(200, b"A" * 500, length=1000),
    "more bytes": Reply(200, b"A" * 2000),
    "no answer": Drop(),
    "silence": Hang(),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_the_objects_arrive_despite_any_fault_of_the_store(tmp_path: Path, trouble: Action) -> None:
    policy = QUICK if isinstance(trouble, Hang) else CALM
    with signing(Signing(SOME), Store(SOME, lambda _: trouble), policy) as (store, asked, _):
        assert fetch(store, tmp_path / "w") == SOME
        assert set(through_lakefs(asked)) == set(SOME)
        notes = store.take_notes().texts
    assert len(notes) == 1
    assert "Objects go through lakeFS, not directly to its block store" in notes[0]
    assert "signature" not in notes[0]


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1", "ftp://127.0.0.1", "http://user:secret@127.0.0.1", "http://[", "http://127.0.0.1:x"],
)
def test_an_unreachable_address_is_reported_once_and_not_tried_again(tmp_path: Path, address: str) -> None:
    with signing(Signing(SOME, store=address), Store(SOME)) as (store, asked, _):
        assert fetch(store, tmp_path / "w") == SOME
        before = len(asked)
        assert fetch(store, tmp_path / "again") == SOME
        assert len(asked) - before == 1 + len(SOME)
        assert len(store.take_notes().texts) == 1
        assert store.take_notes() == StoreNotes()


def test_it_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [True]
    with signing(Signing(SOME), Store(SOME, lambda _: Reply(500) if broken[0] else None)) as (store, asked, _):
        fetch(store, tmp_path / "w")
        broken[0] = False
        later = time.monotonic() + block_store.SUSPENSIONS.first + 1
        monkeypatch.setattr(block_store, "time", SimpleNamespace(monotonic=lambda: later, time=time.time))
        del asked[:]
        assert fetch(store, tmp_path / "again") == SOME
        assert through_lakefs(asked) == []


def test_an_expired_address_is_requested_again(tmp_path: Path) -> None:
    """The store refuses the first one that it is shown for each object, as S3 does 900 seconds later."""
    refused: set[str] = set()

    def expired(request: Request) -> Action | None:
        if request.query["signature"] == "1" and request.path not in refused:
            refused.add(request.path)
            return Reply(403, b"<Error><Code>AccessDenied</Code></Error>")
        return None

    few = dict(list(MANY.items())[:40])
    with signing(Signing(few), Store(few, expired)) as (store, asked, _):
        assert fetch(store, tmp_path / "w") == few
        assert through_lakefs(asked) == []
        assert store.take_notes() == StoreNotes()
    assert refused


def test_an_address_that_is_nearly_over_is_not_used(tmp_path: Path) -> None:
    few = dict(list(MANY.items())[:40])
    with signing(Signing(few, lasts=5), Store(few)) as (store, asked, stored):
        assert fetch(store, tmp_path / "w") == few
        assert len(asked) < 2 * len(few)
        assert "clock" in store.take_notes().texts[0]
    assert stored == []


@pytest.mark.parametrize(("silent", "keys"), [("config", 40), ("ls", 40), ("stat", 10)])
def test_a_server_that_says_nothing_about_addresses_costs_one_wait(tmp_path: Path, silent: str, keys: int) -> None:
    """All threads need the answer, and none waits for one of its own."""

    def hang(request: Request) -> Action | None:
        asks = request.query.get("presign") == "true" or request.path.endswith("/config")
        return Hang() if asks and request.path.endswith(silent) else None

    few = dict(list(MANY.items())[:keys])
    with signing(Signing(few, hang), Store(few), QUICK) as (store, _, stored):
        start = time.monotonic()
        assert fetch(store, tmp_path / "w") == few
        assert time.monotonic() - start < 4 * QUICK.answer
        notes = store.take_notes().texts
    assert stored == []
    assert silent == "config" or "lakeFS, asked for addresses: no answer within the time limit" in notes[0]


def test_the_reason_for_a_missing_address_is_reported(tmp_path: Path) -> None:
    def refuse(request: Request) -> Action | None:
        return Reply(429) if request.query.get("presign") == "true" else None

    with signing(Signing(SOME, refuse), Store(SOME)) as (store, _, _):
        assert fetch(store, tmp_path / "w") == SOME
        assert "lakeFS answers 429 when it is asked for addresses" in store.take_notes().texts[0]


def test_no_log_has_a_signed_address(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree = Signing(SOME)
    with signing(tree, Store(SOME)) as (store, _, stored):
        for name in ("urllib3", "urllib3.connectionpool"):  # an SDK may have set a level for the second
            caplog.set_level(logging.DEBUG, name)
        assert fetch(store, tmp_path / "w") == SOME
        store.upload("repo", "staging", [to_upload(tmp_path / "large", bytes(LARGE))])
        assert len(stored) == len(SOME) + 1
    assert "/objects/ls" in caplog.text
    assert "signature" not in caplog.text


def test_an_object_that_is_wrong_in_the_store_is_corrupt_on_every_way(tmp_path: Path) -> None:
    wrong = {key: content[::-1] + b"!" for key, content in SOME.items()}
    right = {key: {"checksum": md5(content), "size_bytes": len(content)} for key, content in SOME.items()}
    with signing(Signing(wrong, listed=right), Store(wrong)) as (store, _, _), pytest.raises(CorruptTransfer):
        fetch(store, tmp_path / "w")


@pytest.mark.parametrize(("count", "short"), [(5, 1), (30, 1), (30, 30)])
def test_objects_that_have_become_shorter_in_the_store_are_no_outage(tmp_path: Path, count: int, short: int) -> None:
    """lakeFS announces as many bytes as listed, and breaks off. After three of them the store is left alone."""
    tree = {f"d/{number:02}": bytes([65 + number]) * 1000 for number in range(count)}
    cut = {key: tree[key][:100] for key in list(tree)[:short]}

    def break_off(request: Request) -> Action | None:
        is_short = request.path == OBJECT and request.query["path"] in cut
        return Reply(200, cut[request.query["path"]], length=1000) if is_short else None

    with (
        signing(Signing(tree, break_off), Store({**tree, **cut})) as (store, _, _),
        pytest.raises(CorruptTransfer, match=r"sends 100 bytes, which differs from the listing"),
    ):
        fetch(store, tmp_path / "w")


def test_an_object_without_md5_comes_through_lakefs_after_a_plain_address(tmp_path: Path) -> None:
    """Nothing could show that the bytes are those of another address. An object with an MD5 comes directly anyway."""
    with signing(Signing(SOME, listed=WITHOUT_MD5), Store(SOME)) as (store, asked, stored):
        assert fetch(store, tmp_path / "w") == SOME
        assert store.take_notes() == StoreNotes()
    assert through_lakefs(asked) == ["d/0"]
    assert len(stored) == len(SOME) - 1


def test_an_object_without_md5_comes_directly_after_an_encrypted_address(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tree = Signing(SOME, listed=WITHOUT_MD5)
    with signing(tree, Store(SOME), tls=tls_context(certificate)) as (store, asked, stored):
        assert fetch(store, tmp_path / "w") == SOME
    assert through_lakefs(asked) == []
    assert len(stored) == len(SOME)


AWAY = "http://10.1.2.3:8000"


@contextmanager
def block_store_of(lakefs_url: str) -> Iterator[tuple[BlockStore, str, list[Request]]]:
    """A block store as a lakeFS of this URL would have one, and a server on this machine."""
    with ScriptedServer(lambda _: Reply(200, b"inside")) as server:
        session = LakeFSSession(LakeFSSettings(lakefs_url, "key", SecretStr(SECRET)), CALM, 1)
        store = BlockStore(session, 1)
        try:
            yield store, str(server.port), server.requests
        finally:
            store.close()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.8.9.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1", "127.1"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
        *("[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b:1::7f00:1]", "[64:ff9b:1:7f00:0:100::]"),
        *("[2001:0:7f00:1::1]", "[2001:0:a00:1::80ff:fffe]"),
    ],
)
def test_an_address_on_this_machine_is_refused_unless_lakefs_is_there_too(host: str) -> None:
    with block_store_of(AWAY) as (store, port, asked):
        with pytest.raises(DirectFailed, match="its address is on this machine, and lakeFS is not") as refused:
            store.open("GET", f"http://{host}:{port}/object?signature=1")
        assert refused.value.unreachable
        assert asked == []


@pytest.mark.parametrize("lakefs_url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_store_on_this_machine_is_used_next_to_a_lakefs_on_this_machine(lakefs_url: str, host: str) -> None:
    with block_store_of(lakefs_url) as (store, port, asked):
        assert store.open("GET", f"http://{host}:{port}/object").read() == b"inside"
        assert len(asked) == 1


@pytest.mark.parametrize("lakefs_url", [AWAY, "http://127.0.0.1:8000", "http://169.254.1.1:8000"])
@pytest.mark.parametrize(
    ("why", "hosts"),
    [
        (
            "link-local",
            ("169.254.169.254", "2852039166", "[fe80::1]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"),
        ),
        (
            "link-local",
            ("[2002:a9fe:a9fe::]", "[::169.254.169.254]", "[64:ff9b:1::a9fe:a9fe]", "[2001:0:a9fe:a9fe::1]"),
        ),
        ("credentials", ("[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200", "168.63.129.16")),
        ("multicast", ("[ff02::1]", "224.0.0.1", "[::ffff:224.0.0.1]")),
    ],
)
def test_dangerous_addresses_are_refused_wherever_lakefs_is(lakefs_url: str, why: str, hosts: tuple[str, ...]) -> None:
    with block_store_of(lakefs_url) as (store, _, _):
        for host in hosts:
            with pytest.raises(DirectFailed, match=why):
                store.call("PUT", f"http://{host}/latest", headers={}, body=b"x", seconds=1)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "192.0.2.7", "2001:db8::1", "fd00::7", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:a00:1::1"],
)
def test_other_addresses_are_used(address: str) -> None:
    assert unsafe_address(address, lakefs_is_local=False) is None


def answer_of(*addresses: str) -> Callable[..., list[Any]]:
    """A name server that gives one answer after another, the last one again and again."""
    left = list(addresses)
    real = socket.getaddrinfo

    def answer(host: str, port: Any, *arguments: Any, **options: Any) -> list[Any]:
        if host != "store.test":
            return real(host, port, *arguments, **options)
        address = left.pop(0) if len(left) > 1 else left[0]
        return real(address, port, *arguments, **options)

    return answer


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["10.9.9.9", "127.0.0.1"]], ids=["from the start", "later"])
def test_a_name_that_leads_to_this_machine_is_refused_whenever_it_does(
    answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with block_store_of(AWAY) as (store, port, asked):
        monkeypatch.setattr(socket, "getaddrinfo", answer_of(*answers))
        with pytest.raises(DirectFailed, match="its address is on this machine, and lakeFS is not") as refused:
            store.open("GET", f"http://store.test:{port}/object")
        assert refused.value.unreachable
        assert asked == []


def test_behind_a_proxy_a_name_is_judged_by_its_local_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy may be on this machine, and makes the connections itself."""
    with block_store_of(AWAY) as (store, port, asked):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(socket, "getaddrinfo", answer_of("10.9.9.9"))
        assert store.open("GET", "http://store.test/object").read() == b"inside"
        assert [request.target for request in asked] == ["http://store.test/object"]
        for host in ("169.254.169.254", "nowhere.invalid"):
            with pytest.raises(DirectFailed, match=r"link-local|does not resolve"):
                store.open("GET", f"http://{host}/object")
        assert len(asked) == 1


# ---------------------------------------------------------------------------------- uploads


def test_a_large_file_goes_to_the_store_and_is_linked(tmp_path: Path) -> None:
    content, small = os.urandom(LARGE + 3), b"small"
    tree, stored = Signing({}), Store({})
    with signing(tree, stored) as (store, asked, _):
        uploads = [to_upload(tmp_path / "large é", content), to_upload(tmp_path / "small", small)]
        store.upload("repo", "staging", uploads)
    assert stored.taken == [content]
    link = tree.linked["large é"]
    assert (link["checksum"], link["size_bytes"]) == (md5(content), len(content))
    assert [request.body for request in asked if request.method == "POST"] == [small]


def test_a_very_large_file_goes_in_parts_and_keeps_its_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_upload, "PART", LARGE)
    content = os.urandom(2 * LARGE + 7)
    tree, stored = Signing({}), Store({})
    with signing(tree, stored) as (store, _, requests):
        store.upload("repo", "staging", [to_upload(tmp_path / "large", content)])
        assert [request.query["part"] for request in requests] == ["1", "2", "3"]
    assert b"".join(stored.taken) == content
    (done,) = tree.completed
    parts = done["parts"]
    assert parts == [{"part_number": n, "etag": md5(part)} for n, part in enumerate(stored.taken, start=1)]
    assert tree.linked["large"]["checksum"] == md5(content)


def test_without_signed_parts_a_very_large_file_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_upload, "PART", LARGE)
    content = os.urandom(2 * LARGE)
    tree, stored = Signing({}, offers={"pre_sign_support": True}), Store({})
    with signing(tree, stored) as (store, _, _):
        store.upload("repo", "staging", [to_upload(tmp_path / "large", content)])
    assert stored.taken == [content]


UPLOAD_TROUBLES: dict[str, Action] = {
    "403": Reply(403),
    "500": Reply(500),
    "another ETag": Reply(200, headers={"ETag": '"0123"'}),
    "no ETag": Reply(200),
    "no answer": Drop(),
}


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("trouble", UPLOAD_TROUBLES.values(), ids=UPLOAD_TROUBLES)
def test_files_that_the_store_refuses_go_through_lakefs(
    tmp_path: Path, trouble: Action, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_upload, "PART", LARGE if parts else 100 * LARGE)
    content = os.urandom(2 * LARGE)
    tree = Signing({})
    with signing(tree, Store({}, lambda _: trouble)) as (store, asked, _):
        store.upload("repo", "staging", [to_upload(tmp_path / "large", content)])
        assert [request.body for request in asked if request.path.endswith("/objects")] == [content]
    assert tree.linked == {}
    assert tree.completed == []
    assert tree.aborted == parts


def test_a_store_with_unproven_etags_is_still_used_for_downloads(tmp_path: Path) -> None:
    """As a bucket with KMS encryption: what it gives is verified by the listing, what it takes by nothing."""
    store = Store(SOME, lambda request: Reply(200, headers={"ETag": '"0123"'}) if request.method == "PUT" else None)
    with signing(Signing(SOME), store) as (ours, asked, stored):
        for _ in range(2):
            ours.upload("repo", "staging", [to_upload(tmp_path / "large", os.urandom(LARGE))])
        assert fetch(ours, tmp_path / "w") == SOME
        assert through_lakefs(asked) == []
        assert [request.method for request in stored].count("PUT") == 1
        (note,) = ours.take_notes().texts
    assert "Large files are published through lakeFS" in note


@pytest.mark.parametrize("what", ["backing", "pmpu", "parts", "id/1"])
def test_objects_that_lakefs_does_not_sign_go_through_lakefs(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_upload, "PART", LARGE)
    content = os.urandom(2 * LARGE)

    def refuse(request: Request) -> Action | None:
        return Reply(500) if "/staging/staging/" in request.path and what in request.path else None

    with signing(Signing({}, refuse), Store({})) as (store, asked, _):
        store.upload("repo", "staging", [to_upload(tmp_path / "large", content)])
        assert [request.body for request in asked if request.path.endswith("/objects")] == [content]


def test_a_file_that_changes_while_it_is_sent_is_refused(tmp_path: Path) -> None:
    upload = to_upload(tmp_path / "large", bytes(LARGE))
    upload.path.write_bytes(b"\x01" * LARGE)
    tree = Signing({})
    with signing(tree, Store({})) as (store, _, _), pytest.raises(FileChanging, match="changed its bytes between"):
        store.upload("repo", "staging", [upload])
    assert tree.linked == {}


def test_directly_uploaded_objects_are_in_the_cache(cache: ObjectCache, tmp_path: Path) -> None:
    content = os.urandom(LARGE)
    tree = Signing({"large": content}, listed={"large": {"physical_address": "s3://bucket/large"}})
    with signing(tree, Store({}), cache=cache) as (store, _, stored):
        store.upload("repo", "staging", [to_upload(tmp_path / "large", content)])
        del stored[:]
        assert fetch(store, tmp_path / "w") == {"large": content}
        assert stored == []


@pytest.mark.parametrize("key", ["a", "a/b", "é", "\x00", "a\x00", "\ue000", "\U00010000", "z"])
def test_a_page_begins_right_before_a_key(key: str) -> None:
    before = just_before(key)
    assert before.encode() < key.encode()

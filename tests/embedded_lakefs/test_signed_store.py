"""The embedded lakeFS as one on S3: it signs addresses of a block store, and perago uses them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr

from perago.adapters.lakefs import LakeFSStore
from perago.driver import SystemClock
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.lakefs_objects import SignedStore
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import InMemoryLakeFS
from perago.settings import LakeFSSettings

from ..noting import Noted
from ..transfers import download, files_in, to_upload

SMALL = {f"in/é {number}": bytes([number]) * 50 for number in range(30)}


@dataclass
class Served:
    """A lakeFS with a block store, and what was asked of each."""

    lakefs: InMemoryLakeFS
    url: str = ""
    asked: list[str] = field(default_factory=list)
    later: float = 0.0
    """Seconds by which the clock of the store is ahead."""

    def store(self) -> LakeFSStore:
        return LakeFSStore(LakeFSSettings(self.url, "key", SecretStr("secret")))

    def count(self, part: str) -> int:
        return sum(part in asked for asked in self.asked)


@pytest.fixture
def served() -> Iterator[Served]:
    lakefs = InMemoryLakeFS(SystemClock())
    lakefs.seed("repo", "main", {})
    found = Served(lakefs)
    signed = SignedStore(lakefs.server, now=lambda: time.time() + found.later)
    app = lakefs_app(lakefs.server, access_key_id="key", secret_access_key="secret", store=signed)

    with serve(Noted(app, found.asked)) as found.url:
        yield found
    lakefs.close()


def test_objects_go_to_the_store_and_come_from_it(served: Served, tmp_path: Path) -> None:
    large = bytes(range(256)) * 8000
    store = served.store()
    store.upload("repo", "main", [to_upload(tmp_path / "large", large)])
    served.lakefs.seed("repo", "main", SMALL)
    ref = store.get_commit("repo", "main").id
    download(store, "repo", ref, tmp_path / "w")

    assert files_in(tmp_path / "w") == {"large": large, **SMALL}
    assert served.count("PUT /block-store/") == 1
    assert served.count("GET /block-store/") == len(SMALL) + 1
    assert served.count("POST /api/v1/repositories/repo/branches/main/objects") == 0
    assert not [asked for asked in served.asked if asked.partition("?")[0].endswith("/objects")]
    assert store.take_notes() == ()
    store.close()


def test_addresses_that_have_expired_by_our_clock_are_not_used(served: Served, tmp_path: Path) -> None:
    ref = served.lakefs.seed("repo", "main", SMALL).id
    served.later = -1000
    store = served.store()
    download(store, "repo", ref, tmp_path / "w")

    assert files_in(tmp_path / "w") == SMALL
    assert served.count("GET /block-store/") == 0
    assert "valid long enough" in store.take_notes()[0]
    store.close()


def ask(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_store_wants_a_good_address_and_nothing_else(served: Served) -> None:
    served.lakefs.seed("repo", "main", SMALL)
    request = urllib.request.Request(
        f"{served.url}/api/v1/repositories/repo/refs/main/objects/ls?presign=true&amount=1",
        headers={"Authorization": "Basic a2V5OnNlY3JldA=="},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        (item,) = json.load(answer)["results"]
    address = item["physical_address"]

    assert item["physical_address_expiry"] == pytest.approx(time.time() + 900, abs=30)
    assert ask(address) == 200
    assert ask(address, Authorization="Basic a2V5OnNlY3JldA==") == 400
    assert ask(f"{address[:-1]}{'0' if address[-1] != '0' else '1'}") == 403
    served.later = 901
    assert ask(address) == 403


def test_the_configuration_offers_it(served: Served) -> None:
    request = urllib.request.Request(f"{served.url}/api/v1/config", headers={"Authorization": "Basic a2V5OnNlY3JldA=="})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)["storage_config"]
    assert (found["pre_sign_support"], found["pre_sign_multipart_upload"]) == (True, False)

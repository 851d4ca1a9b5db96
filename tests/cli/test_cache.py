"""`perago cache`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perago.cache import ObjectCache
from perago.configuration import cache_of
from perago.settings import load_settings
from perago.workspace.layout import free_space
from tests.cache.shelves import flip_a_bit, get, only_entry, put

from .conftest import Project

CONTENT = b"x" * 10_000


@pytest.fixture
def root(project: Project) -> Path:
    """A workspace root with a cache that has helped once in two times."""
    root = project.directory / "root"
    root.mkdir(mode=0o700)
    project.environment["PERAGO_WORKSPACE_ROOT"] = str(root)
    project.environment["PERAGO_CACHE_MAX_BYTES"] = "5MiB"
    cache = ObjectCache(root, 10**9)
    get(cache, CONTENT)
    put(cache, CONTENT)
    get(cache, CONTENT)
    return root


def test_the_cache_command_shows_contents_and_hits(project: Project, root: Path) -> None:
    shown = project.run("cache")

    assert shown.out.splitlines() == [
        str(root / ".cache"),
        "  holds   1 object, 12.0 KiB",
        "  limit   5.0 MiB",
        "  helped  1 of 2 objects (50%), 9.8 KiB",
    ]


def test_it_prints_json(project: Project, root: Path) -> None:
    assert json.loads(project.run("cache", "--json").out) == {
        "path": str(root / ".cache"),
        "cleared": False,
        "limit": 5 * 2**20,
        "entries": 1,
        "size": 12_288,
        "hits": 1,
        "hit_bytes": 10_000,
        "misses": 1,
    }


def test_it_clears(project: Project, root: Path) -> None:
    assert project.run("cache", "--clear").out == f"removed 1 object, 12.0 KiB from {root / '.cache'}\n"
    assert project.run("cache").out.splitlines()[1] == "  holds   0 objects, 0 bytes"
    assert list((root / ".cache").iterdir()) == []


def test_it_verifies(project: Project, root: Path) -> None:
    (root / ".cache" / ("0" * 40)).write_bytes(b"of an earlier version")

    shown = project.run("cache", "--verify")
    assert shown.code == 0
    assert shown.out.splitlines() == [
        str(root / ".cache"),
        "  sound    1 object",
        "  skipped  1 object of an earlier version, without a checksum",
    ]


def test_damaged_entries_are_named_and_deleted(project: Project, root: Path) -> None:
    entry = only_entry(ObjectCache(root, 10**9))
    flip_a_bit(entry)

    shown = project.run("cache", "--verify")
    assert shown.code == 1
    assert shown.out.splitlines()[1:] == ["  sound    0 objects", f"  deleted  {entry.name}"]
    assert f"1 object in {root / '.cache'} had damaged bytes" in shown.err
    assert not entry.exists()
    assert project.run("cache", "--verify").code == 0


def test_the_verified_facts_are_in_the_json(project: Project, root: Path) -> None:
    entry = only_entry(ObjectCache(root, 10**9))
    flip_a_bit(entry)

    shown = project.run("cache", "--verify", "--json")
    assert shown.code == 1
    found = json.loads(shown.out)
    assert found["verified"] == {"sound": 0, "damaged": [entry.name], "without_checksum": 0}
    assert found["entries"] == 0


def test_clearing_the_cache_does_not_verify_it(project: Project, root: Path) -> None:
    shown = project.run("cache", "--verify", "--clear")
    assert shown.code == 2
    assert only_entry(ObjectCache(root, 10**9)).exists()


def test_a_root_that_no_worker_has_made_has_an_empty_one(project: Project) -> None:
    project.environment["PERAGO_WORKSPACE_ROOT"] = str(project.directory / "not" / "yet")

    shown = project.run("cache")
    assert shown.out.splitlines()[1] == "  holds   0 objects, 0 bytes"
    assert not (project.directory / "not").exists()


def test_a_path_that_is_not_a_directory_is_named(project: Project) -> None:
    root = project.directory / "root"
    root.mkdir(mode=0o700)
    (root / ".cache").touch()
    project.environment["PERAGO_WORKSPACE_ROOT"] = str(root)

    shown = project.run("cache")
    assert shown.code == 1
    assert str(root / ".cache") in shown.err


@pytest.mark.parametrize(("text", "limit"), [("5MiB", 5 * 2**20), ("0", 0), (None, None)])
def test_workers_get_the_cache_that_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, limit: int | None
) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", "http://lakefs")
    monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PERAGO_WORKSPACE_ROOT", str(root))
    if text is not None:
        monkeypatch.setenv("PERAGO_CACHE_MAX_BYTES", text)

    found = cache_of(load_settings())
    assert (found.root, found.server) == (root, "http://lakefs")
    tenth = free_space(root).size // 10
    assert found.max_bytes == (pytest.approx(tenth, rel=0.1) if limit is None else limit)

"""The roots: dry run and creation agree, and nothing of anybody else's is used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from perago.settings import ConfigurationError, Settings, check_roots, load_settings, prepare_roots


def configured(monkeypatch: pytest.MonkeyPatch, root: Path | str) -> Settings:
    monkeypatch.setenv("PERAGO_WORKSPACE_ROOT", str(root))
    return load_settings()


def only_problem(settings: Settings) -> str:
    (problem,) = check_roots(settings)
    with pytest.raises(ConfigurationError) as caught:
        prepare_roots(settings)
    assert caught.value.problems == (str(problem),)
    return str(problem)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_dry_run_accepts_roots_that_do_not_exist_and_creates_nothing(tmp_path: Path) -> None:
    assert check_roots(load_settings()) == ()
    assert not (tmp_path / "home").exists()


def test_created_roots_belong_to_the_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = configured(monkeypatch, tmp_path / "a" / "b")
    prepare_roots(settings)
    prepare_roots(settings)
    created = [tmp_path / "a", tmp_path / "a" / "b", settings.log_root, settings.log_root.parent]
    assert [mode(path) for path in created] == [0o700] * 4


def test_a_root_of_ones_own_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    prepare_roots(configured(monkeypatch, tmp_path / "link"))
    assert mode(tmp_path / "mine") == 0o755


def test_a_file_is_no_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    problem = only_problem(configured(monkeypatch, tmp_path / "file"))
    assert problem == (
        f"PERAGO_WORKSPACE_ROOT (environment): {tmp_path}/file is not a directory. "
        "Set PERAGO_WORKSPACE_ROOT to a directory of your own, or to a new one; perago creates it."
    )


def test_a_root_below_a_file_cannot_be_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    problem = only_problem(configured(monkeypatch, tmp_path / "file" / "root"))
    assert "cannot be " in problem
    assert "PERAGO_WORKSPACE_ROOT" in problem


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 100] * 60)], ids=["one name", "the whole path"])
def test_a_root_with_a_name_that_no_disk_takes_is_found_out_by_the_dry_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    assert "cannot be used: File name too long" in only_problem(configured(monkeypatch, tmp_path / name))


@pytest.mark.parametrize(
    ("target", "message"),
    [("file", "is not a directory (a symlink to"), ("nowhere", "which does not exist"), ("link", "cannot be used")],
    ids=["to a file", "to nothing", "to itself"],
)
def test_a_symlink_is_judged_by_what_it_points_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str, message: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / target)
    assert message in only_problem(configured(monkeypatch, tmp_path / "link"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("name", ["theirs", "link"])
def test_somebody_elses_directory_is_no_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    os.chown(tmp_path / "theirs", 65534, 65534)
    assert "belongs to another user" in only_problem(configured(monkeypatch, tmp_path / name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("below", [".", "new"], ids=["itself", "its parent"])
def test_a_root_must_be_writable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "not writable" in only_problem(configured(monkeypatch, tmp_path / "closed" / below))


def test_a_default_root_in_the_way_is_named_by_its_variable(tmp_path: Path) -> None:
    settings = load_settings()
    settings.log_root.parent.mkdir(parents=True)
    settings.log_root.touch()
    assert only_problem(settings).startswith(f"PERAGO_LOG_ROOT (default): {settings.log_root} is not a directory")


def test_without_a_home_directory_the_roots_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setenv("PERAGO_WORKSPACE_ROOT", "scratch")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.problems == (
        "PERAGO_LOG_ROOT: not set, and there is no home directory for a default. "
        "Set PERAGO_LOG_ROOT to a directory of your own.",
    )
    monkeypatch.setenv("PERAGO_LOG_ROOT", "logs")
    assert check_roots(load_settings()) == ()


def test_a_root_that_everybody_can_write_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert "can be written by everybody" in only_problem(configured(monkeypatch, tmp_path / "open"))

"""The roots: dry run and creation agree, and nothing of anybody else's is used."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from perago.settings import ConfigurationError, Settings, check_roots, load_settings, prepare_roots
from perago.settings.sources import own_directory_problem

from ..worker.outside import mounted


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


def test_a_private_root_is_not_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    prepare_roots(configured(monkeypatch, tmp_path / "link"))
    assert mode(tmp_path / "mine") == 0o755


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "is not a directory. Set PERAGO_WORKSPACE_ROOT to a directory of your own, or to a new one;"),
        ("file/root", "cannot be "),
        ("x" * 300, "cannot be used: File name too long"),
        ("/".join(["x" * 100] * 60), "cannot be used: File name too long"),
        ("to file", "is not a directory (a symlink to"),
        ("to nowhere", "which does not exist"),
        ("to itself", "cannot be used"),
    ],
    ids=["a file", "below a file", "a long name", "a long path", "a link to a file", "to nothing", "to itself"],
)
def test_a_root_that_no_directory_can_have_is_found_out_by_the_dry_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    for target in ("file", "nowhere"):
        (tmp_path / f"to {target}").symlink_to(tmp_path / target)
    (tmp_path / "to itself").symlink_to(tmp_path / "to itself")
    problem = only_problem(configured(monkeypatch, tmp_path / name))
    assert problem.startswith("PERAGO_WORKSPACE_ROOT (environment): ")
    assert reason in problem


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


@pytest.mark.parametrize(
    ("bits", "who", "mend"),
    [
        (0o777, "everybody", "chmod go-w {}"),
        (0o1777, "everybody", "a directory below it, such as {}/perago"),
        (0o2775, "its group", "chmod g-w {}"),
        (0o1775, "its group", "a directory below it, such as {}/perago"),
    ],
)
@pytest.mark.parametrize("below", ["open", "open/root", "link", "link/new"])
def test_a_root_or_a_directory_on_the_way_that_others_can_write_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bits: int, who: str, mend: str, below: str
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(bits)
    (tmp_path / "link").symlink_to("here/../open")
    settings = configured(monkeypatch, tmp_path / below)
    if bits & stat.S_ISVTX and "/" in below:  # only the owner of an entry may replace it there
        prepare_roots(settings)
        return
    problem = only_problem(settings)
    assert f"can be written by {who}" in problem
    assert f"(owner {pwd.getpwuid(os.geteuid()).pw_name}, mode {bits:04o})" in problem
    assert mend.format(tmp_path / "open") in problem


@pytest.mark.parametrize("name", ["", "new/root"])
def test_a_root_on_a_read_only_disk_is_left_to_the_checks_of_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    with mounted(tmp_path / "disk", 1) as disk:
        settings = configured(monkeypatch, disk / name)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        prepare_roots(settings)
        assert not list(disk.iterdir())
        assert own_directory_problem(disk / name)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        prepare_roots(settings)
        assert (disk / name).is_dir()


def test_a_group_writable_home_is_reported_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o775)
    settings = load_settings()
    problems = check_roots(settings)
    assert [problem.variable for problem in problems] == ["PERAGO_WORKSPACE_ROOT", "PERAGO_LOG_ROOT"]
    for problem in problems:
        assert f"chmod g-w {tmp_path / 'home'}" in problem.message
    (tmp_path / "home").chmod(0o755)
    prepare_roots(settings)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("root", ["theirs", "to theirs", "theirs/mine", "shared/theirs/mine", "shared/link/mine"])
def test_no_directory_and_no_link_of_another_user_is_a_root_or_on_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: str
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    for name in ("theirs", "shared/theirs"):
        (tmp_path / name / "mine").mkdir(parents=True)
        os.chown(tmp_path / name, 65534, 65534)
    (tmp_path / "mine").mkdir()
    (tmp_path / "shared" / "link").symlink_to(tmp_path)
    os.chown(tmp_path / "shared" / "link", 65534, 65534, follow_symlinks=False)
    (tmp_path / "to theirs").symlink_to(tmp_path / "theirs")
    problem = only_problem(configured(monkeypatch, tmp_path / root))
    assert f"{tmp_path / root.removesuffix('/mine')} belongs to another user (owner " in problem


def test_a_root_that_is_opened_to_others_before_its_creation_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = Path.mkdir

    def raced(self: Path, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        made(self, mode, exist_ok=exist_ok)
        self.chmod(0o777)

    settings = configured(monkeypatch, tmp_path / "new")
    monkeypatch.setattr(Path, "mkdir", raced)
    with pytest.raises(ConfigurationError, match="can be written by everybody"):
        prepare_roots(settings)

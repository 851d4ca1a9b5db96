"""What pytest pays for the plugin when nothing asks for it, and what is left alone when something does."""

from __future__ import annotations

import pytest

from .projects import QUIET, add_module

pytest_plugins = ["pytester"]

REPORT = """
import sys
def pytest_unconfigure():
    with open("modules.txt", "w") as file:
        file.write("\\n".join(sorted(sys.modules)))
"""
FORBIDDEN = {"pydantic", "hypothesis", "perago", "lakefs", "lakefs_sdk", "conductor", "asyncio", "httpx", "urllib3"}


def modules_of(pytester: pytest.Pytester, *arguments: str) -> set[str]:
    pytester.makeconftest(REPORT)
    pytester.makepyfile(test_plain="def test_plain(): pass")
    result = pytester.runpytest_subprocess(*QUIET, "-p", "no:platformdirs", *arguments, timeout=180)
    assert result.parseoutcomes()["passed"] >= 1
    return set((pytester.path / "modules.txt").read_text().split())


def test_inactive_it_adds_three_modules_and_nothing_of_perago(pytester: pytest.Pytester) -> None:
    added = modules_of(pytester) - modules_of(pytester, "-p", "no:perago")
    assert added == {"pytest_perago"} | {f"pytest_perago.{name}" for name in ("kinds", "options")}
    assert not added & FORBIDDEN


def test_active_it_imports_neither_hypothesis_nor_an_sdk_nor_a_server_and_writes_no_files(
    pytester: pytest.Pytester,
) -> None:
    add_module(pytester, "work", "add")
    found = modules_of(pytester, "--perago-modules", "work", "--perago-kinds", "contract,guardrail,run")
    assert "perago" in found
    assert not found & {"hypothesis", "lakefs", "lakefs_sdk", "conductor", "starlette", "uvicorn", "typer", "httpx"}
    names = {path.relative_to(pytester.path).as_posix() for path in pytester.path.rglob("*")}
    written = {name for name in names if "__pycache__" not in name and not name.startswith(("runpytest", "std"))}
    assert written == {"work.py", "conftest.py", "test_plain.py", "modules.txt"}


def test_collecting_loads_neither_services_nor_hypothesis(pytester: pytest.Pytester) -> None:
    add_module(pytester, "work", "add")
    pytester.makeconftest(REPORT)
    pytester.runpytest_subprocess(
        *QUIET, "--collect-only", "--perago-modules", "work", "--perago-kinds", "contract,fuzz,run", timeout=60
    )
    found = set((pytester.path / "modules.txt").read_text().split())
    assert "work" in found
    assert not {name for name in found if name.startswith(("perago.embedded", "hypothesis"))}

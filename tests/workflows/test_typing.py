"""mypy finds wrong wiring without a plugin of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = """
from pydantic import BaseModel
from perago.workflows import Flow, workflow
from tests.workflows.tasks import Found, Named, Round, Rounds, Split, Words, alone, count, split, write

class Given(BaseModel):
    text: str

class Report(BaseModel):
    weight: float

@workflow(name="a", version=1, owner_email="data@example.com")
def good(flow: Flow, given: Given) -> Report:
    words = flow.step("words", split, Words, text=given.text)
    parts = flow.fork("parts", ("a", "b"), lambda name: flow.step("part", write, Named, name=name))
    flow.map("each", words.result.words, lambda word: flow.step("file", write, Named, name=word))
    with flow.loop("rounds", at_most=3) as loop:
        counted = flow.step("count", count, Rounds, rounds=3)
        loop.until(counted.result.is_done)
    return flow.value(Report, weight=parts[0].result.weight)

@workflow(name="b", version=1, owner_email="data@example.com")
def bad(flow: Flow, given: Given) -> Report:
    flow.step("one", alone, Named, nam="a")  # Unexpected keyword argument "nam"
    flow.step("two", alone, Named, name=3)  # incompatible type "int"; expected "str"
    flow.step("three", alone, Words, text="a")  # incompatible type
    flow.step("four", count, Rounds)  # Missing positional argument|Missing named argument
    found = flow.step("five", split, Words, text=given.txt)  # has no attribute "txt"
    flow.map("each", found.result.words, lambda word: flow.step("n", count, Rounds, rounds=word))  # expected "int"
    found.result.word  # has no attribute "word"
    part = flow.sub("six", good, Given, text=1)  # expected "str"
    part.result.heavy  # has no attribute "heavy"
    return flow.value(Report, weight="a")  # expected "float"
"""


def test_mypy_reports_each_wrong_line_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "wiring.py"
    file.write_text(SOURCE)
    root = Path(__file__).parents[2]
    options = ["--config-file=", "--strict", "--no-error-summary", f"--cache-dir={tmp_path / 'cache'}"]
    command = [sys.executable, "-m", "mypy", *options, str(file)]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)

    errors: dict[int, str] = {}
    for line, text in re.findall(r"wiring\.py:(\d+): error: (.*)", ran.stdout):
        errors[int(line)] = f"{errors.get(int(line), '')}{text} "
    wanted = {n: line.partition("  # ")[2] for n, line in enumerate(SOURCE.splitlines(), 1) if "  # " in line}
    assert errors.keys() == wanted.keys(), ran.stdout
    for number, pattern in wanted.items():
        assert re.search(pattern, errors[number]), errors[number]

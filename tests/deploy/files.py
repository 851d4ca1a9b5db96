"""The files of `deploy/`, recorded scrapes of workers, and the programs that check both."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2] / "deploy"
ALL = sorted(path for path in ROOT.rglob("*") if path.is_file())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
MANIFESTS: dict[str, dict[str, Any]] = {
    document["kind"]: document
    for path in sorted((ROOT / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
}
POD: dict[str, Any] = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
UNIT = configparser.ConfigParser(strict=False, interpolation=None)
UNIT.optionxform = str  # type: ignore[assignment,method-assign]
UNIT.read(ROOT / "perago@.service")

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def commands() -> dict[str, list[str]]:
    """What follows `perago` in each file that starts a worker."""
    unit = shlex.split(UNIT["Service"]["ExecStart"].replace("%I", "my_tasks"))
    (example,) = (line for line in DOCKERFILE.splitlines() if line.startswith("#   CMD"))
    return {
        "compose": [str(word) for word in COMPOSE["services"]["worker"]["command"]],
        "kubernetes": CONTAINER["args"],
        "systemd": unit[unit.index("start") :],
        "docker": yaml.safe_load(example.removeprefix("#   CMD")),
    }


# ------------------------------------------------------------------------------------ recorded scrapes

SCRAPES = Path(__file__).parent / "scrapes"
Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels."""


class Samples(dict[Series, float]):
    """The values of a scrape, and its lines."""

    text = ""


def samples_of(text: str) -> Samples:
    """Read perago's own samples. Those of the process and of the version differ between machines, and no rule
    needs those of steps."""
    samples = Samples()
    lines = [line for line in text.splitlines() if re.match(r"perago_(?!info|step)", line)]
    for line in lines:
        series, value = line.rsplit(" ", 1)
        name, _, labels = series.partition("{")
        samples[name, tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels)))] = float(value)
    samples.text = "".join(f"{line}\n" for line in lines)
    return samples


def tool(name: str) -> str:
    """The path of a validator, of this environment or of the machine."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path

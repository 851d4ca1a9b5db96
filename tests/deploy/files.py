"""The files of `deploy/`, read."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path
from typing import Any

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

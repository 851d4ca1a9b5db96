"""The files of `deploy/` in the eyes of others: `make deploy-files` installs the validators."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .files import COMPOSE, MANIFESTS, ROOT

HERE = Path(sys.executable).parent


def output_of(*words: str) -> str:
    """Return what a command prints.

    Raises:
        CalledProcessError: it found something.
    """
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def tool(name: str) -> str:
    """The path of a validator, of this environment or of the machine."""
    found = shutil.which(name, path=str(HERE)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_dockerfile() -> None:
    output_of(tool("hadolint"), str(ROOT / "Dockerfile"))


def test_compose() -> None:
    compose_spec = pytest.importorskip("compose_spec")
    parsed = compose_spec.PyCompose.from_yaml((ROOT / "compose.yaml").read_text())
    parsed.validate()
    assert set(parsed.service_names()) == set(COMPOSE["services"])


def test_manifests_of_kubernetes() -> None:
    """Those of the Prometheus operator and of KEDA have no schema in it."""
    names = ("worker.yaml", "register.yaml", "network-policy.yaml", "disruption-budget.yaml")
    files = [str(ROOT / "kubernetes" / name) for name in names]
    output_of(tool("kubernetes-validate"), "--strict", *files)


def test_kustomization() -> None:
    made = output_of(tool("kubectl"), "kustomize", str(ROOT / "kubernetes"))
    kinds = {line.removeprefix("kind: ") for line in made.splitlines() if line.startswith("kind: ")}
    assert kinds == set(MANIFESTS) - {"Kustomization"}


def test_unit(tmp_path: Path) -> None:
    unit = tmp_path / "perago@.service"
    text = (ROOT / "perago@.service").read_text()
    unit.write_text(text.replace("/srv/perago/.venv/bin/perago", sys.executable))  # it looks for the program
    output_of(tool("systemd-analyze"), "verify", "--man=no", str(unit))
    copy = tmp_path / "perago@my_tasks.service"
    copy.write_text(text)
    exposed = output_of(tool("systemd-analyze"), "security", "--offline=yes", "--threshold=20", str(copy))
    assert "OK" in exposed

"""Check that a machine without a compiler can install perago, and write the hashes for the image.

    python .ci/wheels.py          # each Python on each platform; exits with 1 if a package has no binary wheel
    python .ci/wheels.py --write  # deploy/requirements/, on the Python of deploy/Dockerfile

pip resolves the requirements without downloading them. It evaluates markers such as `python_version` for the Python
that runs this script.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "linux x86_64": [f"manylinux_2_{minor}_x86_64" for minor in range(28, 16, -1)] + ["manylinux2014_x86_64"],
    "linux aarch64": [f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1)] + ["manylinux2014_aarch64"],
    "macos arm64": ["macosx_14_0_arm64"],
    "macos x86_64": ["macosx_14_0_x86_64"],
}
"""The names that pip accepts on each platform: glibc 2.28 (Debian 10, RHEL 8), and macOS 14."""
KNOWN = {("macos x86_64", "[embedded]"): "quickjs-ng"}
"""Packages without a wheel for a platform. pip compiles them there, and docs/how-to/install.md says so."""
IMAGE_EXTRAS = ("metrics", "otel", "tables")


def declared() -> tuple[list[str], dict[str, list[str]], list[str]]:
    """The requirements of perago, of each extra, and of its build."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = found["project"]
    return project["dependencies"], project["optional-dependencies"], found["build-system"]["requires"]


def resolved(requirements: Sequence[str], python: str, platforms: Sequence[str]) -> list[dict[str, Any]] | str:
    """Return pip's report on each package, or the last line of its errors."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        options = ["--dry-run", "--ignore-installed", "--quiet", "--only-binary", ":all:", "--target", scratch]
        options += ["--disable-pip-version-check", "--no-input", "--implementation", "cp", "--python-version", python]
        options += [word for name in platforms for word in ("--platform", name)]
        command = [sys.executable, "-m", "pip", "install", *options, "--report", str(report), *requirements]
        environment = {**os.environ, "PIP_FIND_LINKS": ""}  # files of this machine have other hashes
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1].removeprefix("ERROR: ")
        installs: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        return installs


def say(line: str) -> None:
    """Print a line now, because the next one takes a while."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def check() -> int:
    """Print which packages have no wheel for a Python on a platform; returns the exit status."""
    base, extras, _ = declared()
    asked = {"perago": base, **{f"[{extra}]": [*base, *more] for extra, more in extras.items()}}
    failures = 0
    for python in PYTHONS:
        for platform, names in PLATFORMS.items():
            everything = sorted({requirement for each in asked.values() for requirement in each})
            found = resolved(everything, python, names)
            if not isinstance(found, str):
                say(f"ok    Python {python}, {platform}: {len(found)} packages")
                continue
            for title, requirements in asked.items():
                if not isinstance(problem := resolved(requirements, python, names), str):
                    continue
                package = KNOWN.get((platform, title))
                if package and package in problem:
                    say(f"known Python {python}, {platform}, {title}: {problem}")
                else:
                    failures += 1
                    say(f"FAIL  Python {python}, {platform}, {title}: {problem}")
    return min(failures, 1)


def write() -> None:
    """Write the files for the image: names, versions and hashes for both processors, and no addresses."""
    (python,) = re.findall(r"^ARG PYTHON=(\d+\.\d+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    if python != f"{sys.version_info.major}.{sys.version_info.minor}":
        raise SystemExit(f"the markers of the packages need Python {python}, which deploy/Dockerfile names")
    base, extras, build = declared()
    (ROOT / "deploy/requirements").mkdir(exist_ok=True)
    for name, requirements in {"build": build, **{extra: [*base, *extras[extra]] for extra in IMAGE_EXTRAS}}.items():
        pins: dict[str, set[str]] = {}
        for platform in ("linux x86_64", "linux aarch64"):
            found = resolved(requirements, python, PLATFORMS[platform])
            if isinstance(found, str):
                raise SystemExit(f"{platform}: {found}")
            for one in found:
                pin = f"{re.sub(r'[-_.]+', '-', one['metadata']['name']).lower()}=={one['metadata']['version']}"
                pins.setdefault(pin, set()).add(one["download_info"]["archive_info"]["hashes"]["sha256"])
        lines = ["# Written by .ci/wheels.py --write", *(pinned(pin, hashes) for pin, hashes in sorted(pins.items()))]
        (ROOT / f"deploy/requirements/{name}.txt").write_text("\n".join(lines) + "\n")


def pinned(pin: str, hashes: set[str]) -> str:
    """One requirement with its hashes."""
    return " \\\n".join([pin, *(f"    --hash=sha256:{each}" for each in sorted(hashes))])


if __name__ == "__main__":
    sys.exit(write() if sys.argv[1:] == ["--write"] else check())

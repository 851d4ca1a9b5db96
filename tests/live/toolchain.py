"""Finds what a real Conductor needs on this machine: Maven to install it, and a JDK that is new enough to run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

OLDEST_JAVA = 21
"""The server's classes are compiled for this release."""

_VERSION = re.compile(r'version "(\d+)')
_DIRECTORIES = ("/usr/lib/jvm/*", "/Library/Java/JavaVirtualMachines/*/Contents/Home", "/opt/java/*")


class MissingToolError(Exception):
    """A tool is not there; the text says what to install."""


def find_java() -> Path:
    """The `java` of a release of 21 or later.

    Raises:
        MissingToolError: there is none among `JAVA_HOME` and its kin, `PATH` and the usual directories.
    """
    seen: dict[Path, int | None] = {}
    for candidate in _java_candidates():
        java = candidate.resolve()
        if java in seen or not os.access(java, os.X_OK):
            continue
        seen[java] = java_version(java)
        if (seen[java] or 0) >= OLDEST_JAVA:
            return java
    found = "; ".join(f"{java} is {version or 'of no known version'}" for java, version in seen.items())
    raise MissingToolError(
        f"Conductor needs a JDK of {OLDEST_JAVA} or later, but there is none ({found or 'no Java was found at all'}). "
        "Install one, and set JAVA_HOME if it is not in a usual place."
    )


def _java_candidates() -> Iterator[Path]:
    """`JAVA_HOME` first; build machines name further ones `JAVA_HOME_21_X64` and the like."""
    homes = [
        os.environ.get("JAVA_HOME"),
        *(os.environ[name] for name in sorted(os.environ) if name[:10] == "JAVA_HOME_"),
    ]
    yield from (Path(home) / "bin/java" for home in homes if home)
    if (on_path := shutil.which("java")) is not None:
        yield Path(on_path)
    for pattern in _DIRECTORIES:
        yield from (home / "bin/java" for home in sorted(Path("/").glob(pattern[1:]), reverse=True))


def java_version(java: Path) -> int | None:
    """The release of a `java`, such as 21; None if it does not say."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(said.stderr + said.stdout)
    return int(match[1]) if match else None


def find_maven() -> Path:
    """The `mvn` command.

    Raises:
        MissingToolError: there is none.
    """
    if (on_path := shutil.which("mvn")) is not None:
        return Path(on_path)
    for variable in ("MAVEN_HOME", "M2_HOME"):
        command = Path(os.environ.get(variable, "")) / "bin/mvn"
        if os.environ.get(variable) and os.access(command, os.X_OK):
            return command
    raise MissingToolError(
        "Conductor is installed with Maven, but there is no mvn on PATH. Install Maven 3.6 or later."
    )

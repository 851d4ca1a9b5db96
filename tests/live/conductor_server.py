"""A real Conductor of this suite's own: installed with Maven, run on loopback, stopped afterwards.

    python -m tests.live.conductor_server install
    python -m tests.live.conductor_server run -- COMMAND [ARGUMENT...]

`run` sets CONDUCTOR_SERVER_URL for the command and ends with its exit status. The server is kept in
`PERAGO_LIVE_CACHE` (default: `.live/` in the working directory) and started with the options of
`docs/dev/servers/conductor.md`, "Boot of a test server". It needs Maven once and a JDK of 21 or later.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

OLDEST_JAVA = 21
"""The server's classes are compiled for this release."""

_VERSION = re.compile(r'version "(\d+)')
_DIRECTORIES = ("/usr/lib/jvm/*", "/Library/Java/JavaVirtualMachines/*/Contents/Home", "/opt/java/*")


class ServerError(Exception):
    """The server could not be installed or started; the text says why, and what to install."""


def find_java() -> Path:
    """Find a `java` of release 21 or later.

    Raises:
        ServerError: `JAVA_HOME` and similar variables, `PATH` and the usual directories have no such release.
    """
    versions: dict[Path, int | None] = {}
    for candidate in _java_candidates():
        java = candidate.resolve()
        if java in versions or not os.access(java, os.X_OK):
            continue
        versions[java] = java_version(java)
        if (versions[java] or 0) >= OLDEST_JAVA:
            return java
    rejected = "; ".join(f"{java} is {version or 'of no known version'}" for java, version in versions.items())
    raise ServerError(
        f"Conductor needs a JDK of {OLDEST_JAVA} or later, but there is none "
        f"({rejected or 'no Java was found at all'}). "
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
    """Find the `mvn` command.

    Raises:
        ServerError: it is not installed.
    """
    if (on_path := shutil.which("mvn")) is not None:
        return Path(on_path)
    for variable in ("MAVEN_HOME", "M2_HOME"):
        command = Path(os.environ.get(variable, "")) / "bin/mvn"
        if os.environ.get(variable) and os.access(command, os.X_OK):
            return command
    raise ServerError("Conductor is installed with Maven, but there is no mvn on PATH. Install Maven 3.6 or later.")


VERSION = "3.32.3"
ARTIFACT = f"org.conductoross:conductor-server:{VERSION}:jar:boot"
JAR = f"conductor-server-{VERSION}-boot.jar"

INSTALL_SECONDS = 600.0
EXTRACT_SECONDS = 120.0
BOOT_SECONDS = 180.0
STOP_SECONDS = 30.0

_OPTIONS = (
    "--server.address=127.0.0.1",
    "--loadSample=false",
    "--conductor.integrations.ai.enabled=false",
    "--conductor.enable.ui.serving=false",
    "--conductor.app.taskExecutionPostponeDuration=1s",
)
_JVM = ("-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def cache_directory() -> Path:
    """Where the installed server and its logs are kept."""
    return Path(os.environ.get("PERAGO_LIVE_CACHE") or ".live").resolve()


def install(java: Path) -> Path:
    """The main jar of the installed server; installs it if it is not there yet.

    Raises:
        ServerError: there is no Maven, or it or the extraction failed.
    """
    home = cache_directory() / f"conductor-{VERSION}"
    if (home / JAR).is_file():
        return home / JAR
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="conductor-", dir=home.parent) as scratch:
        where = Path(scratch)
        copy = (find_maven(), "-B", "-ntp", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={where}")
        _run("installing Conductor with Maven", copy, where, INSTALL_SECONDS, java)
        extract = (java, "-Djarmode=tools", "-jar", where / JAR, "extract", "--destination", where / "extracted")
        _run("extracting Conductor", extract, where, EXTRACT_SECONDS, java)
        with suppress(FileExistsError):  # somebody else was quicker
            (where / "extracted").rename(home)
    if not (home / JAR).is_file():
        raise ServerError(f"the installation left no {home / JAR}; remove {home} and try again")
    return home / JAR


def _run(what: str, command: Sequence[Path | str], directory: Path, seconds: float, java: Path) -> None:
    environment = dict(os.environ)
    if shutil.which("java") is None:
        environment.setdefault("JAVA_HOME", str(java.parent.parent))
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise ServerError(f"{what} took longer than {seconds:.0f} s") from None
    if done.returncode:
        raise ServerError(f"{what} failed with status {done.returncode}:\n{_tail(done.stdout + done.stderr)}")


@contextmanager
def running_server() -> Iterator[str]:
    """A Conductor with an empty database while the `with` block runs; gives the URL for `CONDUCTOR_SERVER_URL`.

    Its log is removed when the block ends well, and kept next to the installation after a failure.

    Raises:
        ServerError: it could not be installed or did not become healthy.
    """
    java = find_java()
    jar = install(java)
    log = cache_directory() / f"conductor-{os.getpid()}.log"
    try:
        with tempfile.TemporaryDirectory(prefix="perago-live-", dir=_ram_disk()) as scratch:
            port = _free_port()
            database = f"jdbc:sqlite:{scratch}/conductor.db?busy_timeout=15000&journal_mode=WAL"
            options = (f"--server.port={port}", *_OPTIONS, f"--spring.datasource.url={database}")
            with _process((java, *_JVM, "-jar", jar, *options), Path(scratch), log) as server:
                _await_health(server, port, log)
                yield f"http://127.0.0.1:{port}/api"
    except BaseException:
        print(f"Conductor's log is kept: {log}", file=sys.stderr)
        raise
    log.unlink(missing_ok=True)


@contextmanager
def _process(command: Sequence[Path | str], directory: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, in a group of its own so that a Ctrl-C reaches the tests first."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(STOP_SECONDS)


def _await_health(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while not _healthy(port):
        if server.poll() is not None:
            raise ServerError(
                f"Conductor ended with status {server.returncode}:\n{_tail(log.read_text('utf-8', 'replace'))}"
            )
        if time.monotonic() > deadline:
            raise ServerError(f"Conductor was not healthy after {BOOT_SECONDS:.0f} s; its log is {log}")
        time.sleep(0.1)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return b'"healthy":true' in answer.read()
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _ram_disk() -> str | None:
    shared = Path("/dev/shm")
    return str(shared) if os.access(shared, os.W_OK) else None


def _tail(text: str, lines: int = 30) -> str:
    return "\n".join(text.splitlines()[-lines:])


# --------------------------------------------------------------------------- command line


def run_with_server(command: Sequence[str]) -> None:
    """Run `command` during the life of a server.

    Raises:
        ServerError: there is no such command, or no server.
        SystemExit: the command failed; with its exit status. The log of the server is kept.
    """
    if shutil.which(command[0]) is None:
        raise ServerError(f"{command[0]}: no such command")
    with running_server() as url:
        print(f"Conductor {VERSION} runs at {url}", file=sys.stderr, flush=True)
        child = subprocess.Popen(command, env={**os.environ, "CONDUCTOR_SERVER_URL": url})
        with _signals_passed_to(child):
            status = child.wait()
        if status:
            raise SystemExit(status if status > 0 else 128 - status)


@contextmanager
def _signals_passed_to(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """The command decides what a signal means. A terminal sends SIGINT to it anyway."""

    def forward(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, forward),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status, unless the command has failed."""
    try:
        match list(arguments):
            case ["install"]:
                print(install(find_java()))
            case ["run", "--", *command] if command:
                run_with_server(command)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # so that the server never outlives us
    sys.exit(main(sys.argv[1:]))

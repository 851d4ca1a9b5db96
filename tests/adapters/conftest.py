"""Fixtures of the adapters' tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from perago.adapters.lakefs import transfers
from perago.cache import ObjectCache


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transfers check their time limits often, so that a test of a limit is short."""
    monkeypatch.setattr(transfers, "_OVERDUE_INTERVAL", 0.05)


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    """The cache of a workspace root, for a lakeFS of a fixed address."""
    (tmp_path / "root").mkdir(mode=0o700)
    return ObjectCache(tmp_path / "root", 10**9, "http://lakefs")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, key and certificate in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so no certificate can be made")
    place = tmp_path_factory.mktemp("tls")
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    files = ["-keyout", str(place / "key.pem"), "-out", str(place / "cert.pem")]
    extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", *options, *extension, *files], check=True, capture_output=True, timeout=60
    )
    both = place / "both.pem"
    both.write_bytes((place / "key.pem").read_bytes() + (place / "cert.pem").read_bytes())
    return both

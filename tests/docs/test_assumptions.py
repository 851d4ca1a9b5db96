"""Each assumption of the protocol about a server has a recording or a live test."""

from __future__ import annotations

import re

from ..conformance.recordings import load
from ..conformance.scenario import scenarios
from .blocks import ROOT

SECTION = re.compile(r"^## What the argument assumes about the servers\n(.*?)^## ", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (?P<sentence>[A-Z].*?) \| .* \| (?P<proofs>`.+`) \|$", re.MULTILINE)
PROOF = re.compile(r"`(\w+)\.(\w+)`")


def assumptions() -> dict[str, list[tuple[str, str]]]:
    """Return the proofs of each sentence: a group and a scenario, or a module and a live test."""
    section = SECTION.search((ROOT / "docs/dev/protocol.md").read_text(encoding="utf-8"))
    assert section is not None
    return {row["sentence"]: PROOF.findall(row["proofs"]) for row in ROW.finditer(section[1])}


def test_each_assumption_about_a_server_is_proven() -> None:
    recorded = {
        (scenario.group, scenario.name): scenario
        for server in ("conductor", "lakefs")
        for scenario in scenarios(server)
    }
    sentences = assumptions()
    assert len(sentences) > 30
    for sentence, proofs in sentences.items():
        assert proofs, f"nothing proves: {sentence}"
        for group, name in proofs:
            if group.startswith("test_live_"):
                live_tests = (ROOT / f"tests/live/{group}.py").read_text(encoding="utf-8")
                assert f"\ndef {name}(" in live_tests, f"{group}.{name} does not exist"
            else:
                assert load(recorded[group, name]), f"{group}.{name} has no recording"

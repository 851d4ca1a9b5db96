"""An attempt of production becomes a case directory, whole or not at all."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perago.history.attempts import NotReplayable, Past, attempt_from, find_attempt, find_step, look_up
from perago.history.capture import Captured, CaptureOptions, Scrubber, capture
from perago.ports import NotFound
from perago.taskdef import build_task_definition
from perago.testing import Outcome, TaskRunner
from perago.testing.tasks import task_of
from perago.trees.cases import InvalidCase, read_recorded_case
from perago.trees.differences import Digest

from .models import TREE, EmbeddedRecords, past, same_for_all, scale

PREFIX = "audio/"
DEFINITION = build_task_definition(task_of(scale))


def looked_up(run: TaskRunner, outcome: Outcome) -> Past:
    return look_up(run._services.lakefs, past(run, outcome), PREFIX)


def captured(run: TaskRunner, outcome: Outcome, target: Path, **options: Any) -> Captured:
    hooks = options.pop("hooks", {})
    capture_options = CaptureOptions(target, Scrubber("replay.scale", hooks), definition=DEFINITION, **options)
    return capture(run._services.lakefs, looked_up(run, outcome), capture_options)


def test_all_that_a_person_needs_is_in_the_directory(run: TaskRunner, tmp_path: Path) -> None:
    outcome = run(scale, {"scale": 3}, tree=TREE).assert_completed()
    case = captured(run, outcome, tmp_path / "case")

    document = json.loads((tmp_path / "case/case.json").read_text())
    assert document["params"] == {"scale": 3}
    assert (document["expect"], document["result"], document["removed"]) == ("completed", {"rows": 2}, ["old.txt"])
    assert document["about"]["task_id"] == outcome.delivery.task_id
    assert document["about"]["published"] == outcome.commit
    assert {path: facts["size"] for path, facts in document["published"].items()} == {"out/a.csv": 17}
    assert (tmp_path / "case/input/raw/a.csv").read_text() == TREE["raw/a.csv"]
    assert (tmp_path / "case/published/out/a.csv").read_text() == "x,scaled\n1,3\n2,6\n"
    assert json.loads((tmp_path / "case/taskdef.json").read_text())["name"] == "replay.scale"
    assert (case.files, case.published, case.complete) == (2, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_no_file_has_a_secret_of_the_definition_a_key_or_an_address(run: TaskRunner, tmp_path: Path) -> None:
    secrets = ["s3cr3t-in-template", "s3cr3t-as-a-key-1", "s3cr3t-signature", "s3cr3t-of-postgres"]
    template = {
        "params": {"api_key": secrets[0]},
        "PGPASSWORD": secrets[3],
        "note": f"https://x.example/?sig={secrets[2]}",
    }
    known = looked_up(run, run(scale, tree=TREE).assert_completed())
    params = {**known.attempt.params, "tokens": {secrets[1]: "ann"}, "again": {secrets[0]: f"x{secrets[1]}x"}}
    reason = f"https://x.example/?sig={secrets[2]} {secrets[3]}"
    definition = {**DEFINITION, "inputTemplate": template}
    attempt = replace(known.attempt, params=params, definition=definition, reason=reason)

    case = capture(
        run._services.lakefs,
        replace(known, attempt=attempt),
        CaptureOptions(tmp_path / "case", Scrubber("replay.scale")),
    )
    texts = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(texts) == 5
    assert not [secret for secret in secrets for text in [*texts, *case.redacted] if secret in text]
    assert json.loads((tmp_path / "case/taskdef.json").read_text())["inputTemplate"]["PGPASSWORD"] == "***"
    assert set(case.redacted) == {
        "/params/tokens (key)",
        "/params/tokens/***",
        "/about/reason",
        "/taskdef/inputTemplate/params/api_key",
        "/taskdef/inputTemplate/PGPASSWORD",
        "/taskdef/inputTemplate/note",
    }


@pytest.mark.parametrize("encode", [str, lambda text: base64.b64encode(f"me:{text}".encode()).decode()])
def test_a_secret_of_the_template_in_a_file_is_refused(
    run: TaskRunner, tmp_path: Path, encode: Callable[[str], str]
) -> None:
    secret = "s3cr3t-in-template"
    known = looked_up(run, run(scale, tree={**TREE, "raw/note.txt": encode(secret)}))
    definition = {**DEFINITION, "inputTemplate": {"jwt": secret}}
    past = replace(known, attempt=replace(known.attempt, definition=definition))
    with pytest.raises(
        NotReplayable, match=r"the secret at /taskdef/inputTemplate/jwt is in the file 'input/raw/note.txt'"
    ):
        capture(run._services.lakefs, past, CaptureOptions(tmp_path / "case", Scrubber("replay.scale")))
    assert list(tmp_path.iterdir()) == []


def test_a_secret_in_the_name_of_a_published_file_is_refused(
    run: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.trees.cases.LARGEST_KEPT", 0)
    known = looked_up(run, run(scale, {"api_key": "published-s3cr3t"}, tree=TREE))
    published = replace(known.published, removed=frozenset({"raw/published-s3cr3t.csv"}))
    with pytest.raises(NotReplayable, match=r"is in the file 'case.json'"):
        capture(
            run._services.lakefs,
            replace(known, published=published),
            CaptureOptions(tmp_path / "case", Scrubber("replay.scale")),
        )


def test_only_a_part_of_the_input_may_be_taken(run: TaskRunner, tmp_path: Path) -> None:
    outcome = run(scale, tree=TREE)

    case = captured(run, outcome, tmp_path / "case", chosen=lambda path: path == "raw/a.csv", max_bytes=6)
    assert (case.files, case.left_out) == (1, 1)
    with pytest.raises(NotReplayable, match="none of the 2 input files"):
        captured(run, outcome, tmp_path / "other", chosen=lambda _: False)


def test_hooks_replace_values_before_anything_is_written(run: TaskRunner, tmp_path: Path) -> None:
    hooks = {
        "scrub_params": lambda _, params: {**params, "scale": 7},
        "scrub_result": lambda _, result: {"rows": -1},
        "scrub_file": lambda _, path, content: None if path == "old.txt" else content.replace(b"2", b"9"),
    }
    case = captured(run, run(scale, tree=TREE), tmp_path / "case", hooks=hooks)

    recorded, record = read_recorded_case(tmp_path / "case")
    assert recorded.params == {"scale": 7}
    assert recorded.tree == {"raw/a.csv": b"x\n1\n9\n"}
    assert record.result == {"rows": -1}
    assert record.files == {"out/a.csv": b"x,scaled\n1,9\n9,4\n"}
    assert set(case.replaced) == {"params", "the result", "old.txt was left out", "raw/a.csv", "out/a.csv"}


def test_a_secret_that_a_hook_has_replaced_is_looked_for_as_well(run: TaskRunner, tmp_path: Path) -> None:
    hooks = {"scrub_params": lambda _, params: {**params, "api_key": "stand-in"}}
    secret = "s3cr3t-of-production"
    refused = run(scale, {"api_key": secret}, tree={"raw/a.csv": f"x\n{secret}\n"})

    with pytest.raises(NotReplayable, match=r"the secret at /params/api_key is in the file 'input/raw/a.csv'"):
        captured(run, refused, tmp_path / "case", hooks=hooks)

    captured(run, refused, tmp_path / "case", hooks={**hooks, "scrub_file": lambda *_: b"x\nabc\n"})
    assert secret in (refused.reason or "")
    assert all(secret not in file.read_text() for file in tmp_path.rglob("*") if file.is_file())


SECRET = "s3cr3t-of-production"


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ({"raw/note.txt": f"key {SECRET}"}, {}, "the secret at /params/api_key is in the file 'input/raw/note.txt'"),
        ({f"raw/{SECRET}.txt": ""}, {}, "is in the name of a file"),
        ({}, {"max_bytes": 9}, "hold 10 bytes in 2 objects, more than 9 bytes; nothing was downloaded"),
        ({}, {"hooks": {"scrub_params": lambda *_: 1}}, "scrub_params returned int"),
        ({}, {"hooks": {"scrub_params": lambda *_: 1 / 0}}, "scrub_params raised ZeroDivisionError"),
        ({}, {"hooks": {"scrub_result": lambda *_: object()}}, "scrub_result returned a value that is not JSON"),
        ({}, {"hooks": {"scrub_file": lambda *_: "text"}}, "scrub_file returned str for 'old.txt'"),
    ],
)
def test_a_refused_capture_names_its_reason_without_secrets(
    run: TaskRunner, tmp_path: Path, more: dict[str, str], options: Any, said: str
) -> None:
    outcome = run(scale, {"api_key": SECRET}, tree={**TREE, **more})
    with pytest.raises(NotReplayable, match=said) as refused:
        captured(run, outcome, tmp_path / "case", **options)
    assert "s3cr3t" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_large_published_file_is_kept_as_size_and_digest(
    run: TaskRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.trees.cases.LARGEST_KEPT", 16)
    captured(run, run(scale, tree=TREE), tmp_path / "case")

    _, record = read_recorded_case(tmp_path / "case")
    assert record.files is not None
    assert isinstance(record.files["out/a.csv"], Digest)
    assert not (tmp_path / "case/published/out").exists()


def test_the_hooks_of_the_repository_are_no_input(run: TaskRunner, tmp_path: Path) -> None:
    run(same_for_all, tree={"raw/a.csv": "x\n"})
    outcome = run(same_for_all).assert_completed()
    keys = run._services.lakefs.tree(run.repository, str(outcome.input_ref))
    known = look_up(run._services.lakefs, past(run, outcome), "")
    case = capture(run._services.lakefs, known, CaptureOptions(tmp_path / "case", Scrubber("replay.same")))

    assert (case.files, case.left_out) == (2, 0)
    assert any(key.startswith("_lakefs_actions/") for key in keys)


def test_a_case_of_a_newer_format_names_the_version_to_install(run: TaskRunner, tmp_path: Path) -> None:
    captured(run, run(scale, tree=TREE), tmp_path / "case")
    file = tmp_path / "case" / "case.json"
    document = json.loads(file.read_text())
    assert document["perago.format"] == 1
    newer = {"perago.format": 2, "perago.version": "9.9.9", "shape": "unknown"}
    file.write_text(json.dumps({**document, **newer}))
    with pytest.raises(InvalidCase, match=r"has format 2, .* install 9\.9\.9"):
        read_recorded_case(tmp_path / "case")


def test_a_failed_attempt_is_captured_as_it_ended(run: TaskRunner, tmp_path: Path) -> None:
    outcome = run(scale, tree={"raw/a.csv": "x\nno number\n"})
    captured(run, outcome, tmp_path / "failed")
    captured(run, run(scale, tree={"other.txt": ""}), tmp_path / "pre")

    assert [read_recorded_case(tmp_path / name)[1].ending for name in ("failed", "pre")] == ["failed", "pre"]


def test_objects_that_no_longer_exist_are_reported(run: TaskRunner, tmp_path: Path) -> None:
    outcome = run(scale, tree=TREE)
    known = looked_up(run, outcome)
    run._services.lakefs.server.delete_repository(run.repository)

    with pytest.raises(NotReplayable, match="lakeFS no longer has") as raised:
        capture(run._services.lakefs, known, CaptureOptions(tmp_path / "case", Scrubber("replay.scale")))
    assert "garbage collection" in raised.value.fix
    with pytest.raises(NotReplayable, match="lakeFS no longer has"):
        looked_up(run, outcome)
    assert list(tmp_path.iterdir()) == []


def test_an_attempt_that_goes_on_or_is_unknown_is_refused(run: TaskRunner) -> None:
    delivery = run.deliver(scale, tree=TREE)
    records = EmbeddedRecords(run._services.conductor)

    with pytest.raises(NotReplayable, match="has not ended yet: it is IN_PROGRESS"):
        find_attempt(records, delivery.task_id)
    with pytest.raises(NotReplayable, match="no task with the reference name 'nope'") as raised:
        find_step(records, delivery.workflow_id, "nope")
    assert "'step'" in raised.value.fix
    with pytest.raises(NotReplayable, match="Conductor has no task 'nope'") as unknown:
        find_attempt(records, "nope")
    assert isinstance(unknown.value.__cause__, NotFound)


def test_inputs_that_are_no_inputs_of_perago_are_refused() -> None:
    row = {"taskId": "t", "taskDefName": "x", "status": "COMPLETED", "inputData": {"a": 1}}
    with pytest.raises(NotReplayable, match="has no params"):
        attempt_from(row)
    with pytest.raises(NotReplayable, match="external storage"):
        attempt_from({**row, "externalInputPayloadStoragePath": "x/y"})
    with pytest.raises(NotReplayable, match="/workspace: names no repository"):
        attempt_from({**row, "inputData": {"params": {}, "workspace": {"ref": "x"}}})

"""`perago fence`."""

from __future__ import annotations

import json

from perago.attempt.publication import FENCE_PATH
from perago.embedded.lakefs import objects
from perago.embedded.services import EmbeddedServices

from .conftest import Project


def test_a_branch_is_fenced_checked_and_unfenced(project: Project, shared_embedded: EmbeddedServices) -> None:
    shared_embedded.lakefs.seed("my-data", "main", {"a": "1"})
    variables = shared_embedded.environment()

    bare = project.run("fence", "status", "my-data", "main", **variables)
    assert (bare.code, "publish fence absent" in bare.out) == (1, True)
    assert "perago fence install my-data main" in bare.out
    installed = project.run("fence", "install", "my-data", "main", **variables)
    assert (installed.code, installed.err) == (0, "")
    assert "publish fence enforced" in installed.out
    assert FENCE_PATH in shared_embedded.lakefs.tree("my-data", "main")
    status = project.run("fence", "status", "my-data", "main", "--json", **variables)
    head = shared_embedded.lakefs.get_commit("my-data", "main").id
    expected = {"repository": "my-data", "branch": "main", "head": head, "fence": "enforced"}
    assert (status.code, json.loads(status.out)) == (0, expected)
    removed = project.run("fence", "remove", "my-data", "main", **variables)
    assert (removed.code, FENCE_PATH in shared_embedded.lakefs.tree("my-data", "main")) == (0, False)


def test_an_unknown_branch_and_staged_work_are_reported(project: Project, shared_embedded: EmbeddedServices) -> None:
    shared_embedded.lakefs.seed("busy", "main", {"a": "1"})
    objects.put_object(shared_embedded.lakefs.server.repository("busy"), "main", "theirs", b"1")
    missing = project.run("fence", "install", "busy", "nope", **shared_embedded.environment())
    assert missing.code == 1
    assert "has no branch nope in busy" in missing.err
    dirty = project.run("fence", "install", "busy", "main", **shared_embedded.environment())
    assert dirty.code == 1
    assert "uncommitted changes" in dirty.err

"""The modelled lakeFS against a real one: refusals, the merges that lose data, and merges drawn at random.

Needs the three `LAKECTL_` variables. A failure here means that the server has changed: correct the model and
`docs/dev/servers/lakefs.md` together.
"""

from __future__ import annotations

import random
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from perago.driver import SystemClock
from perago.embedded.lakefs import LakeFSError, LakeFSServer, ServerDivergence, commits, objects, references
from perago.embedded.lakefs.values import Strategy

from ..embedded_lakefs.divergences import DIVERGENCES, Changes
from ..embedded_lakefs.http_cases import CASES
from ..embedded_lakefs.http_client import Http
from .servers import LAKEFS, variables

pytestmark = pytest.mark.live

Contents = dict[str, str]


@pytest.fixture(scope="module")
def real() -> Iterator[Http]:
    """A repository of its own on the real server."""
    url, key, secret = variables(LAKEFS)
    http = Http(url.rstrip("/"), f"{key}:{secret}", f"perago-model-{uuid.uuid4().hex[:12]}")
    created = {"name": http.repository, "storage_namespace": f"local://{http.repository}"}
    assert http("POST", "/api/v1/repositories", created).status == 201
    http("POST", "branches/main/objects?path=a/1", b"hello", {"content-type": "text/csv"})
    http("POST", "branches/main/commits", {"message": "first"})
    http("POST", "branches", {"name": "side", "source": "main"})
    yield http
    http("DELETE", f"/api/v1/repositories/{http.repository}?force=true")
    http.pool.clear()


MODELLED = [case for case in CASES if case[3] != 501 and case[1] != "/api/v1/repositories"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    MODELLED,
    ids=[f"{m} {p[:45]} {b!r}"[:90] for m, p, b, _ in MODELLED],
)
def test_the_real_server_refuses_with_the_status_of_the_model(
    real: Http, method: str, path: str, body: object, status: int
) -> None:
    assert real(method, path, body).status == status


@dataclass
class Both:
    """The same branches on the model and on the real server."""

    real: Http
    model: LakeFSServer

    def branch(self, name: str, source: str) -> None:
        assert self.real("POST", "branches", {"name": name, "source": source}).status == 201
        references.create_branch(self.model.repository("repo"), name, source)

    def commit(self, branch: str, changes: Changes) -> None:
        for path, content in changes.items():
            target = f"branches/{branch}/objects?path={path}"
            if content is None:
                self.real("DELETE", target)
                objects.delete_object(self.model.repository("repo"), branch, path)
            else:
                self.real("POST", target, content.encode(), {"content-type": "text/plain"})
                objects.put_object(
                    self.model.repository("repo"), branch, path, content.encode(), content_type="text/plain"
                )
        assert self.real("POST", f"branches/{branch}/commits", {"message": "m", "allow_empty": True}).status == 201
        commits.commit(self.model.repository("repo"), branch, "m", allow_empty=True)

    def merge(self, source: str, target: str, strategy: Strategy) -> tuple[bool, bool]:
        """Whether both came to the same result, and whether the model flagged a divergence."""
        status = self.real("POST", f"refs/{source}/merge/{target}", {"strategy": str(strategy)}).status
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                commits.merge(self.model.repository("repo"), source, target, strategy=strategy)
                modelled = 200
            except LakeFSError as error:
                modelled = error.status
        flagged = any(issubclass(warning.category, ServerDivergence) for warning in caught)
        return status == modelled and self._real_tree(target) == self._model_tree(target), flagged

    def _real_tree(self, ref: str) -> Contents:
        found = self.real("GET", f"refs/{ref}@/objects/ls?amount=1000").json["results"]
        return {entry["path"]: entry["checksum"] for entry in found}

    def _model_tree(self, ref: str) -> Contents:
        return {
            entry.path: entry.blob.checksum for entry in objects.all_objects(self.model.repository("repo"), f"{ref}@")
        }


@pytest.fixture
def both(real: Http) -> Both:
    model = LakeFSServer(SystemClock())
    model.create_repository("repo")
    objects.put_object(model.repository("repo"), "main", "a/1", b"hello", content_type="text/csv")
    commits.commit(model.repository("repo"), "main", "first")
    return Both(real, model)


def merge_of(
    both: Both, base: Changes, target: Changes, source: Changes, strategy: Strategy = Strategy.NONE
) -> tuple[bool, bool]:
    name = uuid.uuid4().hex[:12]
    ours, theirs = f"t-{name}", f"s-{name}"
    both.branch(ours, "main")
    both.commit(ours, {"a/1": None, **base})
    both.branch(theirs, ours)
    both.commit(ours, target)
    both.commit(theirs, source)
    return both.merge(theirs, ours, strategy)


@pytest.mark.parametrize(("base", "target", "source", "path", "merged"), DIVERGENCES)
def test_the_real_server_still_loses_data_in_the_known_merges(
    both: Both, base: Changes, target: Changes, source: Changes, path: str, merged: Contents | None
) -> None:
    same, flagged = merge_of(both, base, target, source)
    assert (same, flagged) == (False, True)


def test_merges_drawn_at_random_agree_or_are_flagged(both: Both) -> None:
    draw = random.Random(1)

    def changes(share: float) -> Changes:
        deleted = [None, "", "1", "2"]
        return {path: draw.choice(deleted) for path in "abmqtz" if draw.random() < share}

    for _ in range(120):
        base = {path: content or "" for path, content in changes(0.6).items()}
        target, source, strategy = changes(0.35), changes(0.35), draw.choice(list(Strategy))
        same, flagged = merge_of(both, base, target, source, strategy)
        assert same is not flagged, f"base {base}, target {target}, source {source}, strategy {strategy!r}"

"""Sets the stage: a repository of a scenario's own, and the requests of this API in few words.

What these functions prepare is no part of a transcript; what a `Repository` is asked afterwards is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from perago.attempt.publication import EXPECTED_HEAD

from ...http_answer import Answer
from ..rest import Rest
from ..scenario import Requests, to

Files = Mapping[str, str | None]
"""Paths and contents; None: deleted."""

TEXT = {"Content-Type": "text/plain"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=boundary"}

repo = Requests()
"""Requests of a scenario that prepares a `Repository`."""


@dataclass(frozen=True)
class Repository:
    """A repository as a client sees it; paths are templates below it."""

    rest: Rest
    name: str
    _commits: list[str] = field(default_factory=list)

    def commit_id(self, number: int) -> str:
        """Return the id that `commit_files` or `head` found first (1), second (2), and so on."""
        return self._commits[number - 1]

    @property
    def silent(self) -> Repository:
        """The same repository, of which nothing is noted."""
        return replace(self, rest=self.rest.silent)

    def call(self, method: str, template: str, **options: Any) -> Answer:
        """One request below this repository; the options are those of `Rest.call`."""
        return self.rest.call(method, "/repositories/{repository}" + template, repository=self.name, **options)

    def create(self, **body: Any) -> Answer:
        """Create it."""
        request = {"name": self.name, "storage_namespace": f"local://{self.name}", **body}
        return self.rest.post("/repositories", request)

    def get(self, template: str, **options: Any) -> Answer:
        """A GET below this repository."""
        return self.call("GET", template, **options)

    def post(self, template: str, body: Any = None, **options: Any) -> Answer:
        """A POST of a JSON value below this repository."""
        return self.call("POST", template, json=body, **options)

    def delete(self, template: str, **options: Any) -> Answer:
        """A DELETE below this repository."""
        return self.call("DELETE", template, **options)

    def branches(self, **query: Any) -> Answer:
        """List branches."""
        return self.get("/branches", query=query)

    def tags(self, **query: Any) -> Answer:
        """List tags."""
        return self.get("/tags", query=query)

    def head_object(self, path: str, **options: Any) -> Answer:
        """Ask for the head of an object."""
        return self.call("HEAD", "/refs/main/objects", query={"path": path}, **options)

    def upload(self, path: str, content: str | bytes = "x", branch: str = "main", **options: Any) -> Answer:
        """Stage an object; `query` may add parameters."""
        data = content.encode() if isinstance(content, str) else content
        query = {"path": path} | options.pop("query", {})
        headers = options.pop("headers", TEXT)
        template = "/branches/{branch}/objects"
        return self.call("POST", template, branch=branch, query=query, body=data, headers=headers, **options)

    def set_metadata(self, path: str, **body: Any) -> Answer:
        """Replace the metadata of an object."""
        return self.call("PUT", "/branches/main/objects/stat/user_metadata", query={"path": path}, json=body)

    def form(self, path: str, body: bytes, headers: Mapping[str, str] = MULTIPART) -> Answer:
        """Stage an object by a form."""
        return self.call("POST", "/branches/main/objects", query={"path": path}, body=body, headers=headers)

    def remove(self, path: str, branch: str = "main") -> Answer:
        """Stage a deletion."""
        return self.call("DELETE", "/branches/{branch}/objects", branch=branch, query={"path": path})

    def change(self, files: Files, branch: str = "main") -> None:
        """Stage several uploads and deletions."""
        for path, content in files.items():
            if content is None:
                self.remove(path, branch)
            else:
                self.upload(path, content, branch)

    def commit(self, branch: str = "main", message: str = "m", **body: Any) -> Answer:
        """Commit what is staged; further members of the body by name."""
        return self.post("/branches/{branch}/commits", {"message": message, **body}, branch=branch)

    def branch(self, name: str, source: str = "main", **body: Any) -> Answer:
        """Create a branch."""
        return self.post("/branches", {"name": name, "source": source, **body})

    def tag(self, name: str, ref: str = "main", **body: Any) -> Answer:
        """Create a tag."""
        return self.post("/tags", {"id": name, "ref": ref, **body})

    def merge(self, source: str = "side", target: str = "main", **body: Any) -> Answer:
        """Merge a ref into a branch."""
        return self.post("/refs/{source}/merge/{target}", body, source=source, target=target)

    def publish(self, expected: str, source: str = "side", **body: Any) -> Answer:
        """Merge into `main` if that is where it was expected."""
        return self.merge(source, "main", metadata={EXPECTED_HEAD: expected}, **body)

    def revert(self, ref: str, branch: str = "main", parent: int = 0, **body: Any) -> Answer:
        """Undo a commit on a branch."""
        return self.post("/branches/{branch}/revert", {"ref": ref, "parent_number": parent, **body}, branch=branch)

    def pick(self, ref: str, branch: str = "main", **body: Any) -> Answer:
        """Repeat a commit on a branch."""
        return self.post("/branches/{branch}/cherry-pick", {"ref": ref, **body}, branch=branch)

    def reset(self, branch: str = "main", **body: Any) -> Answer:
        """Drop what is staged: all, or by `type` and `path`."""
        return self.call("PUT", "/branches/{branch}", branch=branch, json=body)

    def hard_reset(self, ref: str, branch: str = "main") -> Answer:
        """Move a branch to a ref."""
        return self.call("PUT", "/branches/{branch}/hard_reset", branch=branch, query={"ref": ref})

    def tree(self, ref: str = "main", **query: Any) -> Answer:
        """List objects."""
        return self.get("/refs/{ref}/objects/ls", ref=ref, query=query)

    def read(self, path: str, ref: str = "main", **options: Any) -> Answer:
        """Read an object's bytes; `query` may add parameters."""
        query = {"path": path} | options.pop("query", {})
        return self.get("/refs/{ref}/objects", ref=ref, query=query, **options)

    def stat(self, path: str, ref: str = "main", **query: Any) -> Answer:
        """Describe an object."""
        return self.get("/refs/{ref}/objects/stat", ref=ref, query={"path": path, **query})

    def staged(self, branch: str = "main", **query: Any) -> Answer:
        """What is staged and not committed."""
        return self.get("/branches/{branch}/diff", branch=branch, query=query)

    def diff(self, left: str, right: str, **query: Any) -> Answer:
        """What differs between two refs."""
        return self.get("/refs/{left}/diff/{right}", left=left, right=right, query=query)

    def log(self, ref: str = "main", **query: Any) -> Answer:
        """The history of a ref."""
        return self.get("/refs/{ref}/commits", ref=ref, query=query)

    def show(self, ref: str = "main") -> Answer:
        """The commit of a ref."""
        return self.get("/commits/{commit}", commit=ref)

    def head(self, branch: str = "main") -> str:
        """The commit id of a branch, looked up behind the scenes."""
        with self.rest.unnoted():
            self._commits.append(self.get("/branches/{branch}", branch=branch).json["commit_id"])
        return self._commits[-1]

    def commit_files(self, files: Files, branch: str = "main", message: str = "m", **body: Any) -> str:
        """Commit these files behind the scenes, even none; the commit's id."""
        with self.rest.unnoted():
            self.change(files, branch)
            answer = self.commit(branch, message, allow_empty=True, **body)
        if answer.status != 201:
            raise RuntimeError(f"the stage could not be set: the commit answered {answer.status} {answer.text}")
        self._commits.append(answer.json["id"])
        return self._commits[-1]

    def add_branch(self, name: str = "side", source: str = "main", **body: Any) -> None:
        """Create a branch behind the scenes."""
        with self.rest.unnoted():
            self.branch(name, source, **body)

    def stage_files(self, files: Files, branch: str = "main") -> None:
        """Stage these files behind the scenes."""
        with self.rest.unnoted():
            self.change(files, branch)


def repository(rest: Rest, files: Files | None = None, **body: Any) -> Repository:
    """A new repository with these files committed as one commit, if any are given."""
    made = Repository(rest, rest.name("repo"))
    made.silent.create(**body)
    made.rest.afterwards(lambda: made.delete("", query={"force": "true"}))
    if files:
        made.commit_files(files, message="base")
    return made


empty = to(repository)
"""Return the body of a scenario that sends requests to a repository without objects."""
one_file = to(repository, {"a": "1"})
"""Return the body of a scenario that sends requests to a repository that holds `a`."""


def diverged(rest: Rest, base: Files, *, main: Files | None = None, side: Files | None = None) -> Repository:
    """A repository whose branches `main` and `side` share `base`; what else is given, each commits on its own."""
    made = repository(rest, base)
    made.add_branch()
    if main is not None:
        made.commit_files(main, "main", "on main")
    if side is not None:
        made.commit_files(side, "side", "on side")
    return made

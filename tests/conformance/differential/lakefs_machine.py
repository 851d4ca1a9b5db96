"""Random work on one repository: uploads, deletions, commits, merges, reverts, and every way to look at them.

Left out: whether two commits of the same files show the same meta range. A real server takes ranges of files over from
what it merges, so that it depends on the past as well; the model has one range for all files.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from perago.attempt.publication import EXPECTED_HEAD, FENCE_PATH, FENCE_TEXT

from ..lakefs.rules import RULES
from ..targets import Target
from .pair import Both, Pair, flagged

KEYS = ("a", "a/1", "a/2", "a/b/c", "a.txt", "ab", "A", "b/x", "m", "z", "é", "e\u0301", "sp ace", "100%", "p+lus")
CONTENTS = (b"", b"1", b"2", b"3", b"4", b"5", b"6")
"""Equal ones are where lakeFS loses data, and a run ends: most are to differ."""
BRANCHES = ("main", "dev", "side", "perago-staging")
TAGS = ("v1", "v2")

keys = st.sampled_from(KEYS)
contents = st.sampled_from(CONTENTS)
branches = st.sampled_from(BRANCHES)
tags = st.sampled_from(TAGS)
prefixes = st.sampled_from(("", "a", "a/", "b", "z", "no"))
amounts = st.integers(1, 4)
pages = st.fixed_dictionaries(
    {
        "prefix": prefixes,
        "delimiter": st.sampled_from(("", "/")),
        "amount": amounts,
        "after": st.sampled_from(("", "a/", "b/", *KEYS)),
    }
)
COMPARED_BY = dataclasses.replace(RULES, hidden=RULES.hidden | {"meta_range_id"})
trees = st.dictionaries(keys, contents, max_size=6)


class LakeFSMachine(RuleBasedStateMachine):
    """Rules send one request each, or one and a look at what it did."""

    targets: Callable[[], tuple[Target, Target]]
    """Gives the embedded and the real server; set by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair.of(*type(self).targets(), compared_by=COMPARED_BY)
        self.repository = self.pair.name("repo")
        self.commits: list[Both] = []
        self.there = {"main"}
        self.counter = 0

    @initialize(tree=trees, fenced=st.booleans(), forks=st.sets(st.sampled_from(BRANCHES[1:]), min_size=1))
    def create(self, tree: dict[str, bytes], fenced: bool, forks: set[str]) -> None:
        """A repository, with something in it and forked where drawn so: random work alone seldom builds anything that
        could be merged."""
        body = {"name": self.repository, "storage_namespace": f"local://{self.repository}"}
        self.pair.call("POST", "/repositories", json=body)
        if tree:
            self.publish("main", tree, [])
        if fenced:
            self.fence("main", True)
        for branch in sorted(forks):
            self.fork(branch, "main")

    def teardown(self) -> None:
        self.pair.ask("DELETE", "/repositories/{repository}", repository=self.repository)
        self.pair.close()

    def call(self, method: str, path: str, **given: Any) -> Any:
        """One request below the repository, compared."""
        given.setdefault("repository", self.repository)
        return self.pair.call(method, f"/repositories/{{repository}}{path}", **given)

    def history(self, method: str, path: str, *, missing_in_any_words: bool = False, **given: Any) -> None:
        """A request that may make a commit; remembers it. Ends the run where the model flags a loss of data."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            given.setdefault("repository", self.repository)
            answers = self.pair.ask(method, f"/repositories/{{repository}}{path}", **given)
        if flagged(caught):
            reject()  # from here on the two have other trees
        if missing_in_any_words and all(answer.status == 404 for answer in answers):
            return
        self.pair.compare()
        if answers[0].status in (200, 201):
            ids = [answer.json.get("id") or answer.json.get("reference") for answer in answers]
            self.commits.append(Both(*ids))

    def number(self) -> dict[str, Any]:
        """Message and metadata that no other commit has, so that no two commits have one id."""
        self.counter += 1
        return {"message": f"commit {self.counter}", "metadata": {"number": str(self.counter)}}

    def ref(self, data: st.DataObject) -> str | Both:
        """Any way to name a commit, now and then one that is not there."""
        plain: st.SearchStrategy[str | Both] = st.one_of(branches, tags, st.just("nowhere"))
        if self.commits:
            plain = st.one_of(plain, st.sampled_from(self.commits))
        chosen = data.draw(plain, "ref")
        suffix = data.draw(st.sampled_from(("", "", "", "~1", "~2", "^1", "^2", "@")), "suffix")
        if isinstance(chosen, Both):
            suffix = "" if suffix == "@" else suffix
            return Both(chosen.embedded + suffix, chosen.real + suffix)
        return chosen + suffix

    def one_of_these(self, data: st.DataObject, label: str) -> str:
        """A branch that is there."""
        return data.draw(st.sampled_from(sorted(self.there)), label)

    def fork(self, branch: str, source: str | Both) -> None:
        answers = self.call("POST", "/branches", json={"name": branch, "source": source})
        if answers[0].status == 201:
            self.there.add(branch)

    # ------------------------------------------------------------------ objects

    @rule(branch=branches, key=keys, content=contents)
    def upload(self, branch: str, key: str, content: bytes) -> None:
        headers = {"Content-Type": "text/plain"}
        self.call(
            "POST", "/branches/{branch}/objects", branch=branch, query={"path": key}, body=content, headers=headers
        )

    @rule(data=st.data(), tree=trees, gone=st.lists(keys, max_size=3))
    def work(self, data: st.DataObject, tree: dict[str, bytes], gone: list[str]) -> None:
        """What a person does between two merges: several files, and a commit."""
        self.publish(self.one_of_these(data, "branch"), tree, gone)

    def publish(self, branch: str, tree: dict[str, bytes], gone: list[str]) -> None:
        for key in gone:
            self.delete(branch, key)
        for key, content in tree.items():
            self.upload(branch, key, content)
        self.commit(branch, empty=False)

    @rule(branch=branches, key=keys)
    def delete(self, branch: str, key: str) -> None:
        self.call("DELETE", "/branches/{branch}/objects", branch=branch, query={"path": key})

    @rule(branch=branches, chosen=st.lists(keys, min_size=1, max_size=4))
    def delete_batch(self, branch: str, chosen: list[str]) -> None:
        self.call("POST", "/branches/{branch}/objects/delete", branch=branch, json={"paths": chosen})

    @rule(data=st.data(), key=keys)
    def read(self, data: st.DataObject, key: str) -> None:
        ref = self.ref(data)
        self.call("GET", "/refs/{ref}/objects", ref=ref, query={"path": key})
        self.call("GET", "/refs/{ref}/objects/stat", ref=ref, query={"path": key})

    @rule(data=st.data(), page=pages)
    def listing(self, data: st.DataObject, page: dict[str, Any]) -> None:
        self.call("GET", "/refs/{ref}/objects/ls", ref=self.ref(data), query=page)

    # ------------------------------------------------------------ branches, tags

    @rule(data=st.data(), branch=branches)
    def create_branch(self, data: st.DataObject, branch: str) -> None:
        self.fork(branch, self.ref(data))

    @rule(branch=st.sampled_from(BRANCHES[1:]))
    def delete_branch(self, branch: str) -> None:
        self.call("DELETE", "/branches/{branch}", branch=branch)
        self.there.discard(branch)

    @rule(branch=branches, key=keys, kind=st.sampled_from(("reset", "object", "common_prefix")))
    def reset(self, branch: str, key: str, kind: str) -> None:
        body = {"type": kind} if kind == "reset" else {"type": kind, "path": key}
        self.call("PUT", "/branches/{branch}", branch=branch, json=body)

    @rule(data=st.data(), tag=tags)
    def create_tag(self, data: st.DataObject, tag: str) -> None:
        self.call("POST", "/tags", json={"id": tag, "ref": self.ref(data)})

    @rule(tag=tags)
    def delete_tag(self, tag: str) -> None:
        self.call("DELETE", "/tags/{tag}", tag=tag)

    @rule(kind=st.sampled_from(("branches", "tags")), amount=amounts, prefix=st.sampled_from(("", "m", "v", "side")))
    def names(self, kind: str, amount: int, prefix: str) -> None:
        self.call("GET", f"/{kind}", query={"amount": amount, "prefix": prefix})

    # ------------------------------------------------------------------- history

    @rule(branch=branches, empty=st.booleans())
    def commit(self, branch: str, empty: bool) -> None:
        body = self.number() | ({"allow_empty": True} if empty else {})
        # Before a commit lakeFS reads the branch's action files, and remembers them for some seconds: only where it has
        # forgotten them does it miss a branch at that step, in the words of a hook.
        path = "/branches/{branch}/commits"
        self.history("POST", path, branch=branch, json=body, missing_in_any_words=True)

    @rule(
        data=st.data(),
        into=branches,
        strategy=st.sampled_from(("", "", "dest-wins", "source-wins")),
        squash=st.booleans(),
    )
    def merge(self, data: st.DataObject, into: str, strategy: str, squash: bool) -> None:
        options = ({"strategy": strategy} if strategy else {}) | ({"squash_merge": True} if squash else {})
        self.merged(self.ref(data), into, options)

    @rule(data=st.data())
    def merge_branch(self, data: st.DataObject) -> None:
        self.merged(self.one_of_these(data, "source"), self.one_of_these(data, "into"), {})

    @rule(data=st.data(), on_head=st.booleans(), empty=st.booleans())
    def publish_fenced(self, data: st.DataObject, on_head: bool, empty: bool) -> None:
        """A merge that names the head that it expects: the one that is there, or any."""
        source, into = self.one_of_these(data, "source"), self.one_of_these(data, "into")
        heads = self.pair.ask(
            "GET", "/repositories/{repository}/branches/{branch}", repository=self.repository, branch=into
        )
        expected = Both(*(answer.json.get("commit_id", "none") for answer in heads))
        if not on_head and self.commits:
            expected = data.draw(st.sampled_from(self.commits), "expected")
        metadata = self.number()["metadata"] | {EXPECTED_HEAD: expected}
        self.merged(source, into, {"metadata": metadata, "allow_empty": empty})

    @rule(data=st.data(), there=st.booleans())
    def change_fence(self, data: st.DataObject, there: bool) -> None:
        """Put the publish fence on a branch, or take it away."""
        self.fence(self.one_of_these(data, "branch"), there)

    def fence(self, branch: str, there: bool) -> None:
        if there:
            self.upload(branch, FENCE_PATH, FENCE_TEXT.encode())
        else:
            self.delete(branch, FENCE_PATH)
        self.commit(branch, empty=False)

    def merged(self, source: str | Both, into: str, options: dict[str, Any]) -> None:
        """A merge, and a look at the tree that it made."""
        path = "/refs/{source}/merge/{target}"
        self.history("POST", path, source=source, target=into, json=self.number() | options)
        self.call("GET", "/refs/{ref}/objects/ls", ref=f"{into}@", query={"amount": 1000})

    @rule(data=st.data(), branch=branches, parent=st.integers(0, 2))
    def revert(self, data: st.DataObject, branch: str, parent: int) -> None:
        body = {"ref": self.ref(data), "parent_number": parent, "commit_overrides": self.number()}
        self.history("POST", "/branches/{branch}/revert", branch=branch, json=body)

    @rule(data=st.data(), branch=branches)
    def cherry_pick(self, data: st.DataObject, branch: str) -> None:
        body = {"ref": self.ref(data), "commit_overrides": self.number()}
        self.history("POST", "/branches/{branch}/cherry-pick", branch=branch, json=body)

    @rule(data=st.data(), amount=amounts, first_parent=st.booleans())
    def log(self, data: st.DataObject, amount: int, first_parent: bool) -> None:
        query = {"amount": amount, "first_parent": str(first_parent).lower()}
        self.call("GET", "/refs/{ref}/commits", ref=self.ref(data), query=query)

    @rule(data=st.data(), kind=st.sampled_from(("two_dot", "three_dot")), page=pages)
    def diff(self, data: st.DataObject, kind: str, page: dict[str, Any]) -> None:
        left, right = self.ref(data), self.ref(data)
        self.call("GET", "/refs/{left}/diff/{right}", left=left, right=right, query={"type": kind, **page})

    @rule(branch=branches, page=pages)
    def staged(self, branch: str, page: dict[str, Any]) -> None:
        self.call("GET", "/branches/{branch}/diff", branch=branch, query=page)

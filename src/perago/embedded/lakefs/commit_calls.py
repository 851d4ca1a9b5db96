"""The modelled server's calls about commits: compare, list, make, undo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perago.embedded.lakefs import comparing, publishing
from perago.embedded.lakefs.comparing import LogQuery
from perago.embedded.lakefs.errors import Invalid, Missing
from perago.embedded.lakefs.graph import CommitRecord
from perago.embedded.lakefs.names import SHOULD_BE_A_COMMIT, check_ref
from perago.embedded.lakefs.publishing import MergeOptions, Overrides
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.values import ActionRun, Difference, MergeBase, Page, page_of


class CommitCalls(ServerState):
    """Diffs, logs, commits, merges, reverts, cherry-picks, and what the hooks did in them."""

    def diff_branch(
        self, repository: str, branch: str, *, prefix: str = "", after: str = "", delimiter: str = "", amount: int = -1
    ) -> Page[Difference]:
        """One page of a branch's uncommitted changes."""
        with self._open(repository) as repo:
            found = comparing.diff_staged(repo, branch)
        return comparing.page_of_differences(found, prefix=prefix, after=after, delimiter=delimiter, amount=amount)

    def diff_refs(
        self,
        repository: str,
        left: str,
        right: str,
        *,
        two_dot: bool = False,
        prefix: str = "",
        after: str = "",
        delimiter: str = "",
        amount: int = -1,
    ) -> Page[Difference]:
        """One page of the differences of two refs: from their merge base, or directly with `two_dot`."""
        with self._open(repository) as repo:
            found = comparing.diff_refs(repo, left, right, two_dot=two_dot)
        return comparing.page_of_differences(found, prefix=prefix, after=after, delimiter=delimiter, amount=amount)

    def find_merge_base(self, repository: str, source: str, destination: str) -> MergeBase:
        """What a merge of `source` into `destination` would compare; lakeFS answers with the two swapped."""
        check_ref(destination, "destination")
        check_ref(source, "source")
        with self._open(repository) as repo:
            return comparing.merge_base(repo, destination, source)

    def get_commit(self, repository: str, ref: str) -> CommitRecord:
        """The commit that a ref points at.

        Raises:
            Missing: unknown repository or ref.
            Invalid: not a commit.
        """
        with self._open(repository) as repo:
            try:
                return repo.resolve_commit(ref, SHOULD_BE_A_COMMIT)
            except Missing:
                raise Missing("commit not found") from None

    def log(
        self,
        repository: str,
        ref: str,
        query: LogQuery | None = None,
        *,
        first_parent: bool = False,
        after: str = "",
        stop_at: str = "",
    ) -> Iterator[CommitRecord]:
        """The history of `ref`, newest first, as far as it is consumed; `query` says it all, else the single words do.

        Raises:
            Missing, Invalid: one of the refs is not a commit.
        """
        wanted = query or LogQuery(first_parent=first_parent, after=after, stop_at=stop_at)
        with self._open(repository) as repo:
            return comparing.log(repo, ref, wanted)

    def first_parents(self, repository: str, ref: str) -> Iterator[CommitRecord]:
        """The first-parent history, newest first, as far as it is consumed."""
        with self._open(repository) as repo:
            return repo.graph.first_parents(comparing.resolve_for_log(repo, ref, "ref"))

    def commit(
        self,
        repository: str,
        branch: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
        *,
        allow_empty: bool = False,
        date: int | None = None,
        force: bool = False,
    ) -> CommitRecord:
        """Commit what is staged on `branch`; see `publishing.commit`."""
        signature = self._signature(date)
        with self._open_to_write(repository, force) as repo:
            return publishing.commit(repo, branch, message, metadata or {}, signature, allow_empty=allow_empty)

    def merge(
        self,
        repository: str,
        source: str,
        branch: str,
        message: str = "",
        metadata: Mapping[str, str] | None = None,
        options: MergeOptions | None = None,
    ) -> CommitRecord:
        """Merge `source` into `branch`; see `publishing.merge`."""
        chosen = options or MergeOptions()
        check_ref(source, "source")
        with self._open_to_write(repository, chosen.force) as repo:
            return publishing.merge(
                repo, source, branch, message, metadata or {}, chosen, self._signature(), self._hooks
            )

    def revert(
        self,
        repository: str,
        branch: str,
        ref: str,
        *,
        parent_number: int = 0,
        overrides: Overrides | None = None,
        allow_empty: bool = False,
        force: bool = False,
    ) -> CommitRecord:
        """Undo the commit `ref` on `branch`; see `publishing.revert`."""
        publishing.check_revert(branch, ref, parent_number)
        signature, words = self._signature(), overrides or Overrides()
        with self._open_to_write(repository, force) as repo:
            return publishing.revert(repo, branch, ref, parent_number, words, signature, allow_empty=allow_empty)

    def cherry_pick(
        self,
        repository: str,
        branch: str,
        ref: str,
        *,
        parent_number: int | None = None,
        overrides: Overrides | None = None,
        force: bool = False,
    ) -> CommitRecord:
        """Repeat the commit `ref` on `branch`; see `publishing.cherry_pick`."""
        publishing.check_cherry_pick(branch, ref, parent_number)
        signature, words = self._signature(), overrides or Overrides()
        with self._open_to_write(repository, force) as repo:
            return publishing.cherry_pick(repo, branch, ref, parent_number, words, signature)

    # ------------------------------------------------------------------- hooks

    def list_runs(
        self, repository: str, *, branch: str = "", commit: str = "", after: str = "", amount: int = -1
    ) -> Page[ActionRun]:
        """One page of what the actions did, newest first, by branch or by commit.

        Raises:
            Invalid: both a branch and a commit.
        """
        with self._open(repository) as repo:
            found = sorted(repo.runs, key=lambda run: run.id)
        if branch and commit:
            raise Invalid("can't use both branchID and MergedCommitID: parameters conflict")
        shown = (
            run for run in found if run.id > after and branch in ("", run.branch) and commit in ("", run.commit_id)
        )
        return page_of(shown, lambda run: run.id, amount)

    def get_run(self, repository: str, run_id: str) -> ActionRun | None:
        """One run of the actions, or None."""
        with self._open(repository) as repo:
            return next((run for run in repo.runs if run.id == run_id), None)

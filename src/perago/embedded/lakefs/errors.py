"""What the modelled server answers when it says no, with the status and the words of the real one.

`perago.embedded.lakefs.store` turns these into the port's errors, `perago.embedded.http.lakefs` into HTTP answers.
"""

from __future__ import annotations


class LakeFSError(Exception):
    """A refusal. `status` is the HTTP status, `message` the text of the JSON body (`docs/servers/lakefs.md` 2)."""

    status: int = 500
    usual = ""
    """The words unless others are given."""

    def __init__(self, message: str = "", status: int | None = None) -> None:
        self.message = message or self.usual
        super().__init__(self.message)
        self.status = self.status if status is None else status

    def within(self, context: str) -> LakeFSError:
        """The same refusal, with the words that an outer operation puts in front."""
        return type(self)(f"{context}: {self.message}", self.status)


class Missing(LakeFSError):
    """No such repository, branch, ref or object."""

    status = 404


class Invalid(LakeFSError):
    """An argument that the server does not accept."""

    status = 400


class ImpossibleName(Invalid):
    """Nothing can have this name."""


class Forbidden(LakeFSError):
    """Deleting a default branch, or writing to a read-only repository."""

    status = 403


class ReadOnly(Forbidden):
    """A write to a read-only repository that is not forced."""

    usual = "read-only repository"


class Exists(LakeFSError):
    """The name is taken."""

    status = 409


class Conflict(LakeFSError):
    """Both sides of a merge changed one path, or a merge commit is reverted without a parent number."""

    status = 409


class NoChanges(LakeFSError):
    """Nothing to commit or to merge."""

    status = 400


class Dirty(LakeFSError):
    """The target of a merge, revert or cherry-pick has uncommitted changes."""

    status = 400
    usual = "uncommitted changes (dirty branch)"


class PathExists(LakeFSError):
    """An upload with `If-None-Match: *` on a path that is taken."""

    status = 412
    usual = "path already exists"


class HookAborted(LakeFSError):
    """A pre-merge hook refused the merge."""

    status = 412


class NotModelled(LakeFSError, NotImplementedError):
    """lakeFS can do this, the model cannot. It says so instead of pretending."""

    status = 501

    def __init__(self, call: str) -> None:
        super().__init__(f"the embedded lakeFS does not model {call}; use a real server for it")
        self.call = call

    def __reduce__(self) -> tuple[type[NotModelled], tuple[str]]:
        return (type(self), (self.call,))

    def within(self, context: str) -> LakeFSError:  # noqa: ARG002 - the call has been named already
        return self


class ActionNotRun(UserWarning):
    """A merge passed although its source holds an action file that the real server would run, and the model did not."""


class ServerDivergence(UserWarning):
    """The real server would lose or overwrite a file in this three-way merge; the model does not.

    lakeFS looks the base entry up by "next key", so a new file with the content of the next base key is mistaken for
    an unchanged one (`docs/servers/lakefs.md` 1.7). A run that depends on such a merge behaves differently in
    production.
    """

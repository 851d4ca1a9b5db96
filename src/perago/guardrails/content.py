"""Rules about what is in the files. They need the files on a disk; all other rules need a listing only."""

from __future__ import annotations

from abc import abstractmethod

from perago.authoring import WorkspaceSpec
from perago.authoring.guardrails import Guardrail, Verdict
from perago.workspace.scan import Tree


class GuardrailDefect(Exception):
    """A guardrail could not judge: it is wrong itself, or something that it needs is not there. The data is not to
    blame."""

    def __init__(self, message: str, *, detail: str | None = None, has_changed_the_tree: bool = False) -> None:
        """`message` follows the guardrail's name and says what happened, and where; `detail` is for the log."""
        super().__init__(message)
        self.detail = detail
        self.has_changed_the_tree = has_changed_the_tree


class ContentGuardrail(Guardrail):
    """A rule about the contents of files. `evaluate` still judges what a listing shows, such as a file that is not
    there; `look_into` judges the rest, and is asked only if all rules of the phase hold for the listing."""

    __slots__ = ()

    @abstractmethod
    def look_into(self, tree: Tree) -> Verdict:
        """Whether the rule holds for the files on the disk.

        Args:
            tree: the scan of the workspace, which is at `tree.root`.

        Raises:
            GuardrailDefect: it cannot tell.
            OSError: the disk refused.
        """

    @abstractmethod
    def reads(self, path: str) -> bool:
        """Whether the contents of the file at `path` matter."""

    def missing(self) -> tuple[str, str] | None:
        """What the rule needs on this machine and does not find, in words, and the command that installs it."""
        return None


def missing_of(workspace: WorkspaceSpec | None) -> list[tuple[str, str]]:
    """The same for all rules of a workspace, each once."""
    rules = (*workspace.pre, *workspace.post) if workspace else ()
    found = (rule.missing() for rule in rules if isinstance(rule, ContentGuardrail))
    return list(dict.fromkeys(each for each in found if each))

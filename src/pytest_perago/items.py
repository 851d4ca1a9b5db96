"""The pytest items of generated tests."""

from __future__ import annotations

import os
from typing import Any

import pytest

from perago.authoring import Task
from perago.testing.failures import CaseFailed
from pytest_perago.cases import Case, Location, call_with_fixtures
from pytest_perago.options import HARNESS_ERROR, OPT_OUT
from pytest_perago.project import project_of
from pytest_perago.rerun import rerun_command


class CaseItem(pytest.Function):
    """A case as a test function. Fixtures, marks, xdist and editors treat it like a written one."""

    def __init__(
        self,
        name: str,
        parent: pytest.Collector,
        *,
        case: Case,
        owner: str,
        location: Location,
        output: str = "",
        task: Task | None = None,
    ) -> None:
        self.task = task
        self._case = case
        self._owner = owner
        self._place = location
        super().__init__(name=name, parent=parent, callobj=call_with_fixtures(case))
        if output:
            self.add_report_section("call", "stdout at import", output)
        self._opt_out()

    @classmethod
    def make(
        cls,
        parent: pytest.Collector,
        case: Case,
        owner: str,
        place: Location,
        output: str = "",
        task: Task | None = None,
    ) -> CaseItem:
        """The item of a case; `owner` names the task or, where there is none, the module."""
        item: CaseItem = cls.from_parent(
            parent, name=case.name, case=case, owner=owner, location=case.location or place, output=output, task=task
        )
        return item

    if hasattr(pytest.Item, "id"):

        @property
        def id(self) -> Any:
            """The node id in parts, as newer versions of pytest have it. They read what stands in brackets as
            parameters, and find a failed test again (`--lf`, `--stepwise`) only if the item says so, too."""
            return type(super().id).parse(self.nodeid)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Where the author would look: the task."""
        return self._place.file, self._place.line - 1, f"[perago] {self._owner} {self.name}"

    def runtest(self) -> None:
        """Run the case; what is neither a failed case nor a word of pytest is an error of the harness."""
        try:
            super().runtest()
        except CaseFailed as failure:
            failure.subject = ("module" if self._case.kind == "import" else "task", f"{self._owner} ({self._where()})")
            failure.rerun = rerun_command(self, failure.rerun_options)
            raise
        except Exception:
            self.user_properties.append(HARNESS_ERROR)
            raise

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """A failed case tells its story without any traceback of ours; for a harness error the traceback is needed."""
        if isinstance(excinfo.value, CaseFailed):
            told = excinfo.getrepr(style="value")
            if told.reprcrash is not None:  # what the short summary says in one line
                told.reprcrash.message = excinfo.value.headline
            return told
        shown = super().repr_failure(excinfo, *args, **kwargs)
        if HARNESS_ERROR in self.user_properties and hasattr(shown, "addsection"):
            shown.addsection(
                "harness error",
                f"perago's own test code failed; this says nothing about {self._owner}. Please report it.\n"
                f"rerun: {rerun_command(self)}",
            )
        return shown

    def _where(self) -> str:
        file = self._place.file
        start = self.config.invocation_params.dir
        return f"{os.path.relpath(file, start) if file.is_relative_to(start) else file}:{self._place.line}"

    def _opt_out(self) -> None:
        for opt_out in project_of(self.config).opt_outs:
            if opt_out.covers(self._owner, self.name):
                self.add_marker(pytest.mark.skip(reason=f"perago_skip: {opt_out.reason}"))
                self.user_properties.append((OPT_OUT, opt_out.reason))
                return

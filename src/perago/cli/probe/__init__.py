"""Looking at a task module from a distance: import it in a child process and take its TaskDef, or what went wrong.

The command line itself never imports an author's module. Whatever the module does at import (print, hang, exit,
crash, fork), it does to a child that is thrown away.
"""

from __future__ import annotations

from perago.cli.probe.batch import probe_modules, probing
from perago.cli.probe.report import ModuleProblem, Probed, TaskSummary

__all__ = ["ModuleProblem", "Probed", "TaskSummary", "probe_modules", "probing"]

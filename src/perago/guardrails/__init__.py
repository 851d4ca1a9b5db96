"""The kinds of guardrails, one module each; `docs/dev/adding-a-guardrail.md` shows how to add one.

Each import of a function below registers a kind, so that authors can import it from `perago`, and the tests and the
pytest plugin find it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from perago.authoring.workspace import Guardrail
from perago.guardrails.forbid_glob import forbid_glob as forbid_glob
from perago.guardrails.function_guardrail import guardrail as guardrail
from perago.guardrails.require_dir import require_dir as require_dir
from perago.guardrails.require_file import require_file as require_file
from perago.guardrails.require_glob import require_glob as require_glob
from perago.guardrails.require_table import require_table as require_table

GUARDRAILS: Mapping[str, Callable[..., Guardrail]] = {
    name: value
    for name, value in globals().items()
    if inspect.isfunction(value) and value.__module__ == f"{__name__}.{name}"
}
"""The functions with which authors declare rules about paths, by name; `guardrail` makes rules of other functions."""

"""`perago extract`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from perago.atomic_file import replace_file
from perago.cli import messages
from perago.cli.loading import load_tasks
from perago.cli.parameters import IMPORT_LIMIT, Modules, Timeout
from perago.failure import Failure

EXAMPLES = """\b
Examples:
  perago extract my_tasks.features
  perago extract my_tasks.features --output features.json
  perago extract my_tasks.features --register-list |
    curl -H 'Content-Type: application/json' -d @- $URL/metadata/taskdefs"""


def command(
    modules: Modules,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to FILE, in full or not at all.")
    ] = None,
    register_list: Annotated[
        bool, typer.Option("--register-list", help="Print a list, as Conductor's register call expects it.")
    ] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Write the TaskDef of a task module as JSON, or a list of TaskDefs if there are several.

    A package means all task modules below it. The same modules always give the same bytes, so you can keep the file
    under version control. Output of a module during its import goes to standard error.
    """
    tasks = load_tasks(modules, timeout, packages=True)
    text = tasks[0].definition
    if register_list or len(tasks) > 1:
        text = json.dumps([json.loads(task.definition) for task in tasks], indent=2, ensure_ascii=False) + "\n"
    if output is None or output == Path("-"):
        sys.stdout.buffer.write(text.encode())
        return
    try:
        if output.exists() and not output.is_file():  # a device or a pipe; a directory refuses the write
            output.write_bytes(text.encode())
        else:
            replace_file(output.resolve(), text.encode())  # replace the target of a symlink, not the link
    except OSError as error:
        raise Failure(f"cannot write {output}: {error.strerror}") from error
    messages.note(f"wrote the TaskDef of {', '.join(task.name for task in tasks)} to {output}")

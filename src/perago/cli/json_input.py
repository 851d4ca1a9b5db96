"""JSON that is given on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer

_KINDS: dict[type, str] = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}


def read_object(text: str) -> dict[str, Any]:
    """The JSON object in `text`, in the file of `@FILE`, or on standard input for `-`.

    Raises:
        typer.BadParameter: it cannot be read, or is something else. The message never repeats the content.
    """
    try:
        if text == "-":
            source, content = "standard input", sys.stdin.buffer.read()
        elif text.startswith("@"):
            source, content = text[1:], Path(text[1:]).read_bytes()
        else:
            source, content = "it", text.encode()
        value = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except OSError as error:
        raise _wrong(f"cannot read the file {text[1:]!r}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise _wrong(f"{source} is not UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise _wrong(f"{source} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise _wrong(f"{source} must be a JSON object, not {_KINDS.get(type(value), 'null')}.")
    return value


def _wrong(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="'--params'")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")

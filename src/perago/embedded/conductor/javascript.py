"""The small part of JavaScript in which loop conditions, switches and INLINE tasks are usually written.

Statements: expressions and `if (...) {...} else {...}`; the value of a script is that of its last expression.
Expressions: `$` and its members, literals, `! -`, `* / % + -`, comparisons, `&&`, `||`, `?:`, parentheses. Anything
else raises `NotImplementedError`, at the registration of a definition already, and names the script.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perago.embedded.conductor.jsvalues import (
    UNDEFINED,
    ScriptError,
    loosely_equal,
    member,
    normal,
    number,
    special,
    strictly_equal,
    text,
    truthy,
)

__all__ = ["Script", "ScriptError", "truthy"]

Node = Callable[[Any], Any]
"""Evaluates a part of a script, given what `$` stands for."""

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<string>'(?:[^'\\\n]|\\['"\\])*'|"(?:[^"\\\n]|\\['"\\])*")
      | (?P<word>[A-Za-z_$][\w$]*)
      | (?P<sign>===|!==|==|!=|<=|>=|&&|\|\||[-+*/%<>!?:;.(){}\[\]])
    )""",
    re.VERBOSE,
)

_ESCAPE = re.compile(r"\\(.)")

_CONSTANTS = {"true": True, "false": False, "null": None, "undefined": UNDEFINED}

_LEVELS: tuple[tuple[str, ...], ...] = (("==", "!=", "===", "!=="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
"""The operators of two values, the loosest first."""


class Script:
    """One script, read once.

    Raises:
        NotImplementedError: it uses more of the language than this model has.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = _tokens(source)
        self._position = 0
        self._run = self._statements(until="")
        if self._position < len(self._tokens):
            raise _refusal(source)

    def evaluate(self, visible: Mapping[str, Any]) -> Any:
        """Its value as JSON, with `visible` as `$`.

        Raises:
            ScriptError: it failed.
        """
        value = self._run(visible)
        if value is UNDEFINED:
            return None
        if isinstance(value, float):
            return normal(value) if math.isfinite(value) else special(value)
        return value

    # ---------------------------------------------------------------- reading

    def _take(self, *signs: str) -> str | None:
        """The next token, if it is one of these."""
        if self._position < len(self._tokens) and self._tokens[self._position] in signs:
            self._position += 1
            return self._tokens[self._position - 1]
        return None

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise _refusal(self._source)

    def _next(self) -> str:
        if self._position == len(self._tokens):
            raise _refusal(self._source)
        self._position += 1
        return self._tokens[self._position - 1]

    def _statements(self, until: str) -> Node:
        nodes: list[Node] = []
        while self._position < len(self._tokens) and self._tokens[self._position] != until:
            if self._take(";") is None:
                nodes.append(self._statement())
        return lambda visible: _last(nodes, visible)

    def _statement(self) -> Node:
        if self._take("{"):
            body = self._statements(until="}")
            self._expect("}")
            return body
        if self._take("if"):
            return self._condition()
        node = self._expression()
        if self._position < len(self._tokens) and self._tokens[self._position] not in (";", "}", "else"):
            raise _refusal(self._source)
        return node

    def _condition(self) -> Node:
        self._expect("(")
        test = self._expression()
        self._expect(")")
        then = self._statement()
        self._take(";")
        otherwise = self._statement() if self._take("else") else _nothing
        return lambda visible: then(visible) if truthy(test(visible)) else otherwise(visible)

    def _expression(self) -> Node:
        test = self._either()
        if not self._take("?"):
            return test
        then = self._expression()
        self._expect(":")
        otherwise = self._expression()
        return lambda visible: then(visible) if truthy(test(visible)) else otherwise(visible)

    def _either(self) -> Node:
        nodes = [self._both()]
        while self._take("||"):
            nodes.append(self._both())
        return lambda visible: _first(nodes, visible, wanted=True)

    def _both(self) -> Node:
        nodes = [self._binary(0)]
        while self._take("&&"):
            nodes.append(self._binary(0))
        return lambda visible: _first(nodes, visible, wanted=False)

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        node = self._binary(level + 1)
        while sign := self._take(*_LEVELS[level]):
            node = _operation(sign, node, self._binary(level + 1))
        return node

    def _unary(self) -> Node:
        if self._take("!"):
            operand = self._unary()
            return lambda visible: not truthy(operand(visible))
        if self._take("-"):
            operand = self._unary()
            return lambda visible: -number(operand(visible))
        return self._members()

    def _members(self) -> Node:
        node = self._primary()
        while sign := self._take(".", "["):
            if sign == ".":
                name = self._next()
                if not re.fullmatch(r"[A-Za-z_$][\w$]*", name):
                    raise _refusal(self._source)
                node = _member(node, _constant(name))
            else:
                node = _member(node, self._expression())
                self._expect("]")
        return node

    def _primary(self) -> Node:
        token = self._next()
        if token == "(":  # noqa: S105 - no password
            node = self._expression()
            self._expect(")")
            return node
        if token == "$":  # noqa: S105 - no password
            return lambda visible: visible
        if token in _CONSTANTS:
            return _constant(_CONSTANTS[token])
        if token[0] in "'\"":
            return _constant(_ESCAPE.sub(r"\1", token[1:-1]))
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            return _constant(normal(float(token)))
        raise _refusal(self._source)


def _tokens(source: str) -> Sequence[str]:
    tokens, position = [], 0
    text_to_read = source.rstrip()
    while position < len(text_to_read):
        match = _TOKEN.match(text_to_read, position)
        if match is None:
            raise _refusal(source)
        tokens.append(match[0].strip())
        position = match.end()
    return tokens


def _refusal(source: str) -> NotImplementedError:
    return NotImplementedError(
        f"InMemoryConductor: script {source!r} is not modelled; use $ and its members, literals, comparisons, "
        "arithmetic, && || ! ?: and if/else"
    )


def _constant(value: Any) -> Node:
    return lambda _: value


def _nothing(_: Any) -> Any:
    return UNDEFINED


def _member(node: Node, name: Node) -> Node:
    return lambda visible: member(node(visible), name(visible))


def _last(nodes: Sequence[Node], visible: Any) -> Any:
    value: Any = UNDEFINED
    for node in nodes:
        value = node(visible)
    return value


def _first(nodes: Sequence[Node], visible: Any, *, wanted: bool) -> Any:
    """The first value that is as true as wanted, else the last."""
    value: Any = UNDEFINED
    for node in nodes:
        value = node(visible)
        if truthy(value) is wanted:
            break
    return value


def _operation(sign: str, left: Node, right: Node) -> Node:
    return lambda visible: _apply(sign, left(visible), right(visible))


def _apply(sign: str, left: Any, right: Any) -> Any:
    if sign in ("==", "!="):
        return loosely_equal(left, right) is (sign == "==")
    if sign in ("===", "!=="):
        return strictly_equal(left, right) is (sign == "===")
    if sign in ("<", "<=", ">", ">="):
        return _compare(sign, left, right)
    if sign == "+" and any(isinstance(value, str | Mapping | list) for value in (left, right)):
        return text(left) + text(right)
    return normal(_calculate(sign, number(left), number(right)))


def _compare(sign: str, left: Any, right: Any) -> bool:
    if not (isinstance(left, str) and isinstance(right, str)):
        left, right = number(left), number(right)
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign])


def _calculate(sign: str, left: float, right: float) -> float:
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    if sign == "*":
        return left * right
    if right == 0:
        return math.nan if sign == "%" or left == 0 or math.isnan(left) else math.copysign(math.inf, left)
    return left / right if sign == "/" else math.fmod(left, right)

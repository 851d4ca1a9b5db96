"""The embedded server and a real one, asked the same question."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ...http_answer import Answer
from ..comparing import difference
from ..normal import Normal, Rules
from ..rest import Exchange, Rest
from ..targets import Target, rules

COMPARED: Counter[str] = Counter()
"""How often each operation was compared in this process; what was not compared is not counted."""

DIVERGED: list[str] = []
"""Every divergence of this process: luck need not strike again when a failure is replayed."""

SETTLE_SECONDS = 8.0
"""How long two servers may take until they agree, where one of them works in the background."""
LOOK_SECONDS = 0.02
TOLD = 40
"""How many of the last exchanges that may have changed something a divergence tells."""


class Diverged(AssertionError):
    """The two answered differently."""


@dataclass(frozen=True)
class Both:
    """One thing that the two servers call by different names, such as a commit or a workflow."""

    embedded: str
    real: str


@dataclass
class Pair:
    """A conversation with both. Paths, queries and bodies may hold `Both`s."""

    embedded: Rest
    real: Rest
    names: dict[str, str] = field(default_factory=dict)
    _normals: tuple[Normal, Normal] = field(init=False, repr=False)
    _other: ThreadPoolExecutor = field(init=False, repr=False, default_factory=lambda: ThreadPoolExecutor(1))

    @classmethod
    def of(cls, embedded: Target, real: Target, compared_by: Rules | None = None) -> Pair:
        """A new conversation with two running servers of one kind, compared by the rules of scenarios or by others."""
        pair = cls(Rest(embedded.url, embedded.sleep, embedded.headers), Rest(real.url, real.sleep, real.headers))
        chosen = compared_by or rules(embedded.server)
        pair._normals = (Normal(chosen, pair.names), Normal(chosen, pair.names))
        return pair

    def name(self, label: str, separator: str = "-") -> str:
        """A name that is new on both servers."""
        made = self.embedded.name(label, separator)
        self.names[made] = f"<{label}>"
        return made

    def call(self, method: str, template: str, *, unordered: bool = False, **given: Any) -> tuple[Answer, Answer]:
        """Ask both; the answers of the embedded server and of the real one.

        Raises:
            Diverged: their normalised answers are not the same.
        """
        answers = self.ask(method, template, unordered=unordered, **given)
        self.compare()
        return answers

    def settled(self, method: str, template: str, **given: Any) -> tuple[Answer, Answer]:
        """Ask both until they agree: a server may do some of its work a moment after its answer.

        Raises:
            Diverged: after 8 s they still differ.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        before = self._normals
        while True:
            self._normals = (before[0].copy(), before[1].copy())
            answers = self.ask(method, template, **given)
            if self._difference() is None or time.monotonic() > deadline:
                self._normals = before
                self.compare()
                return answers
            time.sleep(LOOK_SECONDS)

    def ask(self, method: str, template: str, *, unordered: bool = False, **given: Any) -> tuple[Answer, Answer]:
        """Ask both at the same time without comparing, for answers that are known to differ."""
        other = self._other.submit(self.real.call, method, template, unordered=unordered, **_for(given, embedded=False))
        embedded = self.embedded.call(method, template, unordered=unordered, **_for(given, embedded=True))
        return embedded, other.result()

    def compare(self) -> None:
        """Compare the last answers.

        Raises:
            Diverged: they are not the same.
        """
        if different := self._difference():
            DIVERGED.append(f"{different}\n\nWhat came before:\n{self._story()}")
            raise Diverged(DIVERGED[-1])
        COMPARED[self._exchange(self.embedded).operation] += 1

    def _difference(self) -> str | None:
        expected = self._normals[1].exchange(self._exchange(self.real))
        return difference([expected], [self._normals[0].exchange(self._exchange(self.embedded))])

    @staticmethod
    def _exchange(rest: Rest) -> Exchange:
        last = rest.exchanges[-1]
        assert isinstance(last, Exchange)
        return last

    def _story(self) -> str:
        made = [exchange for exchange in self.real.exchanges if isinstance(exchange, Exchange)]
        changes = [
            exchange for exchange in made if not exchange.operation.startswith("GET") or "/poll/" in exchange.operation
        ]
        lines = [
            f"{exchange.answer.status} {exchange.operation} {exchange.path} {dict(exchange.query)} {exchange.body}"
            for exchange in changes
        ]
        return "\n".join(self._normals[1].text(line) for line in lines[-TOLD:])

    def close(self) -> None:
        """Close the connections."""
        self._other.shutdown()
        self.embedded.close()
        self.real.close()


def _for(value: Any, *, embedded: bool) -> Any:
    """A copy in which every `Both` is what one of the servers calls it."""
    if isinstance(value, Both):
        return value.embedded if embedded else value.real
    if isinstance(value, Mapping):
        return {key: _for(item, embedded=embedded) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_for(item, embedded=embedded) for item in value]
    return value


def flagged(caught: list[warnings.WarningMessage]) -> bool:
    """Whether the model said that the real server would lose data here."""
    from perago.embedded.lakefs import ServerDivergence

    return any(issubclass(warning.category, ServerDivergence) for warning in caught)

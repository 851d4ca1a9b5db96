"""Where a delivery stands in a distributed trace, in the terms of W3C Trace Context
(https://www.w3.org/TR/trace-context/). Only known in a worker that sends traces (docs/monitoring.md)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(
    r"(?!ff)(?!00.{54})"  # version ff is not valid, and version 00 has these four fields only
    r"[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<parent>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(-.*)?"
)
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class Trace:
    """The span of one delivery. Ids are lowercase hexadecimal digits: 32 of a trace, 16 of a span."""

    trace_id: str
    span_id: str
    parent_id: str | None = None
    """The span that the workflow was started in; None: nothing tells of one, and the trace begins here."""
    sampled: bool = True
    """Whether the span above is kept. What is below it follows that, unless configured otherwise."""

    @property
    def traceparent(self) -> str:
        """What hands the span on, to the publication and to the function."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def trace_of(workflow_id: str, identity: tuple[str, int, int], traceparent: object) -> Trace:
    """The trace of one delivery.

    Args:
        workflow_id: of the workflow. Without a usable `traceparent` it gives the trace its id, so that all attempts of
            one workflow are in one trace, whichever worker they run on.
        identity: of the delivery. It gives the span its id.
        traceparent: what the workflow was started with. Anything malformed is passed over, as W3C wants it.
    """
    span_id = _digest(":".join(map(str, identity)))[:16]
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if found is None:
        return Trace(_digest(f"perago:{workflow_id}")[:32], span_id)
    return Trace(found["trace"], span_id, found["parent"], sampled=bool(int(found["flags"], 16) & _SAMPLED))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

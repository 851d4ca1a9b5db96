"""Whether `perago start` sends traces and metrics by OpenTelemetry: its own variables say so, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from perago.cli import messages

if TYPE_CHECKING:
    from perago.worker import Listener, WorkerPlan
    from perago.worker.metrics import Metrics

SIGNALS = ("traces", "metrics")
_PROTOCOL = "http/protobuf"
_PACKAGES = "opentelemetry-exporter-otlp-proto-http prometheus-client"


def wanted_signals() -> frozenset[str]:
    """Those of `SIGNALS` that are asked for and can be sent. What stands in the way is said."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    signals = frozenset(filter(_is_wanted, SIGNALS))
    if signals:
        try:
            import perago.worker.telemetry  # noqa: F401
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith(("opentelemetry", "prometheus_client")):
                raise
            messages.warning(f"nothing is sent by OpenTelemetry: {error.name} cannot be found; pip install {_PACKAGES}")
            return frozenset()
        except ValueError as error:  # some settings are looked at that early
            messages.warning(f"nothing is sent by OpenTelemetry: {error}")
            return frozenset()
    return signals


def _is_wanted(signal: str) -> bool:
    """A signal is sent if there is a place to send it to, or if its exporter is asked for by name."""
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporters = set(filter(None, os.environ.get(name, "").replace(" ", "").split(",")))
    if others := exporters - {"otlp", "none"}:
        messages.warning(f"{name}: {', '.join(sorted(others))} is not among what perago can send by: otlp, none")
    if not (("otlp" in exporters) if exporters else _either(signal, "ENDPOINT")):
        return False
    protocol = _either(signal, "PROTOCOL") or _PROTOCOL
    if protocol != _PROTOCOL:
        ports = "collectors listen for it at port 4318"
        messages.warning(
            f"no {signal} are sent: OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, and perago sends {_PROTOCOL}; {ports}"
        )
    return protocol == _PROTOCOL


def _either(signal: str, setting: str) -> str:
    """The setting of this signal, or that of all."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{setting}")
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{setting}", "")


@contextmanager
def telemetry_sent(
    signals: frozenset[str], plan: WorkerPlan, metrics: Metrics | None
) -> Iterator[tuple[Listener, ...]]:
    """Send `signals` inside the block; gives what must listen to the worker. A setting that OpenTelemetry refuses is
    said, and costs the worker nothing but that. What is said of the collector waits for no reader, as all that a worker
    prints."""
    with ExitStack() as sent:
        listeners: list[Listener] = []
        if signals:
            from perago.worker.line_writer import LineWriter
            from perago.worker.logs import missing
            from perago.worker.telemetry import telemetry

            writer = LineWriter(sys.stderr, missing)
            sent.callback(writer.close)

            def say(text: str) -> None:
                writer.write(messages.warning_text(text))

            try:
                listeners = sent.enter_context(telemetry(signals, plan, metrics, say))
                messages.note(f"sending {' and '.join(filter(signals.__contains__, SIGNALS))} by OpenTelemetry")
            except (ValueError, RuntimeError) as error:
                messages.warning(f"nothing is sent by OpenTelemetry: {error}")
        yield tuple(listeners)

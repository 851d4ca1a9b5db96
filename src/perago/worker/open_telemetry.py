"""Send spans and metrics by OpenTelemetry if its own variables ask for that; else nothing of it is imported."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from perago.worker.events import Event, Listener
from perago.worker.logs import LineWriter, terminal_missing
from perago.worker.plan import ExportContext, Notices

SIGNALS = ("traces", "metrics")
_PROTOCOL = "http/protobuf"
_PACKAGE = "opentelemetry-exporter-otlp-proto-http"


def wanted_signals(notices: Notices) -> frozenset[str]:
    """Return those of `SIGNALS` that are asked for and can be sent. Warn of what prevents one."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    signals = frozenset(signal for signal in SIGNALS if _is_wanted(signal, notices))
    if signals:
        try:
            import perago.worker.telemetry  # noqa: F401
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("opentelemetry"):
                raise
            notices.warning(f"nothing is sent by OpenTelemetry: {error.name} cannot be found; pip install {_PACKAGE}")
            return frozenset()
        except ValueError as error:  # some variables are read that early
            notices.warning(f"nothing is sent by OpenTelemetry: {error}")
            return frozenset()
    return signals


def _is_wanted(signal: str, notices: Notices) -> bool:
    """A signal is sent if there is a place to send it to, or if its exporter is asked for by name."""
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporters = set(filter(None, os.environ.get(name, "").replace(" ", "").split(",")))
    if others := exporters - {"otlp", "none"}:
        notices.warning(f"{name}: {', '.join(sorted(others))} is not among what perago can send by: otlp, none")
    if not (("otlp" in exporters) if exporters else _variable(signal, "ENDPOINT")):
        return False
    protocol = _variable(signal, "PROTOCOL") or _PROTOCOL
    if protocol != _PROTOCOL:
        ports = "collectors listen for it at port 4318"
        notices.warning(
            f"no {signal} are sent: OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, and perago sends {_PROTOCOL}; {ports}"
        )
    return protocol == _PROTOCOL


def _variable(signal: str, setting: str) -> str:
    """Return the variable of this signal, or that of all."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{setting}")
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{setting}", "")


@contextlib.contextmanager
def opentelemetry(context: ExportContext) -> Iterator[Listener | None]:
    """Send `context.signals` while a worker runs.

    A variable that OpenTelemetry refuses is warned about, and costs the worker nothing else. Warnings about the
    collector wait for no reader, as everything that a worker prints.
    """
    notices = context.notices
    if not context.signals or notices is None:
        yield None
        return
    from perago.worker.telemetry import telemetry

    with ExitStack() as sent:
        writer = LineWriter(sys.stderr, terminal_missing)
        sent.callback(writer.close)
        listeners: list[Listener] = []
        try:
            warn = notices.warning_text
            listeners = sent.enter_context(
                telemetry(context.signals, context.plan, lambda text: writer.write(warn(text)))
            )
            notices.note(f"sending {' and '.join(filter(context.signals.__contains__, SIGNALS))} by OpenTelemetry")
        except (ValueError, RuntimeError) as error:
            notices.warning(f"nothing is sent by OpenTelemetry: {error}")

        def listener(event: Event) -> None:
            for each in listeners:
                each(event)

        yield listener

"""The settings of exporters: which of them the environment requests, and why some would send nothing.

`perago check` reads them, too. So this module imports an exporter only if the environment requests it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from perago.settings.sources import whole_environment

SIGNALS = ("traces", "metrics")
_PROTOCOL = "http/protobuf"
_PACKAGE = "opentelemetry-exporter-otlp-proto-http"


def wanted_signals(warn: Callable[[str], object]) -> frozenset[str]:
    """Return the `SIGNALS` that are requested and can be sent. `warn` gets the problems."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    signals = frozenset(signal for signal in SIGNALS if _is_wanted(signal, warn))
    if signals:
        try:
            import perago.worker.telemetry  # noqa: F401
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("opentelemetry"):
                raise
            warn(f"OpenTelemetry sends nothing: {error.name} cannot be found; pip install {_PACKAGE}")
            return frozenset()
        except ValueError as error:  # some variables are read that early
            warn(f"OpenTelemetry sends nothing: {error}")
            return frozenset()
    return signals


def _is_wanted(signal: str, warn: Callable[[str], object]) -> bool:
    """A signal is sent if it has an address, or if its exporter is requested by name."""
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporters = set(filter(None, os.environ.get(name, "").replace(" ", "").split(",")))
    if others := exporters - {"otlp", "none"}:
        warn(f"{name}: perago supports otlp and none, not {', '.join(sorted(others))}")
    if not (("otlp" in exporters) if exporters else _variable(signal, "ENDPOINT")):
        return False
    protocol = _variable(signal, "PROTOCOL") or _PROTOCOL
    if protocol != _PROTOCOL:
        rest = f"and perago sends {_PROTOCOL}; collectors listen for it at port 4318"
        warn(f"no {signal} are sent: OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, {rest}")
    return protocol == _PROTOCOL


def _variable(signal: str, setting: str) -> str:
    """Return the variable of this signal, or that of all."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{setting}")
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{setting}", "")


_LINEAGE_FILES = ("openlineage.yml", "~/.openlineage/openlineage.yml")
"""The places in which the client looks for its configuration file."""


def wants_lineage(environment: Mapping[str, str]) -> bool:
    """Whether the variables or a configuration file of OpenLineage name a receiver."""
    if environment.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    names = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
    return (
        any(environment.get(name) for name in names)
        or any(name.startswith("OPENLINEAGE__TRANSPORT") for name in environment)
        or any(Path(place).expanduser().is_file() for place in _LINEAGE_FILES)
    )


def exporter_problems() -> tuple[str, ...]:
    """Return why a worker with this environment sends less than it requests. Connects to nothing."""
    problems: list[str] = []
    wanted_signals(problems.append)
    if wants_lineage(whole_environment()):
        from perago.worker.lineage import lineage_problem

        problems.append(lineage_problem())
    return tuple(filter(None, problems))

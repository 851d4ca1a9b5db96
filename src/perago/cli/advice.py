"""What to do about a service that does not let us in: where it was looked for, and which variables say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perago.ports import ServiceError

_CREDENTIALS = {
    "Conductor": "CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET",
    "lakeFS": "LAKECTL_CREDENTIALS_ACCESS_KEY_ID and LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
}


def advice(error: ServiceError) -> str:
    """One line for the message about `error`; empty where there is nothing to advise."""
    from perago.ports import AccessDenied, Unavailable

    where = _address(error.service)
    if error.service == "Conductor" and where and not where.endswith("/api") and "404" in error.detail:
        return f"the address of Conductor's API usually ends in /api: {where}"
    if not where:
        return ""
    if isinstance(error, AccessDenied):
        return f"check {_CREDENTIALS[error.service]}, and that they belong to {where}"
    if isinstance(error, Unavailable):
        return f"check that the server runs, and that it is the right one: {where}"
    return ""


def _address(service: str) -> str:
    """`VARIABLE=url` of a configured service. The configuration was valid, or nobody would have been asked."""
    from perago.settings import ConfigurationError, load_settings

    try:
        settings = load_settings()
    except ConfigurationError:
        return ""
    if service == "Conductor" and settings.conductor is not None:
        return f"CONDUCTOR_SERVER_URL={settings.conductor.server_url}"
    if service == "lakeFS" and settings.lakefs is not None:
        return f"LAKECTL_SERVER_ENDPOINT_URL={settings.lakefs.endpoint_url}"
    return ""

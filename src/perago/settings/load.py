"""From variables to `Settings`: read, validate, and report every problem at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from perago.settings.errors import ConfigurationError, Problem
from perago.settings.roots import LOG_ROOT, WORKSPACE_ROOT, default_log_root, default_workspace_root
from perago.settings.sources import Sources, read_sources
from perago.settings.values import ConductorSettings, LakeFSSettings, Settings
from perago.settings.variables import VARIABLES, Variables, is_readable_by_others

_CONDUCTOR_CREDENTIALS = ("CONDUCTOR_AUTH_KEY", "CONDUCTOR_AUTH_SECRET")
_LAKEFS = (
    "LAKECTL_SERVER_ENDPOINT_URL",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
)


def load() -> Settings:
    """See `perago.settings.load_settings`."""
    sources = read_sources()
    problems = [*sources.dotenv.problems]
    variables: Variables | None = None
    try:
        variables = Variables(**_known(sources.values))
    except ValidationError as error:
        problems += _value_problems(error, sources)
    problems += _group_problems(_CONDUCTOR_CREDENTIALS, sources)
    problems += _group_problems(_LAKEFS, sources)
    problems += _default_root_problems(sources)
    if variables is None or problems:
        raise ConfigurationError(problems) from None
    return _settings(variables, (*_unknown_variables(sources), *_plain_endpoints(variables, sources)))


def _known(values: Mapping[str, str]) -> dict[str, Any]:
    return {name: values[name] for name in VARIABLES if name in values}


def _value_problems(error: ValidationError, sources: Sources) -> Iterator[Problem]:
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0])
        cause = detail.get("ctx", {}).get("error", detail["msg"])
        message, _, fix = str(cause).partition("; ")
        yield Problem(name, sources.origin(name), message, f"{fix[:1].upper()}{fix[1:]}." if fix else "")


def _group_problems(group: Iterable[str], sources: Sources) -> Iterator[Problem]:
    """Variables of a group that are missing while others of it are set."""
    present = [name for name in group if sources.origin(name)]
    if not present:
        return
    for name in group:
        if name not in present:
            others = " and ".join(f"{other} ({sources.origin(other)})" for other in present)
            verb = "is" if len(present) == 1 else "are"
            yield Problem(name, "", f"not set, but {others} {verb}", "Set all of them or none.")


def _default_root_problems(sources: Sources) -> Iterator[Problem]:
    for variable, default in ((WORKSPACE_ROOT, default_workspace_root), (LOG_ROOT, default_log_root)):
        if not sources.origin(variable):
            try:
                default()
            except ConfigurationError as error:
                yield from error.details


def _unknown_variables(sources: Sources) -> Iterator[str]:
    for name in sorted(sources.values):
        if name.startswith("PERAGO_") and name not in VARIABLES:
            close = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.8)
            advice = f" Did you mean {close[0]}?" if close else ""
            yield f"{name} ({sources.origin(name)}): perago knows no such variable and ignores it.{advice}"


def _plain_endpoints(variables: Variables, sources: Sources) -> Iterator[str]:
    """Addresses to which credentials travel in the clear, where others may read along."""
    found = (
        ("CONDUCTOR_SERVER_URL", variables.conductor_server_url, variables.conductor_auth_secret),
        ("LAKECTL_SERVER_ENDPOINT_URL", variables.lakefs_endpoint_url, variables.lakefs_secret_access_key),
    )
    for name, url, secret in found:
        if url is not None and secret is not None and is_readable_by_others(url):
            yield (
                f"{name} ({sources.origin(name)}): the credentials go to {urlsplit(url).hostname} without encryption. "
                "Use https:// unless the network is trusted."
            )


def _settings(variables: Variables, warnings: tuple[str, ...]) -> Settings:
    return Settings(
        conductor=_conductor(variables),
        lakefs=_lakefs(variables),
        workspace_root=variables.workspace_root or default_workspace_root(),
        log_root=variables.log_root or default_log_root(),
        log_file_max_size=variables.log_file_max_size,
        log_retention=variables.log_retention,
        log_format=variables.log_format,
        log_files=variables.log_files,
        worker_id_prefix=variables.worker_id_prefix,
        worker_id=variables.worker_id,
        publish_fence=variables.publish_fence,
        shutdown_grace=variables.shutdown_grace,
        transfer_threads=variables.transfer_threads,
        max_result_bytes=variables.max_result_bytes,
        max_workspace_bytes=variables.max_workspace_bytes,
        max_workspace_objects=variables.max_workspace_objects,
        cache_max_bytes=variables.cache_max_bytes,
        allowed_workspaces=variables.allowed_workspaces,
        maintenance=variables.maintenance,
        warnings=warnings,
    )


def _conductor(variables: Variables) -> ConductorSettings | None:
    if variables.conductor_server_url is None:
        return None
    return ConductorSettings(
        variables.conductor_server_url, variables.conductor_auth_key, variables.conductor_auth_secret
    )


def _lakefs(variables: Variables) -> LakeFSSettings | None:
    url, key, secret = (
        variables.lakefs_endpoint_url,
        variables.lakefs_access_key_id,
        variables.lakefs_secret_access_key,
    )
    return None if url is None or key is None or secret is None else LakeFSSettings(url, key, secret)

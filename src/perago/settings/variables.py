"""The variables that perago reads: how each is declared, parsed, loaded and shown.

docs/configuration.md explains each. The messages never repeat a value: it may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from perago.secret_names import looks_secret
from perago.settings.roots import LOG_ROOT, WORKSPACE_ROOT, default_log_root, default_workspace_root
from perago.settings.sources import ConfigurationError, Problem, Sources, configured_mask, read_sources
from perago.settings.values import (
    ALL_UPKEEP,
    ConductorSettings,
    LakeFSSettings,
    LogFormat,
    PublishFence,
    Settings,
    Upkeep,
)

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([KMG]i?B)", re.IGNORECASE)
_FACTORS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_DAYS = re.compile(r"([0-9]+)\s*d", re.IGNORECASE)
_MOST_DAYS = 36_500

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(ms|s|m|h)", re.IGNORECASE)
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([smhd])", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MOST_SECONDS = 7 * 24 * 3600.0


def parse_size(text: str) -> int:
    """Bytes in `text`: a number with KB, MB, GB, KiB, MiB or GiB; decimals and inner blanks are fine.

    A bare number is refused, because it does not tell which unit was meant.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a size; write a number with KB, MB, GB, KiB, MiB or GiB, such as 100MB or 1.5 GiB")
    size = int(float(match[1]) * _FACTORS[match[2].lower()])
    if size < 1:
        raise ValueError("smaller than one byte; write a size such as 100MB")
    return size


def parse_bytes(text: str) -> int:
    """Bytes in `text`: a whole number (the variable's name says bytes), or a size with its unit."""
    stripped = text.strip()
    if re.fullmatch(r"[0-9]{1,18}", stripped) is None:
        try:
            return parse_size(stripped)
        except ValueError:
            raise ValueError("not a number of bytes; write one such as 1048576, or a size such as 1MiB") from None
    if int(stripped) < 1:
        raise ValueError("must be at least 1")
    return int(stripped)


def parse_limit(text: str) -> int:
    """Bytes in `text` as `parse_bytes` reads them, or 0."""
    return 0 if re.fullmatch(r"0+", text.strip()) else parse_bytes(text)


def parse_days(text: str) -> int:
    """Days in `text`: a whole number followed by `d`."""
    match = _DAYS.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a number of days; write whole days such as 30d")
    if not 1 <= len(match[1].lstrip("0")) <= 5 or int(match[1]) > _MOST_DAYS:
        raise ValueError(f"must be between 1d and {_MOST_DAYS}d")
    return int(match[1])


def parse_age(text: str) -> float:
    """Seconds in `text`: a number with s, m, h or d."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError("not an age; write a number with s, m, h or d, such as 12h or 1d")
    seconds = float(match[1]) * _SECONDS[match[2].lower()]
    if seconds > _MOST_DAYS * _SECONDS["d"]:
        raise ValueError(f"longer than {_MOST_DAYS}d; write an age such as 12h or 1d")
    return seconds


def parse_seconds(text: str) -> float:
    """Seconds in `text`: a number with ms, s, m or h."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a duration; write a number with ms, s, m or h, such as 30s or 2m")
    seconds = float(match[1]) * _SECONDS[match[2].lower()]
    if seconds > _MOST_SECONDS:
        raise ValueError("longer than seven days; write a duration such as 30s or 2m")
    return seconds


_MOST_THREADS = 256


def parse_url(text: str) -> str:
    """An `http` or `https` address without credentials, query or fragment; trailing slashes are dropped."""
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("contains white space or control characters; write an address such as http://localhost:8000")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("not a valid address; write one such as http://localhost:8000") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://, such as http://localhost:8000")
    if "@" in parts.netloc:
        raise ValueError(
            "contains a user name or password, and addresses appear in messages and logs; "
            "take it out of the address and use the variables for credentials"
        )
    if not parts.hostname:
        raise ValueError("names no host; write an address such as http://localhost:8000")
    if "?" in text or "#" in text:
        raise ValueError("contains a query or fragment; end the address after its path")
    return text.rstrip("/")


def is_readable_by_others(address: str) -> bool:
    """Whether what is sent to a valid address leaves this machine without encryption."""
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def parse_credential(text: str) -> str:
    """A key or secret as it goes into a header: one line, no blanks around it."""
    if text != text.strip():
        raise ValueError("begins or ends with white space, often a stray line break; remove it")
    if not text.isprintable():
        raise ValueError("contains control characters or line breaks; remove them")
    return text


def parse_directory(text: str) -> Path:
    """An absolute path; `~` is the home directory, a relative path starts at the current directory."""
    if not text.isprintable():
        raise ValueError("contains control characters or line breaks; remove them")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, but there is no such home directory; write an absolute path") from None
    return Path.cwd() / path


def parse_worker_id(text: str) -> str:
    """ASCII letters and digits, taken as they are (docs/design/contract.md 6)."""
    if re.fullmatch(r"[A-Za-z0-9]{1,100}", text) is None:
        raise ValueError("must be up to 100 ASCII letters and digits, such as features1")
    return text


def parse_publish_fence(text: str) -> PublishFence:
    """One of the fence policies."""
    try:
        return PublishFence(text)
    except ValueError:
        renamed = "; `auto` has taken the place of `if-installed`" if text == "if-installed" else ""
        raise ValueError(f"must be auto, required or off{renamed}") from None


def parse_log_format(text: str) -> LogFormat:
    """One of the formats."""
    try:
        return LogFormat(text)
    except ValueError:
        raise ValueError("must be text or json") from None


def parse_switch(text: str) -> bool:
    """`on` or `off`."""
    if text not in ("on", "off"):
        raise ValueError("must be on or off")
    return text == "on"


def parse_workspaces(text: str) -> tuple[str, ...]:
    """Glob patterns `repository/branch`, separated by commas."""
    patterns = tuple(pattern.strip() for pattern in text.split(","))
    for pattern in patterns:
        repository, slash, branch = pattern.partition("/")
        if not slash or "/" in branch or not repository.strip() or not branch.strip():
            raise ValueError(
                "must be patterns repository/branch, separated by commas; write them like team-*/main,lab/*"
            )
    return patterns


def parse_maintenance(text: str) -> frozenset[Upkeep]:
    """`all`, `none`, or names separated by commas."""
    if text.strip() in ("all", "none"):
        return ALL_UPKEEP if text.strip() == "all" else frozenset()
    try:
        return frozenset(Upkeep(name.strip()) for name in text.split(","))
    except ValueError:
        raise ValueError(f"must be all, none, or of {', '.join(Upkeep)}, separated by commas") from None


def parse_thread_count(text: str) -> int:
    """A whole number of threads."""
    if re.fullmatch(r"[0-9]{1,4}", text.strip()) is None or not 1 <= int(text) <= _MOST_THREADS:
        raise ValueError(f"must be a whole number from 1 to {_MOST_THREADS}")
    return int(text)


def parse_count(text: str) -> int:
    """A whole number of objects."""
    if re.fullmatch(r"[0-9]{1,12}", text.strip()) is None or int(text) < 1:
        raise ValueError("must be a whole number from 1 to 999999999999, such as 1000000")
    return int(text)


_MEBIBYTE = 2**20

Url = Annotated[str, BeforeValidator(parse_url)]
Credential = Annotated[str, BeforeValidator(parse_credential)]
Secret = Annotated[SecretStr, BeforeValidator(parse_credential)]
Directory = Annotated[Path, BeforeValidator(parse_directory)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
WorkerId = Annotated[str, BeforeValidator(parse_worker_id)]


class Variables(BaseSettings):
    """One field per variable. Whatever is set must be valid by itself; what belongs together is checked in `load`."""

    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    conductor_server_url: Url | None = Field(None, validation_alias="CONDUCTOR_SERVER_URL")
    conductor_auth_key: Credential | None = Field(None, validation_alias="CONDUCTOR_AUTH_KEY", repr=False)
    conductor_auth_secret: Secret | None = Field(None, validation_alias="CONDUCTOR_AUTH_SECRET")
    lakefs_endpoint_url: Url | None = Field(None, validation_alias="LAKECTL_SERVER_ENDPOINT_URL")
    lakefs_access_key_id: Credential | None = Field(
        None, validation_alias="LAKECTL_CREDENTIALS_ACCESS_KEY_ID", repr=False
    )
    lakefs_secret_access_key: Secret | None = Field(None, validation_alias="LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY")
    workspace_root: Directory | None = Field(None, validation_alias="PERAGO_WORKSPACE_ROOT")
    log_root: Directory | None = Field(None, validation_alias="PERAGO_LOG_ROOT")
    log_file_max_size: Annotated[int, BeforeValidator(parse_size)] = Field(
        100_000_000, validation_alias="PERAGO_LOG_FILE_MAX_SIZE"
    )
    log_retention: Annotated[int, BeforeValidator(parse_days)] = Field(30, validation_alias="PERAGO_LOG_RETENTION")
    log_format: Annotated[LogFormat, BeforeValidator(parse_log_format)] | None = Field(
        None, validation_alias="PERAGO_LOG_FORMAT"
    )
    log_files: Annotated[bool, BeforeValidator(parse_switch)] = Field(True, validation_alias="PERAGO_LOG_FILES")
    worker_id_prefix: WorkerId | None = Field(None, validation_alias="PERAGO_WORKER_ID_PREFIX")
    worker_id: WorkerId | None = Field(None, validation_alias="PERAGO_WORKER_ID")
    publish_fence: Annotated[PublishFence, BeforeValidator(parse_publish_fence)] = Field(
        PublishFence.AUTO, validation_alias="PERAGO_PUBLISH_FENCE"
    )
    shutdown_grace: Annotated[float, BeforeValidator(parse_seconds)] = Field(
        30.0, validation_alias="PERAGO_SHUTDOWN_GRACE"
    )
    transfer_threads: Annotated[int, BeforeValidator(parse_thread_count)] = Field(
        16, validation_alias="PERAGO_TRANSFER_THREADS"
    )
    max_result_bytes: Bytes = Field(_MEBIBYTE, validation_alias="PERAGO_MAX_RESULT_BYTES")
    max_workspace_bytes: Bytes | None = Field(None, validation_alias="PERAGO_MAX_WORKSPACE_BYTES")
    max_workspace_objects: Annotated[int, BeforeValidator(parse_count)] = Field(
        10_000_000, validation_alias="PERAGO_MAX_WORKSPACE_OBJECTS"
    )
    cache_max_bytes: Annotated[int, BeforeValidator(parse_limit)] | None = Field(
        None, validation_alias="PERAGO_CACHE_MAX_BYTES"
    )
    allowed_workspaces: Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_workspaces)] | None = Field(
        None, validation_alias="PERAGO_ALLOWED_WORKSPACES"
    )
    maintenance: Annotated[frozenset[Upkeep], NoDecode, BeforeValidator(parse_maintenance)] = Field(
        ALL_UPKEEP, validation_alias="PERAGO_MAINTENANCE"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first; everything that `sources` read comes in as keyword arguments."""
        return env_settings, init_settings


VARIABLES = tuple(str(field.validation_alias) for field in Variables.model_fields.values())


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


_DEFAULTS = {
    "PERAGO_LOG_FILE_MAX_SIZE": "100MB",
    "PERAGO_LOG_RETENTION": "30d",
    "PERAGO_LOG_FORMAT": "no log on standard error",
    "PERAGO_LOG_FILES": "on",
    "PERAGO_WORKER_ID_PREFIX": "from the module's name",
    "PERAGO_PUBLISH_FENCE": "auto",
    "PERAGO_SHUTDOWN_GRACE": "30s",
    "PERAGO_TRANSFER_THREADS": "16",
    "PERAGO_MAX_RESULT_BYTES": "1MiB",
    "PERAGO_MAX_WORKSPACE_BYTES": "no limit",
    "PERAGO_MAX_WORKSPACE_OBJECTS": "10,000,000",
    "PERAGO_CACHE_MAX_BYTES": "a tenth of the free space",
    "PERAGO_ALLOWED_WORKSPACES": "all",
    "PERAGO_MAINTENANCE": "all",
}
"""As docs/configuration.md words them. What is not here is not set."""


@dataclass(frozen=True, slots=True)
class Setting:
    """`value` is as it was written, with secrets struck out, or the default in words; None: a credential that is
    set."""

    name: str
    value: str | None
    source: str
    """`environment`, `.env:4`, `default`, or empty for what is not set."""


def settings_in_effect(settings: Settings) -> tuple[Setting, ...]:
    """All variables that perago knows, in the order of docs/configuration.md. `settings` are the valid ones of now."""
    sources, mask = read_sources(), configured_mask()
    roots = {WORKSPACE_ROOT: str(settings.workspace_root), LOG_ROOT: str(settings.log_root)}
    found = []
    for name in VARIABLES:
        source = sources.origin(name)
        if not source:
            default = roots.get(name) or _DEFAULTS.get(name)
            found.append(Setting(name, default or "not set", "default" if default else ""))
        elif looks_secret(name):
            found.append(Setting(name, None, source))
        else:
            found.append(Setting(name, mask(sources.values[name]), source))
    return tuple(found)

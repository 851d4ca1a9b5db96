"""The variables that perago reads, as a pydantic-settings model, and what a single value must look like.

docs/configuration.md explains each. The messages never repeat a value: it may be a secret in the wrong place."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from perago.settings import units
from perago.settings.values import ALL_UPKEEP, LogFormat, PublishFence, Upkeep

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
Bytes = Annotated[int, BeforeValidator(units.parse_bytes)]
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
    log_file_max_size: Annotated[int, BeforeValidator(units.parse_size)] = Field(
        100_000_000, validation_alias="PERAGO_LOG_FILE_MAX_SIZE"
    )
    log_retention: Annotated[int, BeforeValidator(units.parse_days)] = Field(
        30, validation_alias="PERAGO_LOG_RETENTION"
    )
    log_format: Annotated[LogFormat, BeforeValidator(parse_log_format)] | None = Field(
        None, validation_alias="PERAGO_LOG_FORMAT"
    )
    log_files: Annotated[bool, BeforeValidator(parse_switch)] = Field(True, validation_alias="PERAGO_LOG_FILES")
    worker_id_prefix: WorkerId | None = Field(None, validation_alias="PERAGO_WORKER_ID_PREFIX")
    worker_id: WorkerId | None = Field(None, validation_alias="PERAGO_WORKER_ID")
    publish_fence: Annotated[PublishFence, BeforeValidator(parse_publish_fence)] = Field(
        PublishFence.AUTO, validation_alias="PERAGO_PUBLISH_FENCE"
    )
    shutdown_grace: Annotated[float, BeforeValidator(units.parse_seconds)] = Field(
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
    cache_max_bytes: Annotated[int, BeforeValidator(units.parse_limit)] | None = Field(
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

"""The variables perago reads, as a pydantic-settings model (docs/configuration.md explains each)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from perago.settings import checks, units
from perago.settings.values import PublishFence

_MEBIBYTE = 2**20

Url = Annotated[str, BeforeValidator(checks.url)]
Credential = Annotated[str, BeforeValidator(checks.credential)]
Secret = Annotated[SecretStr, BeforeValidator(checks.credential)]
Directory = Annotated[Path, BeforeValidator(checks.directory)]
Bytes = Annotated[int, BeforeValidator(units.parse_bytes)]
WorkerId = Annotated[str, BeforeValidator(checks.worker_id)]


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
    worker_id_prefix: WorkerId | None = Field(None, validation_alias="PERAGO_WORKER_ID_PREFIX")
    worker_id: WorkerId | None = Field(None, validation_alias="PERAGO_WORKER_ID")
    publish_fence: Annotated[PublishFence, BeforeValidator(checks.publish_fence)] = Field(
        PublishFence.AUTO, validation_alias="PERAGO_PUBLISH_FENCE"
    )
    shutdown_grace: Annotated[float, BeforeValidator(units.parse_seconds)] = Field(
        30.0, validation_alias="PERAGO_SHUTDOWN_GRACE"
    )
    transfer_threads: Annotated[int, BeforeValidator(checks.thread_count)] = Field(
        16, validation_alias="PERAGO_TRANSFER_THREADS"
    )
    max_result_bytes: Bytes = Field(_MEBIBYTE, validation_alias="PERAGO_MAX_RESULT_BYTES")
    max_workspace_bytes: Bytes | None = Field(None, validation_alias="PERAGO_MAX_WORKSPACE_BYTES")
    allowed_workspaces: Annotated[tuple[str, ...], NoDecode, BeforeValidator(checks.workspaces)] | None = Field(
        None, validation_alias="PERAGO_ALLOWED_WORKSPACES"
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

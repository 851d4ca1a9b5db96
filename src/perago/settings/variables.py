"""The variables that perago reads: each is one field of `Settings`, with its parser, its default and its description.

`perago config`, `.env.example` and the tables of docs/configuration.md are derived from the fields. No message repeats
a value, because it may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from perago.secret_names import looks_secret
from perago.settings.sources import (
    ALL_UPKEEP,
    LOG_ROOT,
    WORKSPACE_ROOT,
    ConductorSettings,
    ConfigurationError,
    LakeFSSettings,
    LogFormat,
    Problem,
    PublishFence,
    Sources,
    Upkeep,
    check_roots,
    configured_mask,
    default_log_root,
    default_workspace_root,
    read_sources,
)
from perago.text import DEFAULT_ZONE, parse_zone, use_zone

# ------------------------------------------------------------------------------ single values

_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-z]+)", re.IGNORECASE)
_BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_DAYS = re.compile(r"([0-9]+)\s*d", re.IGNORECASE)
_DURATION = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_AGE = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MOST_DAYS = 36_500
_MOST_SECONDS = 7 * 24 * 3600.0


def _amount(text: str, units: Mapping[str, float], problem: str) -> float:
    """Return the amount in `text`, a number with one of the `units`, in upper or lower case.

    Raises:
        ValueError: it is not such an amount. The message is `problem`.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        raise ValueError(problem)
    return float(match[1]) * units[match[2].lower()]


def parse_size(text: str) -> int:
    """Return the bytes in `text`: a number with KB, MB, GB, KiB, MiB or GiB. Decimals and inner blanks are fine.

    A bare number is refused, because its unit is unknown.
    """
    problem = "not a size; write a number with KB, MB, GB, KiB, MiB or GiB, such as 100MB or 1.5 GiB"
    size = int(_amount(text, _BYTES, problem))
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
    seconds = _amount(text, _AGE, "not an age; write a number with s, m, h or d, such as 12h or 1d")
    if seconds > _MOST_DAYS * _AGE["d"]:
        raise ValueError(f"longer than {_MOST_DAYS}d; write an age such as 12h or 1d")
    return seconds


def parse_seconds(text: str) -> float:
    """Seconds in `text`: a number with ms, s, m or h."""
    seconds = _amount(text, _DURATION, "not a duration; write a number with ms, s, m or h, such as 30s or 2m")
    if seconds > _MOST_SECONDS:
        raise ValueError("longer than seven days; write a duration such as 30s or 2m")
    return seconds


_MOST_THREADS = 256


def parse_url(text: str) -> str:
    """An `http` or `https` address without credentials, query or fragment; trailing slashes are dropped."""
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("contains white space or control characters")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("not a valid address") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError(
            "contains a user name or password, and addresses appear in messages and logs; "
            "take it out of the address and use the variables for credentials"
        )
    if not parts.hostname:
        raise ValueError("names no host")
    if "?" in text or "#" in text:
        raise ValueError("contains a query or fragment; end the address after its path")
    return text.rstrip("/")


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
    """The name of a pod or a host, or any other name of that form, taken as it is."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", text) is None:
        raise ValueError(
            "must be the name of a pod or up to 200 other ASCII letters, digits, dots, dashes and underscores, such as "
            "features-7d9f"
        )
    return text


def parse_publish_fence(text: str) -> PublishFence:
    """One of the fence policies."""
    try:
        return PublishFence(text)
    except ValueError:
        raise ValueError("must be auto, required or off") from None


def parse_log_format(text: str) -> LogFormat:
    """One of the formats."""
    try:
        return LogFormat(text)
    except ValueError:
        raise ValueError("must be text or json") from None


def parse_time_zone(text: str) -> str:
    """The text of a valid time zone, without blanks around it."""
    parse_zone(text)
    return text.strip()


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


Url = Annotated[str, BeforeValidator(parse_url)]
Credential = Annotated[str, BeforeValidator(parse_credential)]
Secret = Annotated[SecretStr, BeforeValidator(parse_credential)]
Directory = Annotated[Path, BeforeValidator(parse_directory)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
WorkerId = Annotated[str, BeforeValidator(parse_worker_id)]


# ------------------------------------------------------------------------------ the declarations


def _variable(
    section: str,
    name: str,
    default: Any,
    *,
    default_text: str = "",
    example: str | None = None,
    show: bool = True,
    local: bool = False,
) -> Any:
    """Declare a variable. The text below the field is its description: at most 25 words of Markdown.

    Args:
        section: the section of docs/configuration.md and `.env.example`.
        name: the name of the variable.
        default: the value if the variable is not set.
        default_text: the default as people read it; empty: there is no default.
        example: a valid value for `.env.example`, if not `default_text`; empty: the variable is not in that file.
        show: whether `repr` shows the value.
        local: whether it decides how an attempt on embedded services runs and ends, so that a wrong value stops it.
    """
    example = default_text if example is None else example
    extra: Any = {"section": section, "default": default_text, "example": example, "local": local}
    return Field(default, validation_alias=name, json_schema_extra=extra, repr=show)


class Settings(BaseSettings):
    """The configuration. One field per variable. `load` also checks variables that belong together."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        case_sensitive=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    conductor_server_url: Url | None = _variable(
        "Conductor", "CONDUCTOR_SERVER_URL", None, example="http://localhost:8080/api", show=False
    )
    """Address of the API, usually ending in `/api`. Needed by `register` and `start`."""
    conductor_auth_key: Credential | None = _variable(
        "Conductor", "CONDUCTOR_AUTH_KEY", None, example="<key>", show=False
    )
    """Key. Set it and `CONDUCTOR_AUTH_SECRET`, or neither: a server without authentication needs none."""
    conductor_auth_secret: Secret | None = _variable("Conductor", "CONDUCTOR_AUTH_SECRET", None, example="<secret>")
    """Secret that belongs to the key."""
    lakefs_endpoint_url: Url | None = _variable(
        "lakeFS", "LAKECTL_SERVER_ENDPOINT_URL", None, example="http://localhost:8000", show=False
    )
    """Address of the server, with or without `/api/v1`. Set all three variables or none."""
    lakefs_access_key_id: Credential | None = _variable(
        "lakeFS", "LAKECTL_CREDENTIALS_ACCESS_KEY_ID", None, example="<access key id>", show=False
    )
    """Access key id."""
    lakefs_secret_access_key: Secret | None = _variable(
        "lakeFS", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", None, example="<secret access key>"
    )
    """Secret access key that belongs to the id."""
    workspace_root: Directory = _variable(
        "Directories",
        WORKSPACE_ROOT,
        ...,
        default_text="`perago/workspaces` in the user's cache directory (`~/.cache`, `~/Library/Caches`)",
        example="~/.cache/perago/workspaces",
        local=True,
    )
    """Attempt directories. Never shared between machines."""
    log_root: Directory = _variable(
        "Directories",
        LOG_ROOT,
        ...,
        default_text="`perago/logs` in the user's state directory (`~/.local/state`, `~/Library/Application Support`)",
        example="~/.local/state/perago/logs",
        local=True,
    )
    """Logs of workers."""
    # In bytes.
    log_file_max_size: Annotated[int, BeforeValidator(parse_size)] = _variable(
        "Logs", "PERAGO_LOG_FILE_MAX_SIZE", 100_000_000, default_text="100MB"
    )
    """Size at which a log file is rotated, with its unit: `KB`, `MB`, `GB` (powers of 1,000), `KiB`, `MiB` or `GiB`
    (powers of 1,024)."""
    # In days.
    log_retention: Annotated[int, BeforeValidator(parse_days)] = _variable(
        "Logs", "PERAGO_LOG_RETENTION", 30, default_text="30d"
    )
    """Time for which log files stay, in whole days."""
    # None: standard error gets no log.
    log_format: Annotated[LogFormat, BeforeValidator(parse_log_format)] | None = _variable(
        "Logs", "PERAGO_LOG_FORMAT", None, default_text="no log on standard error", example="json"
    )
    """`text` or `json`: `perago start` writes [its log](workers.md#log-files) to standard error, and prints nothing
    else. `--log-format` wins over it."""
    log_files: Annotated[bool, BeforeValidator(parse_switch)] = _variable(
        "Logs", "PERAGO_LOG_FILES", True, default_text="on", example="off"
    )
    """`on` or `off`: whether `perago start` writes log files. `off` needs a log format."""
    time_zone: Annotated[str, BeforeValidator(parse_time_zone)] = _variable(
        "Logs", "PERAGO_TIME_ZONE", DEFAULT_ZONE, default_text=DEFAULT_ZONE, example="Europe/Berlin", local=True
    )
    """Zone of all times in logs, commands, console and reports of tests: a name of the IANA list, `UTC`, or an offset
    such as `UTC+08:00`."""
    # None: `default_worker_id_prefix` of the task module.
    worker_id_prefix: WorkerId | None = _variable(
        "Workers", "PERAGO_WORKER_ID_PREFIX", None, default_text="from the module's name", example="features"
    )
    """Begins the worker ids: `<prefix>0000` polls, `<prefix>0001` and so on run attempts. The name of a pod,
    or letters, digits, dots, dashes and underscores."""
    worker_id: WorkerId | None = _variable("Workers", "PERAGO_WORKER_ID", None)
    """Written by the supervisor for the processes that run attempts. Read it, and do not set it."""
    # In seconds.
    shutdown_grace: Annotated[float, BeforeValidator(parse_seconds)] = _variable(
        "Workers", "PERAGO_SHUTDOWN_GRACE", 30.0, default_text="30s"
    )
    """Time that a canceled attempt gets between TERM and KILL. A number with `ms`, `s`, `m` or `h`."""
    publish_fence: Annotated[PublishFence, BeforeValidator(parse_publish_fence)] = _variable(
        "Workers", "PERAGO_PUBLISH_FENCE", PublishFence.AUTO, default_text="auto"
    )
    """`auto`, `required` or `off`: how strictly a publication insists on the server-side [publish
    fence](dev/protocol.md#the-publish-fence)."""
    transfer_threads: Annotated[int, BeforeValidator(parse_thread_count)] = _variable(
        "Workers", "PERAGO_TRANSFER_THREADS", 16, default_text="16"
    )
    """Parallel streams that one download or upload can have, 1 to 256. How many it has [depends on what they
    bring](workers.md#data-path)."""
    max_result_bytes: Bytes = _variable("Workers", "PERAGO_MAX_RESULT_BYTES", 2**20, default_text="1MiB", local=True)
    """Largest result of a task function, in bytes or as a size."""
    max_workspace_bytes: Bytes | None = _variable(
        "Workers", "PERAGO_MAX_WORKSPACE_BYTES", None, default_text="no limit", example="50GiB", local=True
    )
    """Largest workspace that is downloaded, in bytes or as a size. Free disk space is always checked."""
    max_workspace_objects: Annotated[int, BeforeValidator(parse_count)] = _variable(
        "Workers", "PERAGO_MAX_WORKSPACE_OBJECTS", 10_000_000, default_text="10,000,000", example="10000000", local=True
    )
    """Most objects below the task's prefix. Each needs about 1 KiB of memory, and a listing can use half of the
    memory."""
    # None: a tenth of the free space at the start.
    cache_max_bytes: Annotated[int, BeforeValidator(parse_limit)] | None = _variable(
        "Workers", "PERAGO_CACHE_MAX_BYTES", None, default_text="a tenth of the free space", example="20GiB"
    )
    """Most bytes on disk of the [cache of objects](workers.md#the-cache-of-objects), as a number or a size. `0`: there
    is no cache."""
    # None: an input can name any.
    allowed_workspaces: Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_workspaces)] | None = _variable(
        "Workers", "PERAGO_ALLOWED_WORKSPACES", None, default_text="all", example="audio-*/main,lab/*"
    )
    """Workspaces that an input can name: patterns `repository/branch`, separated by commas. `*`, `?` and `[...]`
    match as in a shell."""
    maintenance: Annotated[frozenset[Upkeep], NoDecode, BeforeValidator(parse_maintenance)] = _variable(
        "Workers", "PERAGO_MAINTENANCE", ALL_UPKEEP, default_text="all"
    )
    """Parts of the [clean-up](workers.md#leftovers-and-their-removal) that workers do in the background:
    `all`, `none`, or some of `directories`, `branches`, `cache`, `logs`."""
    warnings: tuple[str, ...] = ()
    """Likely mistakes that stop nothing: unknown `PERAGO_` variables, credentials sent in the clear."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values from `load`, which has read the environment and `.env`."""
        return (init_settings,)

    @property
    def conductor(self) -> ConductorSettings | None:
        """Return the address of Conductor and credentials; None: the address is not set."""
        if self.conductor_server_url is None:
            return None
        return ConductorSettings(self.conductor_server_url, self.conductor_auth_key, self.conductor_auth_secret)

    @property
    def lakefs(self) -> LakeFSSettings | None:
        """Return the address of lakeFS and credentials; None: none of its variables is set."""
        url, key, secret = self.lakefs_endpoint_url, self.lakefs_access_key_id, self.lakefs_secret_access_key
        return None if url is None or key is None or secret is None else LakeFSSettings(url, key, secret)

    def require_conductor(self) -> ConductorSettings:
        """Return the settings of Conductor for a command that needs it.

        Raises:
            ConfigurationError: they are not set.
        """
        if (conductor := self.conductor) is None:
            raise ConfigurationError([_not_set("CONDUCTOR_SERVER_URL")])
        return conductor

    def require_lakefs(self) -> LakeFSSettings:
        """Return the settings of lakeFS for a command that needs it.

        Raises:
            ConfigurationError: they are not set.
        """
        if (lakefs := self.lakefs) is None:
            raise ConfigurationError(map(_not_set, _LAKEFS))
        return lakefs


DECLARED = {str(field.validation_alias): field for field in Settings.model_fields.values() if field.validation_alias}
VARIABLES = tuple(DECLARED)

_CONDUCTOR_CREDENTIALS = ("CONDUCTOR_AUTH_KEY", "CONDUCTOR_AUTH_SECRET")
_LAKEFS = (
    "LAKECTL_SERVER_ENDPOINT_URL",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
)
_DEFAULT_ROOTS = {WORKSPACE_ROOT: default_workspace_root, LOG_ROOT: default_log_root}


def about(name: str, detail: str) -> Any:
    """Return the `section`, `default` or `example` of a variable, or whether it is `local`."""
    extra: Any = DECLARED[name].json_schema_extra
    return extra[detail]


def _not_set(name: str) -> Problem:
    return Problem(name, "", "not set", f"Set it in the environment or in .env: {name}={about(name, 'example')}")


# ------------------------------------------------------------------------------ loading


def load(*, local: bool = False) -> Settings:
    """Read and validate the variables, and report all problems together (see `perago.settings.load_settings`). Times of
    this process are shown in the configured zone from now on."""
    sources = read_sources()
    values = {name: value for name, value in sources.values.items() if name in DECLARED}
    problems, root_problems = [*sources.dotenv.problems], list[Problem]()
    for name, locate in _DEFAULT_ROOTS.items():
        if name not in values:
            try:
                values[name] = str(locate())
            except ConfigurationError as error:
                root_problems += error.details
                values[name] = "/"
    settings, value_problems = _parsed(values, sources)
    value_problems += (*_group_problems(_CONDUCTOR_CREDENTIALS, sources), *_group_problems(_LAKEFS, sources))
    ignored: list[Problem] = []
    if local and value_problems:
        ignored = [problem for problem in value_problems if not about(problem.variable, "local")]
        dropped = {problem.variable for problem in ignored}
        for group in (_CONDUCTOR_CREDENTIALS, _LAKEFS):
            if dropped.intersection(group):
                dropped.update(group)
        settings, value_problems = _parsed(
            {name: text for name, text in values.items() if name not in dropped}, sources
        )
    problems += (*value_problems, *root_problems)
    warnings = [
        *(f"{problem} This command uses the default." for problem in ignored if problem.variable.startswith("PERAGO_")),
        *_unknown_variables(sources),
    ]
    if settings is None or problems:
        wrong = {problem.variable for problem in problems}
        valid = {name: text for name, text in values.items() if name not in wrong}
        settings, _ = _parsed({**valid, **{name: "/" for name in _DEFAULT_ROOTS if name in wrong}}, sources)
        if settings is not None:
            problems += [problem for problem in check_roots(settings) if problem.variable not in wrong]
        raise ConfigurationError(problems, warnings)
    use_zone(settings.time_zone)
    return settings.model_copy(update={"warnings": (*warnings, *_plain_endpoints(settings, sources))})


def _parsed(values: Mapping[str, str], sources: Sources) -> tuple[Settings | None, list[Problem]]:
    try:
        return Settings(**values), []  # type: ignore[arg-type] # all of them are text, and the fields parse it
    except ValidationError as error:
        return None, [*_value_problems(error, sources)]


def _value_problems(error: ValidationError, sources: Sources) -> Iterator[Problem]:
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0])
        cause = detail.get("ctx", {}).get("error", detail["msg"])
        message, _, fix = str(cause).partition("; ")
        if not fix and DECLARED[name].annotation == Url | None:
            fix = f"write an address such as {about(name, 'example')}"
        yield Problem(name, sources.origin(name), message, f"{fix[:1].upper()}{fix[1:]}." if fix else "")


def _group_problems(group: Iterable[str], sources: Sources) -> Iterator[Problem]:
    """Yield a problem for each variable that is missing although another one of its group is set."""
    present = [name for name in group if sources.origin(name)]
    if not present:
        return
    for name in group:
        if name not in present:
            others = " and ".join(f"{other} ({sources.origin(other)})" for other in present)
            verb = "is" if len(present) == 1 else "are"
            yield Problem(name, "", f"not set, but {others} {verb}", "Set all of them or none.")


def _unknown_variables(sources: Sources) -> Iterator[str]:
    for name in sorted(sources.values):
        if name.startswith("PERAGO_") and name not in DECLARED:
            close = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.8)
            advice = f" Did you mean {close[0]}?" if close else ""
            yield f"{name} ({sources.origin(name)}): perago knows no such variable and ignores it.{advice}"


def _plain_endpoints(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield a warning for each address to which credentials go unencrypted over a network."""
    endpoints = (
        ("CONDUCTOR_SERVER_URL", settings.conductor_server_url, settings.conductor_auth_secret),
        ("LAKECTL_SERVER_ENDPOINT_URL", settings.lakefs_endpoint_url, settings.lakefs_secret_access_key),
    )
    for name, url, secret in endpoints:
        if url is not None and secret is not None and is_readable_by_others(url):
            yield (
                f"{name} ({sources.origin(name)}): the credentials go to {urlsplit(url).hostname} without encryption. "
                "Use https:// unless the network is trusted."
            )


def is_readable_by_others(address: str) -> bool:
    """Whether requests to a valid address leave this machine without encryption."""
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


# ------------------------------------------------------------------------------ for people


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable, its value and its source.

    `value` is the text of the variable, with secrets redacted, or the default in words; None for a credential that is
    set. `source` is `environment`, `.env:4`, `default`, or empty for a variable that is not set.
    """

    name: str
    value: str | None
    source: str


def settings_in_effect(settings: Settings) -> tuple[Setting, ...]:
    """Return all variables that perago knows, in the order of their declaration. `settings` are valid and current."""
    sources, mask = read_sources(), configured_mask()
    roots = {WORKSPACE_ROOT: str(settings.workspace_root), LOG_ROOT: str(settings.log_root)}
    effective = []
    for name in VARIABLES:
        source = sources.origin(name)
        if not source:
            default = roots.get(name) or about(name, "default")
            effective.append(Setting(name, default or "not set", "default" if default else ""))
        elif looks_secret(name):
            effective.append(Setting(name, None, source))
        else:
            effective.append(Setting(name, mask(sources.values[name]), source))
    return tuple(effective)

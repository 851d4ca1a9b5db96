"""The official clients of Conductor and lakeFS, made from perago's settings. They need the extra `sdk`.

The module of an SDK is imported when one of these functions is called, because both are slow to import.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from perago.settings import ConductorSettings, LakeFSSettings, load_settings
from perago.settings.network import ca_bundle, proxy_for, tls_context

if TYPE_CHECKING:
    import httpx
    from conductor.client.configuration.configuration import Configuration as Configuration
    from conductor.client.workflow.conductor_workflow import ConductorWorkflow as ConductorWorkflow
    from conductor.client.workflow.executor.workflow_executor import WorkflowExecutor as WorkflowExecutor
    from conductor.client.workflow.task.simple_task import SimpleTask as SimpleTask
    from lakefs import Reference as Reference
    from lakefs.client import Client as Client

    from perago.workflows import Workflow

__all__ = ["conductor_configuration", "conductor_workflow", "lakefs_client", "published", "simple_task"]

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_COROUTINE_SECONDS = 0.001
"""The seconds between two questions whether a coroutine has ended."""


def conductor_configuration() -> Configuration:
    """Return conductor-python's `Configuration` for the configured Conductor. It sends no request.

    The clients of the SDK that are made from it ask for a token with their first call.

    Raises:
        ImportError: The extra `sdk` is not installed.
        ConfigurationError: The address of Conductor is not set, or a variable is not valid.
    """
    return configuration_of(load_settings().require_conductor())


def lakefs_client() -> Client:
    """Return `lakefs.Client` for the configured lakeFS. It sends no request.

    Raises:
        ImportError: The extra `sdk` is not installed.
        ConfigurationError: A variable of lakeFS is not set, or a variable is not valid.
        ValueError: The certificate bundle is a directory, which lakefs cannot read.
    """
    return client_of(load_settings().require_lakefs())


def published(output: Mapping[str, Any] | None, *, client: Client | None = None) -> Reference:
    """Return the published commit in the output of a task or workflow, ready to read.

    Several commits are compared on the server. The result is the one that has all others in its history.

    Args:
        output: The output, with `workspace`. A run that has not ended has none.
        client: The client that reads the commit; None: `lakefs_client()`.

    Raises:
        ImportError: The extra `sdk` is not installed.
        ConfigurationError: A variable of lakeFS is not set.
        ValueError: The output has no published commit, or none of its commits has all others in its history.
    """
    from perago.taskdef.payload import commits_of

    block = (output or {}).get("workspace")
    if not isinstance(block, Mapping) or not isinstance(block.get("repository"), str):
        raise ValueError(  # noqa: TRY004 - the output is wrong, not the type of the argument
            "the output has no workspace; give the output of a task or workflow that has one"
        )
    problems: list[str] = []
    commits = commits_of(block.get("ref"), block["repository"], problems)
    if problems:
        raise ValueError("; ".join(problems))
    client = client or lakefs_client()
    repository = _lakefs("published").Repository(block["repository"], client=client)
    newest = commits[0]
    for commit in commits[1:]:
        if not _has_ancestor(client, repository.id, newest, commit):
            newest = commit
    for commit in commits:
        if not _has_ancestor(client, repository.id, newest, commit):
            raise ValueError(f"neither {newest[:12]} nor {commit[:12]} has the other one in its history")
    reference: Reference = repository.commit(newest)
    return reference


def simple_task(
    task: Callable[..., Any],
    name: str,
    model: type[BaseModel],
    /,
    *,
    after: SimpleTask | Sequence[SimpleTask] = (),
    **params: Any,
) -> SimpleTask:
    """Return a step for a `ConductorWorkflow` of the SDK, with complete inputs.

    The step continues the commits of `after`, else that in the input of the workflow. `>>` alone gives it no commit.

    Args:
        task: A function with `@task`.
        name: The task reference name of the step.
        model: The params model of the task.
        after: The step that published what this one reads; several after a fork.
        params: A value for each field. An expression of Conductor, such as `${workflow.input.rows}`, fits every field.

    Raises:
        ImportError: The extra `sdk` is not installed.
        TaskDefinitionError: The function has no `@task`, or a name, a field or a type is wrong.
    """
    from perago.authoring.declaration import InvalidDeclaration, calling_line
    from perago.authoring.task import get_task
    from perago.workflows.values import UNCHECKED, Recorded, Value, expression
    from perago.workflows.writer import Writer

    try:
        from conductor.client.workflow.task.simple_task import SimpleTask
    except ImportError as error:
        raise _missing("simple_task", "conductor-python", error) from error
    here = calling_line()
    declared = get_task(task)
    if declared is None:
        raise here.error(
            f"step {name!r}: {getattr(task, '__name__', task)!r} is not a task", "give a function with @task"
        )
    writer = Writer(declared.params_model, "input")
    if model is not declared.params_model:
        rule = f"step {name!r}: task {declared.name} takes {declared.params_model.__name__}, not {model.__name__}"
        writer.report(rule, f"write {declared.params_model.__name__} after the name")
    earlier = [after] if isinstance(after, SimpleTask) else after
    for step in earlier:
        if "workspace" not in step.input_parameters:
            rule = f"step {name!r}: step {step.task_reference_name!r} has no workspace, so it gives no commit"
            writer.report(rule, "give a step with a workspace as after")
    fields = {
        key: Value(Recorded(field, field, UNCHECKED, ())) if _is_expression(field) else field
        for key, field in params.items()
    }
    inputs: dict[str, Any] = {}
    if declared.workspace is not None:
        if earlier:
            writer.current.heads = tuple(expression(step.task_reference_name, ("workspace", "ref")) for step in earlier)
        inputs["workspace"] = writer.workspace()
    try:
        reference = writer.claim(name)
        inputs["params"] = writer.document(f"step {name!r}", declared.params_model, (), fields)
    except InvalidDeclaration as invalid:
        raise here.error(invalid.rule, invalid.fix) from None
    if writer.problems:
        raise writer.problems[0]
    writer.append(declared.name, reference, {"inputParameters": inputs})
    step = SimpleTask(declared.name, reference)
    step.input_parameters = writer.tasks()[0]["inputParameters"]
    return step


def _is_expression(field: object) -> bool:
    return isinstance(field, str) and re.fullmatch(r"\$\{[^{}]+\}", field) is not None


def conductor_workflow(workflow: Workflow[Any, Any], executor: WorkflowExecutor) -> ConductorWorkflow:
    """Return the SDK's `ConductorWorkflow` with the same definition. It sends no request.

    Raises:
        ImportError: The extra `sdk` is not installed.
        WorkflowDefinitionError: The workflow has mistakes; all are listed.
    """
    try:
        from conductor.client.workflow.conductor_workflow import ConductorWorkflow
        from conductor.client.workflow.task.simple_task import SimpleTask
        from conductor.client.workflow.task.timeout_policy import TimeoutPolicy
    except ImportError as error:
        raise _missing("conductor_workflow", "conductor-python", error) from error

    class Written(SimpleTask):  # type: ignore[misc]
        """A task of any type that is sent as perago wrote it."""

        def __init__(self, document: dict[str, Any]) -> None:
            super().__init__(document["name"], document["taskReferenceName"])
            self.input_parameters = document.get("inputParameters")
            self.document = document

        def to_workflow_task(self) -> Any:
            return executor.metadata_client.api_client.deserialize_class(self.document, "WorkflowTask")

    class Converted(ConductorWorkflow):  # type: ignore[misc]
        """A workflow with its schemas, which the SDK leaves out. Conductor enforces them, by default."""

        def to_workflow_def(self) -> Any:
            converted = super().to_workflow_def()
            converted.input_schema, converted.output_schema = definition["inputSchema"], definition.get("outputSchema")
            converted.enforce_schema = True
            return converted

    definition = workflow.definition()
    converted = Converted(executor, workflow.name, workflow.version, definition.get("description"))
    for document in definition["tasks"]:
        converted >> Written(document)
    converted.owner_email(workflow.owner_email).timeout_seconds(workflow.timeout_seconds)
    converted.timeout_policy(TimeoutPolicy(definition["timeoutPolicy"]))
    converted.input_parameters(definition["inputParameters"]).input_template(definition["inputTemplate"])
    converted.output_parameters(definition["outputParameters"])
    return converted


def _has_ancestor(client: Client, repository: str, commit: str, ancestor: str) -> bool:
    if commit == ancestor:
        return True
    base = client.sdk_client.refs_api.find_merge_base(repository, commit, ancestor).base_commit_id
    return bool(base == ancestor)


def run_worker_task(function: Callable[..., Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Run a function with `@worker_task` in this process as the worker of the SDK does. It sends no request.

    Args:
        function: It has `@worker_task`.
        row: The polled task, as Conductor's JSON.

    Returns:
        The JSON that the worker reports.

    Raises:
        ImportError: The extra `sdk` is not installed.
    """
    try:
        from conductor.client.context import task_context
        from conductor.client.http.models import Task, TaskResult
        from conductor.client.worker.worker import ASYNC_TASK_RUNNING, Worker
    except ImportError as error:
        raise _missing("run_worker_task", "conductor-python", error) from error
    worker = Worker(str(row["taskDefName"]), function.__wrapped__)  # type: ignore[attr-defined]
    worker.api_client = client = _client_without_server()
    task = client.deserialize_class(dict(row), Task)
    changes = TaskResult(task_id=task.task_id, workflow_instance_id=task.workflow_instance_id)
    task_context._set_task_context(task, changes)
    try:
        result = worker.execute(task)
        while result is ASYNC_TASK_RUNNING:
            time.sleep(_COROUTINE_SECONDS)
            result = next((completed for _, completed, *_ in worker.check_completed_async_tasks()), result)
    finally:
        task_context._clear_task_context()
    if isinstance(result, task_context.TaskInProgress):
        changes.status, changes.output_data = "IN_PROGRESS", result.output
        changes.callback_after_seconds, result = result.callback_after_seconds, changes
    elif changes.logs:
        result.logs = [*(result.logs or ()), *changes.logs]
    result.callback_after_seconds = result.callback_after_seconds or changes.callback_after_seconds
    report: dict[str, Any] = client.sanitize_for_serialization(result)
    return report


def worker_task_definition(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the TaskDef that the worker of the SDK registers for a function with `@worker_task`; None: none."""
    from conductor.client.automator.task_handler import get_registered_workers

    for worker in get_registered_workers():
        if worker.register_task_def and worker.execute_function is function.__wrapped__:  # type: ignore[attr-defined]
            template = _client_without_server().sanitize_for_serialization(worker.task_def_template or {})
            return {**template, "name": worker.get_task_definition_name()}
    return None


def _client_without_server() -> Any:
    """Return a client of the SDK that converts to and from JSON."""
    from conductor.client.configuration.configuration import Configuration
    from conductor.client.http.api_client import ApiClient

    configuration = Configuration(base_url="http://127.0.0.1")
    configuration.authentication_settings = None  # the client would ask for a token now
    return ApiClient(configuration)


def configuration_of(settings: ConductorSettings) -> Configuration:
    """Return conductor-python's `Configuration` for these settings."""
    try:
        from conductor.client.configuration.configuration import Configuration
        from conductor.client.configuration.settings.authentication_settings import AuthenticationSettings
    except ImportError as error:
        raise _missing("conductor_configuration", "conductor-python", error) from error
    configuration = Configuration(server_api_url=settings.server_url)
    configuration.authentication_settings = None  # of the environment, which `settings` has judged already
    if settings.auth_key is not None and settings.auth_secret is not None:
        configuration.authentication_settings = AuthenticationSettings(
            settings.auth_key, settings.auth_secret.get_secret_value()
        )
        # An expired token, so that a client of the SDK asks with its first call, not when it is constructed.
        configuration.AUTH_TOKEN = ""
        configuration.token_update_time = 0
    configuration.http_connection = _Connection(settings.server_url)
    return configuration


def client_of(settings: LakeFSSettings) -> Client:
    """Return `lakefs.Client` for these settings."""
    lakefs = _lakefs("lakefs_client")
    url = urlsplit(settings.endpoint_url)
    variable, _, bundle = ca_bundle().partition("=")
    if bundle and Path(bundle).is_dir():
        raise ValueError(f"{variable} names a directory, and lakefs reads only a file of certificates")
    client: Client = lakefs.Client(
        host=settings.endpoint_url.removesuffix("/api/v1"),
        username=settings.access_key_id,
        password=settings.secret_access_key.get_secret_value(),
        ssl_ca_cert=bundle or None,
        proxy=proxy_for(url.scheme, url.hostname or "", url.port),
    )
    return client


def _lakefs(function: str) -> Any:
    try:
        import lakefs
    except ImportError as error:
        raise _missing(function, "lakefs", error) from error
    return lakefs


def _missing(function: str, package: str, error: ImportError) -> ImportError:
    return ImportError(
        f"perago.clients.{function} needs the package {package}: {error}\n"
        "  fix: install perago with the extra sdk (perago help install)"
    )


class _Connection:
    """The HTTP connections of conductor-python, with the certificates and the proxy of the environment.

    After a lost connection the SDK replaces an `httpx.Client` by one without them, so no such error reaches it. Each
    process opens its own connections, because the SDK forks and pickles its configuration for its workers.
    """

    is_closed = False

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._opened: tuple[int, httpx.Client] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._address,))

    def request(self, method: str, url: str, *, headers: Mapping[str, str | None], **options: Any) -> httpx.Response:
        """Send a request. Only one that is idempotent is repeated after a lost connection."""
        import httpx

        sent = {name: value for name, value in headers.items() if value is not None}  # of a server without tokens
        client = self._client()
        # A poll hands out tasks, so a repeated one would leave them without a worker.
        tries = 2 if method in _REPEATABLE and "/tasks/poll/" not in url else 1
        while True:
            try:
                return client.request(method, url, headers=sent, **options)
            except (httpx.ProtocolError, httpx.ReadError, httpx.WriteError) as error:
                tries -= 1
                if not tries:
                    raise ConnectionError(f"{type(error).__name__}: {error}") from error

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of this process. The next request opens new ones."""
        with self._lock:
            if self._opened is not None and self._opened[0] == os.getpid():
                self._opened[1].close()
            self._opened = None

    def _client(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                url = urlsplit(self._address)
                client = httpx.Client(
                    verify=tls_context(),
                    proxy=proxy_for(url.scheme, url.hostname or "", url.port),
                    trust_env=False,
                    timeout=httpx.Timeout(120.0, connect=10.0),
                    limits=httpx.Limits(max_connections=100, max_keepalive_connections=50, keepalive_expiry=30.0),
                )
                self._opened = (os.getpid(), client)
            return self._opened[1]


_TYPES = {
    "Client": "lakefs.client",
    "ConductorWorkflow": "conductor.client.workflow.conductor_workflow",
    "Configuration": "conductor.client.configuration.configuration",
    "Reference": "lakefs",
    "SimpleTask": "conductor.client.workflow.task.simple_task",
    "WorkflowExecutor": "conductor.client.workflow.executor.workflow_executor",
}
"""Types of the SDKs in signatures, for tools that resolve annotations. The module of each is imported on access."""

if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Load a type of an SDK on access."""
        if name not in _TYPES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_TYPES[name]), name)

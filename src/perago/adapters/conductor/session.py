"""The official SDK's API classes, wired to perago's transport."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from perago.adapters.conductor.errors import SERVICE, refusal, unanswered, unreadable
from perago.adapters.conductor.token import TokenSource
from perago.adapters.conductor.transport import RestTransport
from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError, retry
from perago.settings import ConductorSettings

_CONNECTIONS = 32  # kept for re-use; a supervisor's threads beat and report side by side


class Session:
    """`tasks`, `metadata` and `workflows` are the SDK's resource classes; `read` and `write` run their calls.

    Constructing one imports the SDK (about 0.3 s) and opens no connection.
    """

    def __init__(self, settings: ConductorSettings, policy: CallPolicy) -> None:
        from conductor.client.configuration.configuration import Configuration
        from conductor.client.http.api.metadata_resource_api import MetadataResourceApi
        from conductor.client.http.api.task_resource_api import TaskResourceApi
        from conductor.client.http.api.workflow_resource_api import WorkflowResourceApi
        from conductor.client.http.api_client import ApiClient

        self._policy = policy
        base_url = settings.server_url.rstrip("/")
        self._pool = HttpPool(SERVICE, base_url, headers={}, size=_CONNECTIONS, policy=policy)
        secret = settings.auth_secret.get_secret_value() if settings.auth_secret else None
        transport = RestTransport(self._pool, TokenSource(self._pool, settings.auth_key, secret))
        configuration = Configuration(server_api_url=base_url)
        configuration.authentication_settings = None  # else it fetches tokens by itself, see TokenSource
        configuration.http_connection = transport  # else it opens an HTTP client of its own
        configuration.host = ""  # the pool knows the base URL
        client = ApiClient(configuration)
        client.rest_client = transport
        self.tasks: Any = TaskResourceApi(client)
        self.metadata: Any = MetadataResourceApi(client)
        self.workflows: Any = WorkflowResourceApi(client)

    def read(self, operation: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Answer:
        """A call that is harmless to repeat, repeated while Conductor cannot be reached.

        Raises:
            ServiceError: never `Unclear`.
        """
        return retry(lambda: self.once(operation, call, *arguments, write=False, **options), self._policy)

    def once(
        self,
        operation: str,
        call: Callable[..., Any],
        *arguments: Any,
        write: bool = True,
        answer_within: float | None = None,
        **options: Any,
    ) -> Answer:
        """A call that is sent exactly once.

        Raises:
            Unclear: it is a write and its answer was lost.
            ServiceError: any other, by status.
        """
        seconds = answer_within or self._policy.answer
        try:
            answer: Answer = call(*arguments, _preload_content=False, _request_timeout=seconds, **options)
        except NoAnswerError as failure:
            raise unanswered(operation, failure, write=write) from failure
        if not 200 <= answer.status < 300:
            raise refusal(operation, answer, write=write)
        return answer

    def close(self) -> None:
        """Give back the connections."""
        self._pool.close()


def json_of(operation: str, answer: Answer, expected: type, what: str, *, write: bool = False) -> Any:
    """The answer's JSON exactly as on the wire.

    Raises:
        Unavailable: it is something else (`Unclear` after a write).
    """
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise unreadable(operation, what, write=write) from error
    if not isinstance(value, expected):
        raise unreadable(operation, what, write=write)
    return value

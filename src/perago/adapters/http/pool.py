"""One service's connections: keep-alive, nothing opened before the first request, no hidden retries.

The standard proxy and TLS variables (docs/design/contract.md 6) are read once per client.
"""

from __future__ import annotations

import ipaddress
import math
import os
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout, make_headers, parse_url

from perago.adapters.http.failures import AnswerTooLargeError, NoAnswerError, no_answer
from perago.adapters.http.retry import CallPolicy
from perago.adapters.http.wire import POOL_CLASSES, Judge
from perago.ports import Refused

_READ_SIZE = 64 * 1024

Body = bytes | Iterable[bytes | memoryview] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, of any status. Header names are looked up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpPool:
    """Connections to one service below one base URL.

    Args:
        service: `"lakeFS"` or `"Conductor"`, for messages.
        base_url: with scheme, without a trailing slash; requests name targets relative to it.
        size: connections to keep for re-use.
        judge: refuses addresses to which the host's name leads, before a request goes there.

    Raises:
        Refused: the URL, the proxy or the certificate bundle cannot be used.
    """

    def __init__(
        self,
        service: str,
        base_url: str,
        *,
        headers: Mapping[str, str],
        size: int,
        policy: CallPolicy,
        judge: Judge | None = None,
    ) -> None:
        url = parse_url(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(service, "set up the connection", "the server URL must look like https://host[:port]/path")
        self._policy = policy
        proxy = proxy_for(url.scheme, url.host, url.port)
        try:
            self.manager = _manager(service, url.scheme, proxy, size)
        except OSError as error:
            detail = f"the certificate bundle cannot be read: {error.strerror}"
            raise Refused(service, "set up the connection", detail) from error
        self._pool = self.manager.connection_from_url(base_url)
        self._pool.judge = judge  # type: ignore[attr-defined] # of POOL_CLASSES
        self._headers = dict(headers)
        forwarded = proxy is not None and url.scheme == "http"  # a plain proxy wants the whole URL in the request
        self._base = base_url if forwarded else (url.path or "")
        if forwarded and isinstance(self.manager, urllib3.ProxyManager):
            self._headers.update(self.manager.proxy_headers)

    def open(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        body: Body = None,
        answer_within: float | None = None,
        decode: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request and return its answer with the body still unread; the caller reads it whole or closes it.

        Args:
            answer_within: the longest silence, in seconds.
            decode: undo a compression that the request allowed.

        Raises:
            NoAnswerError: the transport failed.
        """
        try:
            return self._pool.urlopen(
                method,
                self._base + target,
                body=body,  # type: ignore[arg-type] # memoryviews are fine
                headers={**self._headers, **(headers or {})},  # type: ignore[dict-item]
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=Timeout(connect=self._policy.connect, read=answer_within or self._policy.answer),
                preload_content=False,
                decode_content=decode,
            )
        except (HTTPError, HTTPException, OSError) as error:
            raise no_answer(error) from error

    def call(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        body: Body = None,
        answer_within: float | None = None,
        lasting: float | None = None,
    ) -> Answer:
        """Send a request and return its whole answer.

        Args:
            answer_within: the longest silence, in seconds.
            lasting: time limit of the whole call, if its body is large.

        Raises:
            NoAnswerError: the transport failed, or the answer was cut off or trickled beyond the limit.
        """
        whole = lasting or self._policy.connect + (answer_within or self._policy.answer)
        limit = time.monotonic() + whole
        response = self.open(method, target, headers=headers, body=body, answer_within=answer_within, decode=True)
        return Answer(response.status, response.headers, read_whole(response, limit, self._policy.largest))

    def close(self) -> None:
        """Close the connections; requests after this fail."""
        self._pool.close()
        self.manager.clear()


def read_whole(response: BaseHTTPResponse, limit: float, largest: float = math.inf) -> bytes:
    """The rest of an answer's body.

    Args:
        limit: moment on the monotonic clock after which a trickling server is given up.
        largest: how many bytes there may be.

    Raises:
        NoAnswerError: cut off, not complete in time, or too large.
    """
    chunks: list[bytes] = []
    read = 0
    try:
        while (chunk := response.read1(_READ_SIZE)) and time.monotonic() <= limit and read <= largest:
            chunks.append(chunk)
            read += len(chunk)
    except (HTTPError, HTTPException, OSError) as error:
        response.close()
        raise no_answer(error) from error
    if chunk:
        response.close()
        if read > largest:
            raise AnswerTooLargeError(f"the answer is larger than {largest:,} bytes", sent=True)
        raise NoAnswerError("the answer did not end within the time limit", sent=True)
    response.release_conn()
    return b"".join(chunks)


def _manager(service: str, scheme: str, proxy: str | None, size: int) -> urllib3.PoolManager:
    context = tls_context() if scheme == "https" or (proxy or "").startswith("https:") else None
    if proxy is None:
        manager = urllib3.PoolManager(num_pools=1, maxsize=size, retries=False, ssl_context=context)
    elif proxy.startswith(("http://", "https://")):
        auth = parse_url(proxy).auth
        manager = urllib3.ProxyManager(
            proxy,
            num_pools=1,
            maxsize=size,
            retries=False,
            ssl_context=context,
            proxy_ssl_context=context,
            proxy_headers=make_headers(proxy_basic_auth=auth) if auth else None,
        )
    else:
        kind = proxy.split(":", 1)[0]
        raise Refused(service, "set up the connection", f"a {kind} proxy is not supported; use an http or https proxy")
    manager.pool_classes_by_scheme = POOL_CLASSES
    return manager


# ------------------------------------------------------------------- proxy and TLS variables

BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def proxy_for(scheme: str, host: str, port: int | None) -> str | None:
    """The proxy URL that `HTTP_PROXY`, `HTTPS_PROXY` or `ALL_PROXY` names for a server that `NO_PROXY` leaves to it."""
    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or _exempt(host, port, proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _exempt(host: str, port: int | None, proxies: dict[str, str]) -> bool:
    bare = host.strip("[]")
    if proxy_bypass_environment(f"{bare}:{port}" if port else bare, proxies):
        return True
    return any(_in_network(bare, entry.strip()) for entry in proxies.get("no", "").split(",") if "/" in entry)


def _in_network(host: str, network: str) -> bool:
    """Whether an address lies in a `NO_PROXY` entry such as `10.0.0.0/8`; names and malformed entries never do."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def tls_context() -> ssl.SSLContext:
    """A verifying context that trusts `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, else the system's store.

    OpenSSL itself honours `SSL_CERT_FILE` and `SSL_CERT_DIR` for the system's store.

    Raises:
        OSError: the bundle cannot be read.
    """
    for variable in BUNDLE_VARIABLES:
        bundle = os.environ.get(variable)
        if bundle:
            place = Path(bundle)
            return ssl.create_default_context(
                cafile=None if place.is_dir() else bundle, capath=bundle if place.is_dir() else None
            )
    return ssl.create_default_context()

"""The standard proxy and TLS variables (docs/design/contract.md 6), read once per client."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

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

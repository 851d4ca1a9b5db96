"""The standard variables for proxies and certificates, as every client of perago reads them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]


def proxy_for(scheme: str, host: str, port: int | None) -> str | None:
    """Return the URL of the proxy for a server by `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`; None: no
    proxy."""
    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    bare = host.strip("[]")
    if not proxy or proxy_bypass_environment(f"{bare}:{port}" if port else bare, proxies):
        return None
    for network in proxies.get("no", "").split(","):
        with contextlib.suppress(ValueError):  # names and malformed entries
            if "/" in network and ipaddress.ip_address(bare) in ipaddress.ip_network(network.strip(), strict=False):
                return None
    return proxy if "://" in proxy else f"http://{proxy}"


def ca_bundle() -> str:
    """Return the variable that replaces the system's store, as `NAME=value`; empty if none is set."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    return next((f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), "")


def tls_context() -> ssl.SSLContext:
    """Return a verifying context that trusts `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, else the system's store.

    OpenSSL itself honors `SSL_CERT_FILE` and `SSL_CERT_DIR` for the system's store.

    Raises:
        OSError: the bundle cannot be read.
    """
    bundle = ca_bundle().partition("=")[2]
    if bundle and Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle or None)

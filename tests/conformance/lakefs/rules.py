"""What lakeFS answers differently each time."""

from __future__ import annotations

import re

from ..normal import Rules

# A refusal by the API's schema goes on with the schema and the value; only its first line is compared.
RULES = Rules(
    ids={
        "id": re.compile(r"\b[0-9a-f]{64}\b"),
        "address": re.compile(r"local://[^\s\"']*/data/[0-9a-z/]+|\bdata/[0-9a-z/]{20,}"),
        "run": re.compile(r"\b[0-9a-v]{20}\b"),
    },
    times=frozenset(("creation_date", "mtime", "start_time", "end_time")),
    headers=frozenset(
        (
            "accept-ranges",
            "allow",
            "cache-control",
            "content-disposition",
            "content-range",
            "content-type",
            "etag",
            "last-modified",
            "location",
            "www-authenticate",
        )
    ),
    replaced=(
        (re.compile(r"\nSchema:\n.*", re.DOTALL), ""),
        (re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT"), "<date>"),
        (re.compile(r"\b202\d-\d\d-\d\dT[\d:.]+Z"), "<moment>"),
        (re.compile(r"(<address \d+>),[\w-]{43}"), r"\1"),  # signed
        (re.compile(r"alive! [0-9a-f-]{36}"), "alive!"),
        (re.compile(r"(?<!hook )run id '[^']*'"), "run id '<run>'"),
    ),
)

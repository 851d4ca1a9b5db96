"""75 spellings of secrets are redacted, and 200 texts without secrets stay as they are.

The secrets are made up, and joined here so that scanners of repositories do not report them.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from perago.history import redaction
from perago.history.redaction import known_secrets, redact, replace_known
from perago.settings.mask import Mask

S = "Xq7Zp2Lm9Vt4Kc8R"
LETTERS = "abcdefghijklmnopqrstuvwxyzabcdefghijkl"
TOKENS = [
    *("sk-" + S + S, "sk-" + "proj-" + S + "_" + S, "sk-" + "svcacct-" + S + S, "sk-" + "ant-api03-" + S + S),
    *("sk" + "_live_" + S + S, "rk" + "_live_" + S + S, "sk" + "_test_" + S + S, "wh" + "sec_" + S + S),
    *("AI" + "za" + S + S + "abc", "GOC" + "SPX-" + S + S, "ya" + "29." + S + S),
    *("np" + "m_" + S + S + "abcd", "S" + "G." + S + "abcdef." + S + S + "abc", "h" + "f_" + LETTERS[:34]),
    *("py" + "pi-AgE" + S + S + S, "hv" + "s." + S + S, "hv" + "b." + S + S, "gh" + "p_" + S + S, "glp" + "at-" + S),
    *("AK" + "IA" + "ABCDEFGH23456789", "xo" + "xb-" + S, "ey" + "Jh" + S + ".ey" + "J" + S + "." + S),
]
NAMES = [
    *("openai_key", "OPENAI_KEY", "anthropicKey", "fernet_key", "AIRFLOW__CORE__FERNET_KEY", "client-key-data"),
    *("keystore_pass", "truststorePass", "passwort", "Kennwort", "mot_de_passe", "stripe_key", "ldap_pass", "keyPass"),
    *("webhook_key", "aes_key", "azure_key", "db_pass", "api_key", "dbPassword"),
]
TEXTS = [
    *(f"<password>{S}</password>", f"<a><db:password>{S}</db:password></a>", f"<apiKey><![CDATA[{S}]]></apiKey>"),
    *(f'<add key="ApiKey" value="{S}" />', f'<property name="db.password" value="{S}"/>', f'<c password="{S}"/>'),
    *(f'<entry key="password">{S}</entry>', f"<token>\n  {S}\n</token>", f"<passwort>{S}</passwort>"),
    json.dumps({"a": json.dumps({"b": json.dumps({"password": S})})}),
    "body=" + json.dumps(json.dumps({"password": S, "n": 1})),
    "body=" + json.dumps({"a": json.dumps({"token": S})}),
    "body=" + json.dumps({"a": json.dumps({"b": json.dumps({"api_key": S})})}),
    f'sent "{{\\"token\\": \\"{S}\\", \\"n\\": 1}}"',
    *(
        f"GET https://h/v1?key={S}",
        f"https://h/v1?a=1&key={S}&b=2",
        f"https://h/cb?code={S}",
        f"https://h/cb?x=1&code=4/0{S}",
    ),
    *(f"jdbc:postgresql://h:5432/db?user=u&password={S}", f"jdbc:sqlserver://h:1433;user=u;password={S};"),
    *(f"jdbc:mysql://u:{S}@h:3306/db", f"jdbc:oracle:thin:scott/{S}@//h:1521/x", f"jdbc:oracle:thin:u/{S}@h:1521:x"),
    *(f"jdbc:sqlserver://h;password={{{S};x}};user=u", f"jdbc:db2://h:50000/db:user=u;password={S};"),
    *(f"openai_key = {S}", f"fernet_key: {S}", f"passwort: {S}", f"client-key-data: {S}", f"keystore_pass={S}"),
    *(json.dumps({"password": f'a" {S}'}), f"password='it\\'s {S}'", json.dumps(json.dumps({"password": f'a" {S}'}))),
    *(f"export OPENAI_KEY={S}", f"--openai-key {S}", f'{{"cut": 1, "fernet_key": "{S}", "n": '),
]
SPELLINGS: list[tuple[Any, str]] = [
    *((f"see {token} here", token) for token in TOKENS),
    *(({name: S}, S) for name in NAMES),
    *((text, S) for text in TEXTS),
]
_KEYS = ("primary", "foreign", "sort", "partition", "cache", "natural", "surrogate", "hash", "client", "map", "row")
_NAMES = ("customer", "order", "sk-learn", "npm_config_registry", "hf_model", "monkey", "passage", "compass")
HARMLESS: list[Any] = [
    *({f"{kind}_key": "customer_2024_01"} for kind in _KEYS),
    *(f"sort by key={name}, then code={code}" for name in _NAMES for code in ("US", "404", "HS-2024")),
    *(f"https://shop.example/{name}?key={name}&code={code}" for name in _NAMES for code in ("DE", "200", "2024-01-01")),
    *(
        f"<{tag}>{text}</{tag}>"
        for tag in ("key", "code", "author", "pattern", "tokenizer")
        for text in ("a1", "Ann", "7")
    ),
    *(f'<entry key="{name}" value="2024-raw/{name}.csv"/>' for name in _NAMES),
    *(f"jdbc:{kind}://db.example:5432/{name}" for kind in ("postgresql", "mysql") for name in _NAMES),
    *(f"s3://bucket/raw/{name}/part-0000{number}.parquet" for name in _NAMES for number in range(5)),
    *(json.dumps({"a": json.dumps({name: number})}) for name in _NAMES for number in range(3)),
    *(
        f"{prefix}{text}"
        for prefix in ("task-", "desk-", "risk_live_", "npm_", "hf_", "SG.", "pypi-", "hvs.")
        for text in ("one", "a-b", "2024")
    ),
    *(
        "Use <password> to log in",
        "<token> is a placeholder",
        "wrong passwort: try again",
        "sk-learn-contrib",
        "AIzawa",
    ),
    *("key: value", "code: 200", "key=7d793037a0760186574b0282f2f435e7", "?key=raw/2024.csv", "&code=HS20240101-7"),
    *(
        "6f1c2f9e-4a0b-4a57-9d5e-0a2f5d9a6b11",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        "2024-01-01T10:30:00Z",
    ),
    *("lakefs://lake/main/key=a1b2/token=5/part.parquet", "/raw/session_id=a1b2/a.csv", "pass=3 fail=2", "token=5"),
    *("    token = first(tokens)", '    token = row["token"]', "token_type=bearer1", "auth_time=0.2s"),
    *("auth: ok", "auth: failed, db: ok", "auth = disabled", "credentials: none", "token: null"),
    *("10:30@home", "error: no such column: api", "Tokens: 4096", "SELECT key, code FROM t WHERE key = 'a1'"),
]


def test_the_tables_are_large_enough() -> None:
    assert len(SPELLINGS) >= 75
    assert len(HARMLESS) >= 200


@pytest.mark.parametrize(("value", "secret"), SPELLINGS)
def test_spellings_of_secrets_are_redacted(value: Any, secret: str) -> None:
    clean, redactions = redact({"field": value})
    assert secret not in json.dumps(clean)
    assert redactions
    assert redact(clean) == (clean, {})


@pytest.mark.parametrize("value", HARMLESS)
def test_texts_without_secrets_stay_as_they_are(value: Any) -> None:
    assert redact({"field": value}) == ({"field": value}, {})


def as_line(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize(("value", "secret"), SPELLINGS)
def test_logs_and_reports_have_no_spelling_of_a_secret(value: Any, secret: str) -> None:
    text = f"first line\n{as_line(value)}\nlast line"
    assert secret not in Mask(by_form=True)(text)
    assert secret in Mask()(text)


@pytest.mark.parametrize("value", HARMLESS)
def test_logs_and_reports_keep_lines_without_secrets(value: Any) -> None:
    assert Mask(by_form=True)(as_line(value)) == as_line(value)


@pytest.mark.parametrize("piece", ["?key=1", "?key=", "key=", "token: a ", "token: a,", "authorization: "])
def test_a_long_line_costs_no_more_than_its_parts(piece: str) -> None:
    mask = Mask(by_form=True)
    mask(piece)

    def seconds(count: int) -> float:
        start = time.process_time()
        mask(piece * count)
        return time.process_time() - start

    short = min(seconds(2_000) for _ in range(3))
    assert min(seconds(64_000) for _ in range(2)) < 32 * short * 5


def test_a_line_of_json_stays_json() -> None:
    inner = json.dumps({"token": S, "rows": 3})
    line = Mask(by_form=True)(json.dumps({"password": S, "inner": inner, "rows": 3}))
    clean = json.loads(line)
    assert (clean["password"], clean["rows"]) == ("***", 3)
    assert json.loads(clean["inner"]) == {"token": "***", "rows": 3}


def test_a_private_key_of_several_lines_is_redacted_as_a_unit() -> None:
    key = f"-----BEGIN PRIVATE KEY-----\n{S}\n-----END PRIVATE KEY-----"
    assert Mask(by_form=True)(f"key:\n{key}\nend") == "key:\n***\nend"


def test_a_short_secret_is_redacted_elsewhere_as_a_whole_word() -> None:
    known = known_secrets({"/params/password": "hunt3r", "/params/pw": "abc"})
    value = ["mysql -u ann hunt3r", "hunt3rs", "user:hunt3r@h", "abc"]
    assert replace_known(value, known) == ["mysql -u ann ***", "hunt3rs", "user:***@h", "abc"]
    (mask,) = known.values()
    assert mask.finds(b"a,hunt3r\n")
    assert not mask.finds(b"hunt3rs")


def test_forms_of_other_tokens_come_from_the_extra() -> None:
    pytest.importorskip("kingfisher_sdk")  # the extra `secrets`
    token = "do" + "p_v1_" + "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    assert redact({"field": f"see {token} here"}) == ({"field": "see *** here"}, {"/field": token})


def test_without_the_extra_perago_searches_its_own_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kingfisher_sdk", None)
    redaction.token_scanner.cache_clear()
    try:
        assert redaction.token_scanner() is None
        assert redact(f"see {TOKENS[0]} here")[0] == "see *** here"
    finally:
        redaction.token_scanner.cache_clear()

"""Secrets are redacted wherever they are, and nothing else is."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, SecretStr, StringConstraints

from perago import task
from perago.history.redaction import known_secrets, redact, redact_definition, replace_known, schema_of
from perago.secret_names import looks_secret
from perago.settings.mask import REDACTED
from perago.taskdef import build_task_definition
from perago.testing.tasks import task_of


@pytest.mark.parametrize(
    "name",
    [
        *("password", "dbPassword", "api_key", "API-KEY", "apiKey", "authToken", "AWS_SECRET", "accessKeyId"),
        *("PGPASSWORD", "signing_key", "signingKeys", "jwt", "dsn", "SENTRY_DSN", "cookie", "Set-Cookie", "csrftoken"),
        *("db_pass", "privatekey", "refresh_token", "ENCRYPTION_KEY", "connectionString", "passwords"),
        *("session_id", "sessionid", "JSESSIONID", "PHPSESSID", "pass", "pw", "db_pw", "pat", "github_pat", "sas"),
        *("pem", "private_key_pem", "tls_key", "rsa_key", "csrf"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("tokenizer", "key", "primary_key", "author", "passengers", "monkey_api", "secretary", "max_tokens"),
        *("high_pass", "bypass", "compass", "keyboard", "hotkey", "sequence", "cookiecutter"),
        *("token_count", "token_limit", "password_length", "pass_count", "path_pat", "pattern", "sash", "session"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not looks_secret(name)


def test_only_texts_are_struck_out_at_any_depth() -> None:
    value = {"token": {"a": "x", "n": 5}, "list": [{"password": "p"}], "max_tokens": 4, "plain": "y"}
    schema = {"properties": {"plain": {"anyOf": [{"type": "null"}, {"format": "password"}]}}}

    clean, struck = redact(value, schema, "/params")
    assert clean == {
        "token": {"a": REDACTED, "n": 5},
        "list": [{"password": REDACTED}],
        "max_tokens": 4,
        "plain": REDACTED,
    }
    assert struck == {"/params/token/a": "x", "/params/list/0/password": "p", "/params/plain": "y"}


SECRET = "S3cr3tV4lue99xyz"


@pytest.mark.parametrize(
    "value",
    [
        # JSON in texts
        json.dumps({"db": {"password": SECRET}, "n": 1}),
        json.dumps([{"c": json.dumps({"api_key": SECRET})}]),
        '{"cut": "off", "password": "' + SECRET + '", "n": ',
        # fields whose names are values
        [{"name": "PGPASSWORD", "value": SECRET}],
        [{"key": "Authorization", "value": SECRET}],
        {"Name": "api-key", "Value": SECRET},
        ["x-api-key", SECRET],
        # assignments
        f"password: {SECRET}\nuser: a",
        f"password = {SECRET}",
        f"password:{SECRET}",
        f'password = "{SECRET} x"',
        f"login failed for ann, password: {SECRET}",
        f"url=https://h/?a=1&access_token={SECRET}",
        f"https://h/?next=https%3A%2F%2Fx%2F%3Faccess_token%3D{SECRET}",
        f"https://h/?next=https%253A%252F%252Fx%252F%253Fsig%253D{SECRET}",
        f"postgres://u:a/{SECRET}@h/db",
        # headers
        f"curl -H 'Authorization: Bearer {SECRET}' https://h/",
        [f"Authorization: token {SECRET}"],
        [f"Cookie: a=b; c={SECRET}"],
        f"sent bearer {SECRET}",
        ["Bearer", SECRET],
        # options
        f"mysql --password {SECRET} db",
        f"curl -u user:{SECRET} https://h/",
        ["curl", "-u", f"user:{SECRET}"],
        ["run", "--token", SECRET],
        [f"--token={SECRET}"],
        # shapes
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"see ghp_{SECRET}{SECRET}",
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}",
        f"https://hooks.slack.com/services/T000/B000/{SECRET}",
    ],
)
def test_secrets_in_texts_and_lists_are_redacted(value: Any) -> None:
    clean, struck = redact({"field": value})
    assert SECRET not in json.dumps(clean)
    assert any(SECRET in secret for secret in struck.values())
    assert redact(clean) == (clean, {})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password: x", "password: ***"),
        ("password = x", "password = ***"),
        ("user: ann password: swordfish host: h", "user: ann password: *** host: h"),
        ("- api_key: abcdefghijkl\n- b: c", "- api_key: ***\n- b: c"),
        ("AKIAIOSFODNN7EXAMPLE is used", "*** is used"),
        ("Authorization: Basic YTpi", "Authorization: Basic ***"),
        ("Basic YWxhZGRpbjpvcGVu", "Basic ***"),
        ('{"password": "x", "n": [1]}', '{"password": "***", "n": [1]}'),
    ],
)
def test_only_the_secret_of_a_text_is_redacted(text: str, shown: str) -> None:
    assert redact(text)[0] == shown


@pytest.mark.parametrize(
    "value",
    [
        *("max_tokens: 4096", "token_count=12", "token = 5", "passenger: Ann-1", "compass: N1", "pin: 1234"),
        *("wrong password: try again", "unexpected token: line 5", "the password must be set", "basic python3.11-dev"),
        *("Basic authentication", "bearer shares", "docker run -u 1000:1000 image", "https://h:80/a%20b@c"),
        *('{ "n":  1, "max_tokens": 5 }', "[not JSON", "[" * 100_000, "eyJ.a.b", "AKIAlpha", "10:30"),
        ["--password", "--verbose"],
        ["tokens", "words"],
        {"name": "column", "value": "v1"},
        {"name": "passengers", "value": 7},
        {"password_length": 12, "has_password": True, "pin": 1234, "max_tokens": 7},
    ],
)
def test_texts_without_secrets_stay_as_they_are(value: Any) -> None:
    assert redact({"field": value}) == ({"field": value}, {})


def test_a_password_that_is_a_number_is_redacted() -> None:
    clean, struck = redact({"db_password": 12345678, "passcode": 1.5, "n": {"name": "pwd", "value": 42}})
    assert clean == {"db_password": 0, "passcode": 0.0, "n": {"name": "pwd", "value": 0}}
    assert sorted(struck.values()) == ["1.5", "12345678", "42"]


@pytest.mark.parametrize(
    "piece", ["a", "a1+/", "password:", "://a:", "eyJa.", "cookie: a ", "--token ", "%25", "-u a:"]
)
def test_a_long_text_is_redacted_in_linear_time(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    before = time.process_time()
    redact(text)
    assert time.process_time() - before < 10.0


def test_a_secret_is_found_in_each_place_where_a_model_may_have_one() -> None:
    class Nothing(BaseModel):
        pass

    class Login(BaseModel):
        code: SecretStr

    class Params(BaseModel):
        login: Login | None
        several: list[SecretStr] | None
        pair: tuple[int, SecretStr]
        named: dict[str, SecretStr] | None
        short: dict[Annotated[str, StringConstraints(pattern="^a")], SecretStr]

    @task(name="replay.login", owner_email="data@example.com")
    def login(params: Params) -> Nothing:
        return Nothing()

    schema = schema_of(build_task_definition(task_of(login)), "params")
    value = {"login": {"code": "1"}, "several": ["2"], "pair": [7, "3"], "named": {"n": "4"}, "short": {"a": "5"}}

    clean, struck = redact(value, schema)
    assert sorted(struck.values()) == ["1", "2", "3", "4", "5"]
    assert clean == {
        "login": {"code": REDACTED},
        "several": [REDACTED],
        "pair": [7, REDACTED],
        "named": {"n": REDACTED},
        "short": {"a": REDACTED},
    }


def test_passwords_in_urls_are_struck_out() -> None:
    value = {"url": "postgres://me:hunter:2@db:5432/x?a@b", "hosts": "s3://a/b c@d, amqp://:p@ss@mq and http://u:q@h"}

    clean, struck = redact(value)
    assert clean == {
        "url": "postgres://me:***@db:5432/x?a@b",
        "hosts": "s3://a/b c@d, amqp://:***@mq and http://u:***@h",
    }
    assert sorted(struck.values()) == ["hunter:2", "p@ss", "q"]
    plain = {"url": "http://host:80/a@b", "mail": "a@b.example", "times": "12:30@home"}
    assert redact(plain) == (plain, {})
    assert redact(clean) == (clean, {})


def test_secret_parameters_of_addresses_and_connections_are_struck_out() -> None:
    value = {
        "blob": "https://a.blob.example/c?sv=2024&sig=s1%2Fs2%3D&se=9",
        "s3": "https://b.example/k?X-Amz-Signature=s3&X-Amz-Credential=s4%2Fus&part=7",
        "login": "see https://c.example/#access_token=s5&state=ok or host=db password='s6 s7' port=5",
        "https://d.example/?sig=s8": "https://0123456789abcdef-s9@e.example/",
    }
    clean, struck = redact(value)
    assert clean == {
        "blob": "https://a.blob.example/c?sv=2024&sig=***&se=9",
        "s3": "https://b.example/k?X-Amz-Signature=***&X-Amz-Credential=***&part=7",
        "login": "see https://c.example/#access_token=***&state=ok or host=db password=*** port=5",
        "https://d.example/?sig=***": "https://***@e.example/",
    }
    assert sorted(struck.values()) == [
        "0123456789abcdef-s9",
        "s1%2Fs2%3D",
        "s3",
        "s4%2Fus",
        "s5",
        "s6 s7",
        "s8",
    ]
    assert redact(clean) == (clean, {})


def test_secrets_that_are_keys_of_maps_are_struck_out() -> None:
    value = {
        "tokens": {"tok-1234": "ann", "tok-5678": "bob", "note": 1},
        "named": {"any": 3},
        "plain": {"tok-1234": "kept until it is known"},
        "sentence": {"tokens": ["a", "b"]},
        "all": {"tokens": ["0123456789abcdef"]},
    }
    schema = {"properties": {"named": {"propertyNames": {"format": "password"}}}}
    clean, struck = redact(value, schema, "/params")
    assert clean == {
        "tokens": {"***": "***", "*** (2)": "***", "note": 1},
        "named": {"***": 3},
        "plain": {"tok-1234": "kept until it is known"},
        "sentence": {"tokens": ["a", "b"]},
        "all": {"tokens": ["***"]},
    }
    assert struck["/params/tokens (key)"] == "tok-1234"
    assert replace_known(clean, known_secrets(struck))["plain"] == {"***": "kept until it is known"}


def test_fields_that_a_schema_names_keep_their_keys() -> None:
    schema: dict[str, Any] = {"properties": {"credentials": {"properties": {"user_of_2024": {}}}}}
    value = {"credentials": {"user_of_2024": "ann", "other_of_2024": "bob"}}
    assert redact(value, schema)[0] == {"credentials": {"user_of_2024": "***", "***": "***"}}


def test_a_definition_loses_its_secrets_and_keeps_its_schemas() -> None:
    fields = {
        "properties": {"api_key": {"type": "string", "default": "d1", "examples": ["d2"], "enum": ["d1"]}, "code": {}}
    }
    secret = {"properties": {"code": {"anyOf": [{"format": "password"}, {"type": "null"}], "default": "d3"}}}
    definition = {
        "name": "a",
        "description": "reads https://host/?sig=d4",
        "inputSchema": {"data": {"properties": {"params": fields, "secret": secret}, "required": ["api_key"]}},
        "inputTemplate": {"params": {"api_key": "d5", "n": 1}, "secret": {"code": "d6"}, "PGPASSWORD": "d7"},
    }
    clean, struck = redact_definition(definition)
    assert sorted(struck.values()) == ["d1", "d1", "d2", "d3", "d4", "d5", "d6", "d7"]
    assert clean["inputTemplate"] == {
        "params": {"api_key": "***", "n": 1},
        "secret": {"code": "***"},
        "PGPASSWORD": "***",
    }
    data = clean["inputSchema"]["data"]
    assert data["properties"]["params"]["properties"]["api_key"] == {
        "type": "string",
        "default": "***",
        "examples": ["***"],
        "enum": ["***"],
    }
    assert data["required"] == ["api_key"]


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_secret_of_several_lines_is_found_in_json(ensure_ascii: bool) -> None:
    secret = "BEGIN\nkéy\nEND"
    (mask,) = known_secrets({"/params/key": secret}).values()
    assert mask.finds(json.dumps({"k": secret}, ensure_ascii=ensure_ascii).encode())
    assert not mask.finds(b"BEGIN END")

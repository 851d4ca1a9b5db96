"""Secrets, modules, and verdicts of a backtest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, SecretStr, StringConstraints

from perago import task
from perago.authoring.task import get_task
from perago.replay.modules import modules_that_declare
from perago.replay.secrets import STRUCK_OUT, known_in, looks_secret, schema_of, strike_out
from perago.replay.verdicts import Kind, State, Verdict, by_file_and_column
from perago.taskdef import build_task_definition


@pytest.mark.parametrize(
    "name", ["password", "dbPassword", "api_key", "API-KEY", "apiKey", "authToken", "AWS_SECRET", "accessKeyId"]
)
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["tokenizer", "key", "primary_key", "author", "passengers", "monkey_api", "secretary"])
def test_names_of_other_things(name: str) -> None:
    assert not looks_secret(name)


def test_only_texts_are_struck_out_at_any_depth() -> None:
    value = {"token": {"a": "x", "n": 5}, "list": [{"password": "p"}], "max_tokens": 4, "plain": "y"}
    schema = {"properties": {"plain": {"anyOf": [{"type": "null"}, {"format": "password"}]}}}

    kept, struck = strike_out(value, schema, "/params")
    assert kept == {
        "token": {"a": STRUCK_OUT, "n": 5},
        "list": [{"password": STRUCK_OUT}],
        "max_tokens": 4,
        "plain": STRUCK_OUT,
    }
    assert struck == {"/params/token/a": "x", "/params/list/0/password": "p", "/params/plain": "y"}


def test_a_module_is_found_by_its_source_and_not_imported(tmp_path: Path) -> None:
    for path, text in {
        "app/tasks.py": "import perago\nraise SystemExit\n@perago.task(name='a.b', owner_email='x')\ndef f(): ...\n",
        "app/other.py": "NAME = 'a.b'\n",
        "app/broken.py": "a.b (\n",
        "app/__init__.py": "",
        "solo/__init__.py": "@task(name='solo')\ndef f(): ...\n",
        ".venv/tasks.py": "@task(name='a.b')\ndef f(): ...\n",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)

    assert modules_that_declare("a.b", tmp_path) == ("app.tasks",)
    assert modules_that_declare("solo", tmp_path) == ("solo",)
    assert modules_that_declare("none", tmp_path) == ()


def test_a_state_is_good_for_one_task_and_one_code(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    verdict = Verdict("t1", "w", 1, Kind.DIFFERENT, 1.0, 5.0, ("a.csv: x",), {"a.csv": ("x",)})
    state = State(file, "task", "code")
    state.keep(verdict)
    state.keep(Verdict("t2", "w", 1, Kind.UNREADABLE))

    again = State(file, "task", "code")
    assert again.known("t1") == Verdict("t1", "w", 1, Kind.DIFFERENT, 1.0, 5.0, ("a.csv: x",), {"a.csv": ["x"]})
    assert again.known("t2") is None
    assert State(file, "task", "new code").is_outdated
    assert State(file, "task", "new code").known("t1") is None
    file.write_text("[]")
    with pytest.raises(ValueError, match="is no file of a backtest"):
        State(file, "task", "code")


def test_slower_means_twice_as_long_and_a_second_more() -> None:
    def verdict(then: float | None, now: float | None) -> Verdict:
        return Verdict("t", "w", 1, Kind.SAME, then, now)

    assert verdict(1.0, 2.5).is_slower
    assert not verdict(0.1, 0.9).is_slower
    assert not verdict(10.0, 15.0).is_slower
    assert not verdict(None, 15.0).is_slower


def test_differences_are_summed_up_by_file_and_column() -> None:
    found = [
        Verdict("1", "w", 1, Kind.DIFFERENT, files={"a.csv": ("x", "y"), "b.bin": ()}),
        Verdict("2", "w", 1, Kind.DIFFERENT, files={"a.csv": ("x",)}),
    ]
    assert by_file_and_column(found) == [("a.csv", "x", 2), ("a.csv", "y", 1), ("b.bin", "", 1)]


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

    declared = get_task(login)
    assert declared is not None
    schema = schema_of(build_task_definition(declared), "params")
    value = {"login": {"code": "1"}, "several": ["2"], "pair": [7, "3"], "named": {"n": "4"}, "short": {"a": "5"}}

    kept, struck = strike_out(value, schema)
    assert sorted(struck.values()) == ["1", "2", "3", "4", "5"]
    assert kept == {
        "login": {"code": STRUCK_OUT},
        "several": [STRUCK_OUT],
        "pair": [7, STRUCK_OUT],
        "named": {"n": STRUCK_OUT},
        "short": {"a": STRUCK_OUT},
    }


def test_passwords_in_urls_are_struck_out() -> None:
    value = {"dsn": "postgres://me:hunter:2@db:5432/x?a@b", "hosts": "s3://a/b c@d, amqp://:p@ss@mq and http://u:q@h"}

    kept, struck = strike_out(value)
    assert kept == {
        "dsn": "postgres://me:***@db:5432/x?a@b",
        "hosts": "s3://a/b c@d, amqp://:***@mq and http://u:***@h",
    }
    assert sorted(struck.values()) == ["hunter:2", "p@ss", "q"]
    plain = {"url": "http://host:80/a@b", "mail": "a@b.example", "times": "12:30@home"}
    assert strike_out(plain) == (plain, {})
    assert strike_out(kept) == (kept, {})


def test_a_secret_of_several_lines_is_found_in_json() -> None:
    secret = {"/params/key": "BEGIN\nkéy\nEND"}

    assert known_in(json.dumps({"k": secret["/params/key"]}).encode(), secret) == "/params/key"
    assert known_in(json.dumps({"k": secret["/params/key"]}, ensure_ascii=False).encode(), secret) == "/params/key"
    assert known_in(b"BEGIN END", secret) is None

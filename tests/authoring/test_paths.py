"""The canonical form of declared paths, and every rejection with its own message."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from perago import TaskDefinitionError, WorkspaceSpec, forbid_glob, require_glob
from perago.authoring import Guardrail
from perago.guardrails import GUARDRAILS

RULES: list[Callable[..., Guardrail]] = list(GUARDRAILS.values())
FORMAT = {"require_table": {"format": "csv"}}
"""For a pattern that does not tell it."""


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        pytest.param("raw/a.csv", "raw/a.csv", id="already canonical"),
        pytest.param("./raw/a.csv", "raw/a.csv", id="leading dot"),
        pytest.param("././raw//a.csv", "raw/a.csv", id="dots and doubled slashes"),
        pytest.param("raw/./a.csv", "raw/a.csv", id="dot inside"),
        pytest.param("raw/", "raw", id="trailing slash"),
        pytest.param(".hidden/..a", ".hidden/..a", id="names that begin with dots"),
        pytest.param(" a b ", " a b ", id="blanks are part of names"),
        pytest.param("größe/日本.csv", "größe/日本.csv", id="non-ASCII"),
        pytest.param(PurePosixPath("raw") / "a.csv", "raw/a.csv", id="PurePosixPath"),
        pytest.param(PureWindowsPath("raw") / "a.csv", "raw/a.csv", id="PureWindowsPath"),
        pytest.param(PureWindowsPath("raw\\sub\\a.csv"), "raw/sub/a.csv", id="PureWindowsPath with backslashes"),
    ],
)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_path_is_kept_in_its_canonical_form(
    rule: Callable[..., Guardrail], path: str | os.PathLike[str], canonical: str
) -> None:
    declared = rule(path, **FORMAT.get(rule.__name__, {}))
    assert repr(canonical) in str(declared)


REJECTED = [
    pytest.param("/raw", "is absolute", id="absolute"),
    pytest.param(PureWindowsPath("/raw"), "is absolute", id="absolute Windows path"),
    pytest.param("C:/raw", "names a drive", id="drive"),
    pytest.param("C:\\raw", "names a drive", id="drive with a backslash"),
    pytest.param(PureWindowsPath("C:\\raw"), "names a drive", id="drive of a Windows path"),
    pytest.param("\\\\server\\share\\raw", "is a UNC path", id="UNC"),
    pytest.param("..", "contains '..'", id="parent"),
    pytest.param("raw/../../etc", "contains '..'", id="parent inside"),
    pytest.param("raw\\a.csv", "contains a backslash", id="backslash"),
    pytest.param("", "is empty", id="empty"),
    pytest.param(".", "is empty after normalising", id="the workspace itself"),
    pytest.param(PurePosixPath(), "is empty after normalising", id="empty POSIX path"),
    pytest.param("raw/a\n.csv", "control character", id="newline"),
    pytest.param("raw/\x85", "control character", id="C1"),
    pytest.param("raw/\ud800", "surrogate", id="lone surrogate"),
    pytest.param(b"raw", "not bytes", id="bytes"),
    pytest.param(None, "not NoneType", id="None"),
]


@pytest.mark.parametrize(("path", "message"), REJECTED)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_path_outside_of_the_workspace_is_refused_with_its_reason(
    rule: Callable[[object], Guardrail], path: object, message: str
) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        rule(path)
    assert message in caught.value.message
    assert caught.value.message.startswith(rule.__name__)
    assert caught.value.file == __file__
    assert caught.value.fix


@pytest.mark.parametrize("pattern", ["raw/a**", "**.csv", "***", "a/**b/c"])
@pytest.mark.parametrize("rule", [require_glob, forbid_glob], ids=["require", "forbid"])
def test_two_stars_must_be_a_complete_component(rule: Callable[[str], Guardrail], pattern: str) -> None:
    with pytest.raises(TaskDefinitionError, match="whole path component"):
        rule(pattern)


@pytest.mark.parametrize(
    ("minimum", "maximum", "message"),
    [
        pytest.param(-1, None, "min_count is -1", id="negative minimum"),
        pytest.param(0, -1, "max_count is -1", id="negative maximum"),
        pytest.param(3, 2, "max_count 2 is less than min_count 3", id="maximum below minimum"),
        pytest.param(True, None, "min_count must be a whole number, not bool", id="bool as minimum"),
        pytest.param(0, True, "max_count must be a whole number, not bool", id="bool as maximum"),
        pytest.param(1.0, None, "min_count must be a whole number, not float", id="float"),
        pytest.param("1", None, "min_count must be a whole number, not str", id="text"),
        pytest.param(None, None, "min_count must be a whole number, not NoneType", id="None"),
    ],
)
def test_counts_that_no_tree_can_have_are_refused(minimum: object, maximum: object, message: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        require_glob("raw/*", minimum, maximum)  # type: ignore[arg-type]
    assert message in caught.value.message


def test_a_misspelt_argument_of_a_rule_is_named_with_its_line() -> None:
    with pytest.raises(
        TaskDefinitionError, match="unexpected keyword argument 'min_cuont'; did you mean 'min_count'"
    ) as caught:
        require_glob("raw/*", min_cuont=1)  # type: ignore[call-arg]
    assert caught.value.fix == "it takes pattern, min_count, max_count, min_bytes"
    assert caught.value.file == __file__


@pytest.mark.parametrize(
    ("prefix", "canonical", "key_prefix"),
    [
        ("/", "", ""),
        ("//", "", ""),
        ("audio/render", "audio/render", "audio/render/"),
        ("/audio/render", "audio/render", "audio/render/"),
        ("/audio/render/", "audio/render", "audio/render/"),
        ("./audio//render", "audio/render", "audio/render/"),
        (PurePosixPath("/audio"), "audio", "audio/"),
        ("_lakefs_actions_of_mine", "_lakefs_actions_of_mine", "_lakefs_actions_of_mine/"),
    ],
)
def test_a_prefix_is_canonical(prefix: str | os.PathLike[str], canonical: str, key_prefix: str) -> None:
    spec = WorkspaceSpec(prefix=prefix)
    assert (spec.prefix, spec.key_prefix) == (canonical, key_prefix)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        pytest.param("", "the prefix is empty", id="empty"),
        pytest.param(".", "is not a prefix", id="dot"),
        pytest.param("./", "is not a prefix", id="dot and slash"),
        pytest.param("/.", "is empty after normalising", id="slash and dot"),
        pytest.param("..", "contains '..'", id="parent"),
        pytest.param("/audio/../x", "contains '..'", id="parent inside"),
        pytest.param("audio\\render", "contains a backslash", id="backslash"),
        pytest.param("C:/audio", "names a drive", id="drive"),
        pytest.param("_lakefs_actions", "never part of a workspace", id="fence directory"),
        pytest.param("/_lakefs_actions/x", "never part of a workspace", id="inside the fence directory"),
        pytest.param("audio\t", "control character", id="control character"),
        pytest.param(None, "not NoneType", id="None"),
    ],
)
def test_a_prefix_outside_of_the_rules_is_refused(prefix: object, message: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        WorkspaceSpec(prefix=prefix)  # type: ignore[arg-type]
    assert message in caught.value.message
    assert caught.value.file == __file__

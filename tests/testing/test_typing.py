"""Type checkers of users read the annotations. What they infer is in `user_types.py`, which mypy checks."""

from __future__ import annotations

from importlib.resources import files

import pytest


@pytest.mark.parametrize("package", ["perago", "pytest_perago"])
def test_a_package_says_that_it_is_typed(package: str) -> None:
    assert files(package).joinpath("py.typed").is_file()

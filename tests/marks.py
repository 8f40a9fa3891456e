"""Marks for single cases of a test."""

from typing import Any

import pytest


def large(value: Any) -> Any:
    """A case that runs with `make cosim`: one more of a kind that the default tests have."""
    return pytest.param(value, marks=pytest.mark.large)

"""Marks for single cases of a test."""

from typing import Any

import pytest


def large(*values: Any) -> Any:
    """A case that runs with `make large`: one more of a kind that the default tests have."""
    return pytest.param(*values, marks=pytest.mark.large)

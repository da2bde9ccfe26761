"""Fixtures of the metrics' tests."""

import pytest


@pytest.fixture(autouse=True)
def _classifiers_are_those_of_users(boosted) -> None:
    """Tests of the metrics themselves train their classifiers to the end."""

"""The C library is compiled before the first test, which would else take the blame for the time."""

import pytest

from support.native import native


@pytest.fixture(scope="session", autouse=True)
def built():
    native()

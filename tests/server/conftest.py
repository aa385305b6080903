import inspect

import pytest


def pytest_collection_modifyitems(items):
    """Tests of the server that are coroutines run on trio."""
    for item in items:
        if inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.trio)

"""What holds for all tests: none of them fails because the machine is slow, and the longest of them begin first."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
LONGEST = (
    "test_demo", "test_chaos", "test_openapi", "test_budget", "test_restored", "test_two_coordinators", "test_tutorial",
    "test_processes", "test_secure_dropouts", "test_private", "test_secure_chaos", "test_wheel", "test_secure_sum",
)  # fmt: skip
"""Files whose tests take a minute or more; who begins with them is not kept waiting by the last of them."""


def _weight(item: pytest.Item) -> int:
    path: Path = item.path
    if path.stem in LONGEST:
        return LONGEST.index(path.stem)
    return len(LONGEST) + ("e2e" not in path.parts)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order by weight; within a file, as it is written."""
    items.sort(key=_weight)

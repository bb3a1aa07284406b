"""What holds for all tests: none of them fails because the machine is slow, and the longest of them begin first."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
LONGEST = (
    "test_demo", "test_chaos", "test_secure_chaos", "test_wheel", "test_openapi", "test_private",
    "test_two_coordinators", "test_seats", "test_strategies_between_sites", "test_secure_sum", "test_sandbox",
    "test_budget", "test_round", "test_omop", "test_ledger", "test_desk", "test_secagg_attacks", "test_secagg_traps",
    "test_clipped", "test_quorum", "test_mechanism",
)  # fmt: skip
"""Files whose tests take longest; who begins with them is not kept waiting by the last of them."""


def _weight(item: pytest.Item) -> int:
    path: Path = item.path
    if path.stem in LONGEST:
        return LONGEST.index(path.stem)
    return len(LONGEST) + ("e2e" not in path.parts)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order by weight; within a file, as it is written."""
    items.sort(key=_weight)

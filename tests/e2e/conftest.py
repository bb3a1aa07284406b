"""Fixtures of the end-to-end tests: real processes, real TLS, a real PostgreSQL."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e import processes
from e2e.coordinator import Coordinator
from e2e.nursery import Nursery
from e2e.postgres import Postgres, missing
from e2e.processes import environment
from e2e.victim import Victim

Make = Callable[[str | None], Coordinator]


@pytest.fixture(scope="session", autouse=True)
def no_foreign_settings() -> Iterator[None]:
    """Neither a proxy nor a setting of the person who runs the tests reaches them."""
    before = dict(os.environ)
    for name in before.keys() - environment().keys():
        del os.environ[name]
    processes.nursery = Nursery()
    yield
    os.environ.update(before)


@pytest.fixture(scope="session")
def make_coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Make and start coordinators: `make_coordinator(None)` on SQLite, `make_coordinator(url)` on PostgreSQL."""
    made: list[Coordinator] = []

    def make(database: str | None) -> Coordinator:
        folder: Path = tmp_path_factory.mktemp("coordinator")
        coordinator = Coordinator(folder, database)
        made.append(coordinator)
        coordinator.start()
        return coordinator

    yield make
    for coordinator in made:
        coordinator.process.kill()


@pytest.fixture(scope="module")
def coordinator(make_coordinator: Make) -> Iterator[Coordinator]:
    """A coordinator on SQLite for the tests of one file; it must end cleanly."""
    made = make_coordinator(None)
    yield made
    if made.process.alive:
        assert made.stop() == 0, made.process.said[-3000:]


def _serving() -> Iterator[Postgres]:
    why = missing()
    if why is not None:
        pytest.skip(why)
    made = Postgres()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A PostgreSQL for the tests of one file, which may stop it."""
    yield from _serving()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL server; `postgres()` makes a fresh database and gives its URL."""
    yield from _serving()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def victim(request: pytest.FixtureRequest, make_coordinator: Make) -> Iterator[Victim]:
    """A coordinator on each database, to be asked for what it must refuse; nothing breaks inside."""
    postgres: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    made = make_coordinator(postgres() if postgres else None)
    yield Victim(made)
    assert made.stop() == 0
    assert "Traceback" not in made.process.said, made.process.said[-3000:]

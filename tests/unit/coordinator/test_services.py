"""What all sites of a round ask for in the same moment is made once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from consilium.coordinator import steps
from consilium.coordinator.app import Settings, make_services
from consilium.coordinator.services import Services
from consilium.core.errors import NotFound
from consilium.wire.identity import Identity


@pytest.fixture
def services(tmp_path: Path) -> Any:
    Identity.create(tmp_path / "identity.key")
    made = make_services(
        Settings(
            home=tmp_path, host="127.0.0.1", port=1, url="https://127.0.0.1:1",
            database=f"sqlite:///{tmp_path / 'db.sqlite'}", blobs=tmp_path / "blobs",
            certificate=tmp_path / "none", key=tmp_path / "none", ca=None,
        )
    )  # fmt: skip
    yield made
    made.database.close()


@pytest.mark.parametrize("asked", ["opening", "said"])
def test_what_many_ask_for_is_made_for_the_first_and_given_to_all(
    services: Services, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(steps, "opening", lambda tx, shelf, run, number: made.append(run) or b"%d" % number)
    monkeypatch.setattr(steps, "said", lambda tx, run, number, attempt, phase: made.append(run) or {})

    async def ask() -> set[bytes]:
        many = [services.opening("r", 3) if asked == "opening" else services.said("r", 3, 1, "MASK") for _ in range(9)]
        first = asyncio.ensure_future(many.pop())
        await asyncio.sleep(0)
        first.cancel()  # who asked first has gone
        return set(await asyncio.gather(*many))

    assert asyncio.run(ask()) == ({b"3"} if asked == "opening" else {b""})
    assert made == ["r"]


def test_what_is_not_there_is_asked_for_again(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> bytes:
        raise NotFound("none", "wait")

    async def ask() -> bytes:
        monkeypatch.setattr(steps, "opening", none)
        told = await asyncio.gather(*(services.opening("r", 3) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in told] == [NotFound] * 3
        monkeypatch.setattr(steps, "opening", lambda *_: b"there")
        return await services.opening("r", 3)

    assert asyncio.run(ask()) == b"there"

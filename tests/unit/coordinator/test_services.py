"""What all sites of a round ask for in the same moment is made once."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consilium.coordinator import steps
from consilium.coordinator.app import Settings, make_services
from consilium.coordinator.services import Services
from consilium.core import round as machine
from consilium.core.changed import changed
from consilium.core.errors import NotFound, Refused
from consilium.core.round import Phase
from consilium.store.database import Transaction
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


def opens(phase: Phase, *answered: str) -> Any:
    """A run whose round 3 is in this phase, which these sites have answered."""
    roster = frozenset("abc")
    at = machine.SECURE_SUM.index(phase)
    before = {one: dict.fromkeys(roster, "x") for one in machine.SECURE_SUM[:at]} | {phase: dict.fromkeys(answered)}
    round_ = machine.Round(3, machine.Kind.TRAIN, machine.SECURE_SUM, roster, 3, at=at, answers=before)  # type: ignore[arg-type]
    return SimpleNamespace(run="r", fold=SimpleNamespace(round=round_, current=(3, 1)))


def test_that_nothing_was_confirmed_is_known_without_asking_for_it(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sites that are asked to open are shown who masked, where CONFIRM was left out."""
    monkeypatch.setattr(steps, "said", lambda tx, run, number, attempt, of: {"a": b"1"} if of == Phase.MASK else {})
    conduct = opens(Phase.CONFIRM)
    left = tuple(phase for phase in machine.SECURE_SUM if phase is not Phase.CONFIRM)
    conduct.fold.round = changed(conduct.fold.round, phases=left)
    services.database.run_here(lambda tx: services.ahead(tx, conduct))
    assert services.heard == {("r", 3, 1, Phase.MASK): b'"a":1', ("r", 3, 1, Phase.CONFIRM): b""}


@pytest.mark.parametrize("phase", [Phase.READY, Phase.MASK])
def test_what_goes_with_the_tasks_of_a_phase_is_at_hand_once_it_has_opened(
    services: Services, phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not before: of what is undone nothing is kept, and nobody is woken who would not find it."""
    made = list[str]()
    monkeypatch.setattr(steps, "opening", lambda tx, shelf, run, number: made.append("opening") or b"%d" % number)
    monkeypatch.setattr(steps, "said", lambda tx, run, number, attempt, of: made.append(of) or {"a": b"1"})
    monkeypatch.setattr(services.database, "_ring", lambda topics: made.append(f"{len(services.heard)}"))

    async def ask() -> bytes:
        return await (services.opening("r", 2) if phase is Phase.READY else services.said("r", 3, 1, "READY"))

    def undone(tx: Transaction) -> None:
        services.ahead(tx, opens(phase))
        raise Refused("no", "never", reason="test")

    with pytest.raises(Refused):
        services.database.run_here(undone)
    asyncio.run(ask())
    assert len(made) == 3, "it was read once in vain, and once more, in a transaction of its own"
    services.heard.clear()
    services._openings.clear()
    services.database.run_here(lambda tx: services.ahead(tx, opens(phase)))
    assert made[3:] == (["opening", "0"] if phase is Phase.READY else ["READY", "1"]), (
        "it is there before the bell rings"
    )
    services.database.run_here(lambda tx: services.ahead(tx, opens(phase, "a")))
    assert asyncio.run(ask()) == (b"2" if phase is Phase.READY else b'"a":1')
    assert made[5:] == made[4:5], "what is open already is read once"

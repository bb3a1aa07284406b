"""What sites say in a secure sum is kept where it is of its place, and relayed once its phase is over."""

import asyncio
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.coordinator import steps
from consilium.core.errors import EnvelopeInvalid
from consilium.core.ids import SiteId, digest
from consilium.core.round import SECURE_SUM
from consilium.core.study import Plan
from consilium.wire.envelope import payload_of
from consilium.wire.messages import Blob, Step
from sim.test_sealed import Sealed
from sim.world import living

OTHER = Blob(digest=digest(b"another"), size=7)
PHASES = ("KEYS", "PAIR", "PROVE", *map(str, SECURE_SUM[:2]), "UNMASK")
"""Those of an undisturbed run: nobody confirms where nobody is lost."""


@cache
def said() -> tuple[Plan, str, dict[str, Step]]:
    """What one hospital says in an undisturbed run, by phase; with its plan and the hospital's key."""

    async def run() -> tuple[Plan, str, dict[str, Step]]:
        with living(Sealed) as world:
            await world.calm(160)
            site = next(iter(world.sites.values()))
            assert site.sealing is not None
            sent = [one for place, one in site.sealing.kept.items() if isinstance(place, tuple) and len(place) == 4]
            found = [Step.decode(payload_of(one, Step.TYPE)) for one in sent]
            return world.plan, site.identity.public, {step.phase: step for step in found}

    return asyncio.run(run())


def taken(step: Step, site: str = "", key: str = "") -> bool:
    plan, mine, _ = said()
    try:
        steps.fits(SiteId(site or step.body["site"]), step, key or mine, plan.study)
    except EnvelopeInvalid:
        return False
    return True


def test_what_an_honest_hospital_says_is_taken() -> None:
    assert said()[2].keys() == set(PHASES) and all(map(taken, said()[2].values()))


@pytest.mark.parametrize("phase", PHASES)
def test_what_is_of_another_site_phase_kind_or_vector_is_not(phase: str) -> None:
    step = said()[2][phase]
    vector = {None, step.vector, OTHER} - {step.vector}
    wrong = [{"kind": "TRAIN" if step.kind == "PAIR" else "PAIR"}, *({"vector": one} for one in vector)]
    wrong += [{"phase": other} for other in (*PHASES, "SUBMIT", "APPLY", "CONFIRM") if other != phase]
    assert not any(taken(step.model_copy(update=change)) for change in wrong)
    assert not taken(step, site="another")


@pytest.mark.parametrize("change", [{"run": "sim-2"}, {"attempt": 7}])
def test_keys_are_of_this_run_this_attempt_and_this_hospitals_identity(change: dict[str, Any]) -> None:
    keys = said()[2]["KEYS"]
    assert not taken(keys.model_copy(update=change)) and not taken(keys, key="A" * 43)


@pytest.mark.parametrize(
    ("number", "attempt", "phase", "is_relayed"),
    [
        (3, 2, "READY", True), (3, 2, "MASK", True), (3, 2, "CONFIRM", False), (3, 2, "UNMASK", False),
        (3, 1, "MASK", True), (2, 1, "CONFIRM", True), (2, 1, "UNMASK", False), (4, 1, "READY", False),
        (3, 3, "READY", False), (0, 2, "KEYS", True), (0, 3, "KEYS", False), (2, 1, "SUBMIT", False),
    ],
)  # fmt: skip
def test_what_was_said_is_relayed_once_its_phase_is_over(
    number: int, attempt: int, phase: str, is_relayed: bool
) -> None:
    """Round 3 is open for the second time, and asks for CONFIRM; keys were agreed on twice."""
    round_ = SimpleNamespace(closed=False, phases=SECURE_SUM, at=2)
    fold = SimpleNamespace(current=(3, 2), number=3, attempt=2, pairings=2, round=round_)
    assert steps.relayed(cast(Any, fold), number, attempt, phase) == is_relayed


def test_a_sum_is_opened_by_as_many_as_the_strictest_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan, the number of hospitals, or the policy of one of them, as all their keys say."""
    plan = said()[0]
    cohort = tuple(SiteId(f"h{number}") for number in range(6))
    needs = []
    for least in (3, 6):
        monkeypatch.setattr(steps, "roster", lambda *_, least=least: SimpleNamespace(min_sites=least))
        needs.append(steps.needed(cast(Any, None), "sim-1", plan, cohort))
    assert needs == [(5, 5), (6, 6)]

"""Approvals: what stands is the newest decision on exactly this plan, and each reason not to go on has its code."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.core.study import Plan, Study
from consilium.governance import approvals
from consilium.governance.approvals import WEAKER, Said, standing, weaker
from unit.governance.conftest import make

NOW = datetime(2030, 6, 1, tzinfo=UTC)
PLAIN = {"recipe": "plain"}
PLAN = Plan.of(make(privacy=PLAIN))


def said(**changes: Any) -> Said:
    good = Said(PLAN.digest, "approve", "Vera", ("plain",), NOW + timedelta(days=9), NOW - timedelta(days=1))
    return replace(good, **changes)


OTHER = Plan.of(make(rounds=21, privacy=PLAIN)).digest
CASES: dict[str, tuple[list[Said], str]] = {
    "approved": ([said()], ""),
    "approved without end": ([said(expires=None)], ""),
    "approved after a decline": ([said(decision="decline"), said()], ""),
    "approved after a revocation": ([said(), said(decision="revoke"), said()], ""),
    "nobody": ([], "not-approved"),
    "another plan": ([said(plan=OTHER)], "plan-changed"),
    "this plan, and then another": ([said(), said(plan=OTHER)], "plan-changed"),
    "declined": ([said(decision="decline")], "declined"),
    "revoked": ([said(), said(decision="revoke")], "revoked"),
    "ended": ([said(expires=NOW - timedelta(seconds=1))], "approval-expired"),
    "ended this second": ([said(expires=NOW)], "approval-expired"),
    "ends in the next second": ([said(expires=NOW + timedelta(seconds=1))], ""),
    "the weaker mode not accepted": ([said(accepts=())], "recipe"),
    "another mode accepted": ([said(accepts=("strong",))], "recipe"),
    "accepted once, not the second time": ([said(), said(accepts=())], "recipe"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_reason_by_its_code(name: str) -> None:
    decisions, expected = CASES[name]
    if not expected:
        assert standing(PLAN, decisions, NOW) == decisions[-1]
        return
    with pytest.raises(Refused) as error:
        standing(PLAN, decisions, NOW)
    assert error.value.reason == expected and error.value.remedy and "\n" not in str(error.value)


def test_every_reason_of_the_docstring_is_tried() -> None:
    told = (standing.__doc__ or "").split("one of")[1].strip().rstrip(".")
    assert {word.strip() for word in told.split(",")} == {expected for _, expected in CASES.values()} - {""}


decisions = st.builds(
    said,
    plan=st.sampled_from([PLAN.digest, OTHER]),
    decision=st.sampled_from(["approve", "decline", "revoke"]),
    accepts=st.sampled_from([("plain",), ()]),
    expires=st.sampled_from([None, NOW, NOW + timedelta(days=1)]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(decisions, max_size=6))
def test_only_the_newest_decision_counts(history: list[Said]) -> None:
    def outcome(told: list[Said]) -> str:
        try:
            standing(PLAN, told, NOW)
        except Refused as error:
            return error.reason
        return "stands"

    assert outcome(history) == outcome(history[-1:])
    if outcome(history) == "stands":
        newest = history[-1]
        assert newest.plan == PLAN.digest and newest.decision == "approve" and "plain" in newest.accepts
        assert newest.expires is None or newest.expires > NOW


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PLAN.payload) - 1), st.integers(1, 255))
def test_an_approval_does_not_serve_for_a_plan_changed_by_one_byte(at: int, by: int) -> None:
    changed = bytearray(PLAN.payload)
    changed[at] ^= by
    try:
        other = Plan.load(bytes(changed))
    except Exception:
        return  # these bytes are no plan at all
    with pytest.raises(Refused) as error:
        standing(other, [said()], NOW)
    assert error.value.reason == "plan-changed"


def test_a_weaker_mode_is_known_by_name_and_in_words(study: Study) -> None:
    plan = Plan.of(study)
    expected = (study.privacy.recipe,) if study.privacy.recipe in WEAKER else ()
    expected += ("given-model",) if study.model.start == "given" else ()
    grouped = study.privacy.recipe == "secure_sum" and study.strategy.name == "ifca"
    expected += ("small-groups",) if grouped else ()
    expected += ("hospital-numbers",) if study.privacy.recipe == "secure_sum" and study.of_hospitals else ()
    assert weaker(plan) == expected and all(words.endswith(".") for words in WEAKER.values())
    known = {"plain", "given-model", "small-groups", "hospital-numbers", "small-cells"}
    assert set(approvals.WEAKER) == known and weaker(PLAN) == ("plain",)
    secure = Plan.of(make(privacy={"recipe": "secure_sum"}))
    assert weaker(secure) == () and standing(secure, [said(plan=secure.digest, accepts=())], NOW)


@pytest.mark.parametrize(("strategy", "asked"), [
    ({"name": "afl"}, True), ({"name": "afl", "options": {"mixture_rate": 0}}, False),
    ({"name": "qfedavg", "options": {"q": 2}}, True), ({"name": "qfedavg", "options": {"q": 1.0}}, False),
    ({"name": "qfedavg"}, False), ({"name": "fednova"}, False),
])  # fmt: skip
def test_sums_of_numbers_of_hospitals_are_accepted_by_name(strategy: dict[str, object], asked: bool) -> None:
    """A loss to the power of 1 by patients is a sum over patients; to another it is of each hospital."""
    values = {**make().model_dump(mode="json"), "strategy": strategy, "privacy": {"recipe": "secure_sum"}}
    assert weaker(Plan.of(Study.model_validate(values))) == (("hospital-numbers",) if asked else ())
    assert weaker(Plan.of(Study.model_validate(values | {"privacy": {"recipe": "plain"}}))) == ("plain",)


def test_groups_that_may_be_small_are_accepted_by_name_where_sums_hide_single_hospitals() -> None:
    strategy = make().strategy.model_copy(update={"name": "ifca"})
    secure = Plan.of(make(privacy={"recipe": "secure_sum"}).model_copy(update={"strategy": strategy}))
    with pytest.raises(Refused, match="small-groups"):
        standing(secure, [said(plan=secure.digest, accepts=())], NOW)
    assert standing(secure, [said(plan=secure.digest, accepts=("small-groups",))], NOW)
    plain = Plan.of(make(privacy={"recipe": "plain"}).model_copy(update={"strategy": strategy}))
    assert weaker(plan=plain) == ("plain",), "no single hospital is hidden"


def test_a_model_that_was_made_elsewhere_is_accepted_by_name() -> None:
    model = make().model.model_copy(update={"start": "given"})
    plan = Plan.of(make().model_copy(update={"model": model}))
    with pytest.raises(Refused, match="given-model") as caught:
        standing(plan, [said(plan=plan.digest, accepts=("plain",))], NOW)
    assert caught.value.reason == "recipe" and weaker(plan) == ("given-model",)
    assert standing(plan, [said(plan=plan.digest, accepts=("given-model",))], NOW)

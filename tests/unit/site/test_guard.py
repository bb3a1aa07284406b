"""The guard, check by check in its numbered order: each fault alone is refused by its reason, and of several the first.

A permit comes of nothing else: no other line of the package makes one.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import consilium
from consilium.core.errors import Refused, Unavailable
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.governance.policy import Policy
from consilium.site.guard import Guard, Permit
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Decision, Task
from e2e.federation import study

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
OTHER, WHEEL = digest(b"another"), digest(b"a wheel")
TORCH = {"kind": "torch", "architecture": "net", "wheel": WHEEL}
Fault = Callable[["Case"], None]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Identity, Identity]:
    folder = tmp_path_factory.mktemp("keys")
    return Identity.create(folder / "north.key"), Identity.create(folder / "thief.key")


@dataclass
class Case:
    """One task with all that the guard sees of it. As it is made, it is permitted; a fault changes it."""

    mine: Identity
    thief: Identity
    study: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=lambda: {"min_patients": 10})
    task: dict[str, Any] = field(default_factory=dict)
    said: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    signer: str = "mine"
    kind: str = Decision.TYPE
    payload: Callable[[bytes], bytes] = lambda payload: payload

    def plan(self) -> Plan:
        return Plan.of(study("sums", **self.study))

    def asked(self) -> Task:
        plan, blob = self.plan(), Blob(digest=OTHER, size=1)
        honest = {
            "study": "sums", "run": "sums-1", "plan": plan.digest, "round": 1, "kind": "TRAIN", "phase": "SUBMIT",
            "roster": ("north", "south"), "state": blob, "initial": blob, "aggregate": None,
            "deadline": NOW + timedelta(hours=1),
        }  # fmt: skip
        return Task.model_validate({**honest, **self.task})

    def decisions(self) -> list[bytes]:
        honest = {
            "site": "north", "study": "sums", "plan": self.plan().digest, "decision": "approve", "person": "Vera",
            "accepts": ("plain",), "expires": NOW + timedelta(microseconds=1), "at": NOW,
        }  # fmt: skip
        signer = self.mine if self.signer == "mine" else self.thief
        told = [Decision.model_validate({**honest, **one}) for one in self.said]
        return [seal(self.kind, one.encode(), signer) for one in told]

    def check(self) -> Permit:
        guard = Guard("north", self.mine.public, Policy.model_validate({"policy": 1, **self.policy}))
        return guard.check(self.asked(), self.payload(self.plan().payload), self.decisions(), NOW)

    def refused(self) -> str:
        with pytest.raises(Refused) as caught:
            self.check()
        assert caught.value.remedy, "a refusal says what to do next"
        return caught.value.reason


def put(name: str, **values: Any) -> Fault:
    """Update one of the dictionaries of a case."""
    return lambda case: getattr(case, name).update(values)


def put_both(*changes: tuple[str, dict[str, Any]]) -> Fault:
    def put_each(case: Case) -> None:
        for name, values in changes:
            put(name, **values)(case)

    return put_each


def put_to(name: str, value: Any) -> Fault:
    return lambda case: setattr(case, name, value)


def then(**changes: Any) -> Fault:
    """One more decision, after the approval."""
    return lambda case: case.said.append(changes)


def of_another_plan(case: Case) -> None:
    for one in case.said:
        one["plan"] = OTHER


def stale(case: Case) -> None:
    """The hospital shortened how long an approval lasts, after it was given."""
    case.policy["max_approval_days"] = 30
    for one in case.said:
        one["at"] = NOW - timedelta(days=30)


FAULTS: list[dict[str, tuple[str, Fault]]] = [
    {
        "bytes": ("plan-changed", put_to("payload", lambda payload: payload.replace(b'"rounds":2', b'"rounds":3'))),
        "one byte more": ("plan-changed", put_to("payload", lambda payload: payload + b" ")),
        "task names another plan": ("plan-changed", put("task", plan=OTHER)),
        "task names another study": ("plan-changed", put("task", study="other")),
    },
    {
        "nobody decided": ("not-approved", put_to("said", [])),
        "another plan approved": ("plan-changed", of_another_plan),
        "declined": ("declined", then(decision="decline")),
        "revoked": ("revoked", then(decision="revoke")),
        "ended this instant": ("approval-expired", then(expires=NOW)),
        "approved longer ago than an approval lasts now": ("approval-expired", stale),
        "plain not accepted": ("recipe", then(accepts=())),
        "a newer plan was decided on": ("plan-changed", then(plan=OTHER)),
        "another key signed": ("tampered", put_to("signer", "thief")),
        "signed as something else": ("tampered", put_to("kind", Task.TYPE)),
        "decision of another site": ("tampered", then(site="south")),
    },
    {
        "policy ended": ("policy-expired", put("policy", expires="2030-05-31")),
        "study ended": (
            "study-expired",
            put("study", purpose={"code": "research", "text": "t", "requester": "r", "expires": "2030-05-31"}),
        ),
        "purpose": ("purpose", put("policy", purposes=["quality"])),
        "model": ("algorithm", put("policy", models=["linear"])),
        "strategy": ("algorithm", put("policy", strategies=["fedprox"])),
        "too many rounds": ("rounds", put("policy", max_rounds=1)),
        "code": ("code", put("study", model=TORCH)),
        "code of another digest": (
            "code",
            put_both(("study", {"model": TORCH}), ("policy", {"code": {"allowed": True, "wheels": [OTHER]}})),
        ),
    },
    {
        "beyond the plan": ("rounds", put("task", round=3)),
        "judged too early": ("rounds", put("task", round=2, kind="EVALUATE")),
        "nothing to prepare": ("rounds", put("task", round=1, kind="PREPARE")),
        "judged twice": ("rounds", put("task", round=4, kind="EVALUATE")),
        "keys in a round of training": ("rounds", put("task", kind="PAIR", phase="KEYS")),
        "a phase of another recipe": ("recipe", put("task", phase="READY")),
        "keys for a plan that needs none": ("recipe", put("task", round=0, kind="PAIR", phase="KEYS")),
    },
    {"not on the roster": ("roster", put("task", roster=("south", "west")))},
]  # fmt: skip
"""The numbered checks in their order: faults by name, with the reason that each has."""
ALONE = {name: fault for check in FAULTS for name, fault in check.items()}


def test_without_a_fault_the_permit_is_for_exactly_this_task(keys: tuple[Identity, Identity]) -> None:
    """The control: each fault below changes one thing of this."""
    case = Case(*keys)
    task, permit = case.asked(), case.check()
    told = permit.model_dump(include={"study", "run", "round", "kind", "plan"})
    assert told == task.model_dump(include=set(told)) and permit.state == task.state.digest
    assert (permit.site, permit.recipe, permit.wheel, permit.issued) == ("north", "plain", None, NOW)


@pytest.mark.parametrize("name", ALONE)
def test_each_fault_alone_is_refused_by_its_reason(keys: tuple[Identity, Identity], name: str) -> None:
    case = Case(*keys)
    reason, fault = ALONE[name]
    fault(case)
    assert case.refused() == reason


@given(chosen=st.tuples(*(st.sampled_from([None, *check]) for check in FAULTS)))
def test_of_several_faults_the_first_in_the_numbered_order_is_told(
    keys: tuple[Identity, Identity], chosen: tuple[str | None, ...]
) -> None:
    case = Case(*keys)
    there = [name for name in chosen if name is not None]
    for name in there:
        ALONE[name][1](case)
    if there:
        assert case.refused() == ALONE[there[0]][0]
    else:
        assert case.check()


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_bit_of_the_plan_may_differ(keys: tuple[Identity, Identity], at: int, bit: int) -> None:
    def flipped(payload: bytes) -> bytes:
        changed = bytearray(payload)
        changed[at % len(payload)] ^= 1 << bit
        return bytes(changed)

    assert Case(*keys, payload=flipped).refused() == "plan-changed"


@given(policy=st.integers(1, 10**6), wanted=st.integers(1, 10**6))
def test_a_study_raises_the_number_of_patients_and_never_lowers_it(
    keys: tuple[Identity, Identity], policy: int, wanted: int
) -> None:
    case = Case(*keys, study={"min_patients": wanted}, policy={"min_patients": policy})
    assert case.check().min_patients == max(policy, wanted)


def test_the_last_round_is_the_one_that_judges(keys: tuple[Identity, Identity]) -> None:
    assert Case(*keys, task={"round": 2}).check().kind == "TRAIN"
    assert Case(*keys, task={"round": 3, "kind": "EVALUATE"}).check().kind == "EVALUATE"


SECURE = {"quorum": 3, "privacy": {"recipe": "secure_sum"}}
THREE = ("east", "north", "south")


@pytest.mark.parametrize("phase", ["SUBMIT", "KEYS", "PAIR", "PROVE", "READY", "MASK", "CONFIRM", "UNMASK"])
@pytest.mark.parametrize("kind", ["PAIR", "TRAIN", "EVALUATE"])
def test_under_secure_sum_nothing_is_submitted(keys: tuple[Identity, Identity], kind: str, phase: str) -> None:
    """A coordinator that asks for the update itself, of a study whose sums are secure, gets nothing."""
    number = {"PAIR": 0, "TRAIN": 1, "EVALUATE": 3}[kind]
    task = {"kind": kind, "round": number, "phase": phase, "roster": THREE}
    case = Case(*keys, study=SECURE, task=task, said=[{"accepts": ()}])
    if (kind == "PAIR") == (phase in ("KEYS", "PAIR", "PROVE")) and phase != "SUBMIT":
        assert case.check().recipe == "secure_sum"
    else:
        assert case.refused() == "recipe"


@pytest.mark.parametrize(("hospital", "study_", "there"), [(3, 3, 2), (4, 3, 3), (3, 4, 3), (3, 3, 3), (4, 4, 4)])
def test_keys_are_agreed_among_as_many_hospitals_as_either_asks_for(
    keys: tuple[Identity, Identity], hospital: int, study_: int, there: int
) -> None:
    roster = ("north", "east", "south", "west")[:there]
    study = {"quorum": study_, "privacy": {"recipe": "secure_sum", "min_sites": study_}}
    task = {"kind": "PAIR", "round": 0, "phase": "KEYS", "roster": roster}
    case = Case(*keys, study=study, task=task, policy={"min_patients": 10, "min_sites": hospital})
    if there < max(hospital, study_):
        assert case.refused() == "roster"
    else:
        assert case.check().round == 0


@pytest.mark.parametrize(("kind", "phase"), [("PAIR", "KEYS"), ("PAIR", "PAIR"), ("PAIR", "PROVE")])
def test_and_as_many_as_the_approved_plans_quorum(keys: tuple[Identity, Identity], kind: str, phase: str) -> None:
    for there in (3, 4):
        task = {"kind": kind, "round": 0, "phase": phase, "roster": ("north", "east", "south", "west")[:there]}
        case = Case(*keys, study={**SECURE, "quorum": 4}, task=task)
        if there < 4:
            assert case.refused() == "quorum"
        else:
            assert case.check().round == 0


@pytest.mark.parametrize("wheels", [[], [OTHER, WHEEL]])
def test_a_wheel_that_the_policy_allows_is_named_in_the_permit(
    keys: tuple[Identity, Identity], wheels: list[str]
) -> None:
    case = Case(*keys, study={"model": TORCH}, policy={"code": {"allowed": True, "wheels": wheels}})
    assert case.check().wheel == WHEEL


def test_where_no_accountant_is_installed_no_epsilon_is_believed(keys: tuple[Identity, Identity]) -> None:
    privacy = {**SECURE["privacy"], "epsilon": 4.0, "delta": 1e-4, "expected_patients": 50}  # type: ignore[dict-item]
    noised = {**SECURE, "privacy": {**privacy, "noise_multiplier": 8.0, "all_honest": 4.0}, "training": {"epochs": 1}}
    task = {"phase": "READY", "roster": THREE}
    case = Case(*keys, study=noised, task=task, said=[{"accepts": ()}])
    for fault, reason in ((None, ""), (Unavailable("it is not installed", "install it"), "accountant")):
        with mock.patch("consilium.privacy.mechanism.tight", side_effect=fault, return_value=3.9):
            assert case.refused() == reason if fault else case.check()


def test_what_stands_is_decided_last(keys: tuple[Identity, Identity]) -> None:
    """A revocation does not outlive a new approval, nor an approval a revocation."""
    said = [{}, {"decision": "revoke"}, {}]
    assert Case(*keys, said=said).check()
    assert Case(*keys, said=[*said, {"decision": "revoke"}]).refused() == "revoked"


def test_nothing_else_in_the_package_makes_a_permit() -> None:
    """A permit is made in one place, after the last check; the pipeline takes only what this site signed."""
    made = []
    for path in Path(consilium.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                made += [(path.name, function.name, call) for call in ast.walk(function) if makes_a_permit(call)]
    (one,) = made
    assert one[:2] == ("guard.py", "check")


def makes_a_permit(node: ast.AST) -> bool:
    """`Permit(...)`, or one of the ways in which pydantic makes one without it."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    ways = ("Permit", "Permit.model_construct", "Permit.model_validate", "permit.model_copy")
    return called in ways or called.endswith(tuple("." + way for way in ways))

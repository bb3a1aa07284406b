"""The hospital's policy: each reason to refuse, by its stable code; and nothing a study says can lower a threshold."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium import plugins, yamlfile
from consilium.core.errors import PolicyInvalid, Refused
from consilium.core.model import ONNX
from consilium.core.study import EXACT, Study
from consilium.governance.policy import TEMPLATE, Policy
from unit.governance.conftest import WHEEL, by_time, make

TODAY = date(2030, 6, 1)
OTHER = WHEEL.replace("ab", "cd")
GRAPH = {"kind": "onnx", "start": "given"}
JUDGED: dict[str, Any] = {"rounds": 0, "evaluation": {"test_fraction": 1}}
FOREIGN = {"kind": "torch", "architecture": "mine", "wheel": WHEEL}


def reason(policy: dict[str, Any], study: Study, today: date = TODAY) -> str:
    """The reason of the refusal; empty where the policy allows the study."""
    try:
        Policy.model_validate({"policy": 1, **policy}).check(study, today)
    except Refused as error:
        assert error.message and error.remedy and "\n" not in str(error)
        return error.reason
    return ""


def expiring(day: date) -> Study:
    purpose = {"code": "research", "text": "t", "requester": "r", "expires": day}
    return make(purpose=purpose)


CASES: dict[str, tuple[dict[str, Any], Study, str]] = {
    "the template's study": ({}, make(), ""),
    "a policy on its last day": ({"expires": "2030-06-01"}, make(), ""),
    "a policy that has ended": ({"expires": "2030-05-31"}, make(), "policy-expired"),
    "a study on its last day": ({}, expiring(TODAY), ""),
    "a study that has ended": ({}, expiring(TODAY - timedelta(days=1)), "study-expired"),
    "another purpose": ({"purposes": ["quality"]}, make(), "purpose"),
    "no purpose at all": ({"purposes": []}, make(), "purpose"),
    "another kind of model": ({"models": ["linear"]}, make(), "algorithm"),
    "no kind of model": ({"models": []}, make(), "algorithm"),
    "another strategy": ({"strategies": ["fedprox"]}, make(), "algorithm"),
    "a strategy of a plug-in": ({}, make(strategy={"name": "mine"}), "algorithm"),
    "cells as small as the hospital allows": ({"strategies": ["webdisco"]}, by_time(), ""),
    "smaller cells": ({"strategies": ["webdisco"]}, by_time(4), "cells"),
    "no cell hidden": ({"strategies": ["webdisco"]}, by_time(1), "cells"),
    "no cell hidden, allowed": ({"strategies": ["webdisco"], "min_cell": 1}, by_time(1), ""),
    "cells that a hospital finds small": ({"strategies": ["webdisco"], "min_cell": 10}, by_time(9), "cells"),
    "as many rounds as allowed": ({"max_rounds": 20}, make(), ""),
    "one round too many": ({"max_rounds": 19}, make(), "rounds"),
    "foreign code": ({}, make(model=FOREIGN), "code"),
    "foreign code, allowed": ({"code": {"allowed": True}}, make(model=FOREIGN), ""),
    "foreign code, allowed by digest": ({"code": {"allowed": True, "wheels": [WHEEL]}}, make(model=FOREIGN), ""),
    "a graph that was made elsewhere": ({}, make(model=GRAPH, **JUDGED), "algorithm"),
    "a graph that was made elsewhere, allowed": ({"models": ["onnx"]}, make(model=GRAPH, **JUDGED), ""),
    "other foreign code": ({"code": {"allowed": True, "wheels": [OTHER]}}, make(model=FOREIGN), "code"),
    "inputs are prepared": ({}, make(prepare={"numbers": "standardise"}), ""),
    "inputs are prepared where that is not allowed": (
        {"preparation": {"allowed": False}},
        make(prepare={"missing": "impute"}),
        "preparation",
    ),
    "small counts told": ({}, make(prepare={"missing": "impute", "hide_below": 4}), "preparation"),
    "small counts told where that is allowed": (
        {"preparation": {"hide_below": 1}},
        make(prepare={"missing": "impute", "hide_below": 1}),
        "",
    ),
    "no epsilon, and none demanded": ({"privacy": {"budget": {"epsilon": 1}}}, make(), ""),
    "no epsilon where the policy demands one": ({"privacy": {"require_epsilon": True}}, make(), "epsilon"),
    "a digest without permission": ({"code": {"allowed": False, "wheels": [WHEEL]}}, make(model=FOREIGN), "code"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_reason_by_its_code(name: str) -> None:
    policy, study, expected = CASES[name]
    assert reason(policy, study) == expected


def test_every_reason_of_the_docstring_is_tried() -> None:
    told = (Policy.check.__doc__ or "").split("one of")[1].strip().rstrip(".")
    assert {word.strip() for word in told.split(",")} == {expected for _, _, expected in CASES.values()} - {""}


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_study_may_ask_for_more_patients_and_never_for_fewer(ours: int, theirs: int) -> None:
    threshold = Policy(policy=1, min_patients=ours).threshold(make(min_patients=theirs))
    assert threshold == max(ours, theirs)


def test_the_template_is_the_default_and_knows_every_built_in() -> None:
    assert Policy.model_validate(yaml.safe_load(TEMPLATE)) == Policy(policy=1)
    built_in = {"consilium.strategies": Policy(policy=1).strategies, "consilium.trainers": Policy(policy=1).models}
    for group, allowed in built_in.items():
        own = {name for name, point in plugins.names(group).items() if point.value.startswith("consilium.")}
        assert own - {*EXACT, ONNX} == set(allowed), (
            "a new built-in must stand in the policy, or every hospital refuses it"
        )


BAD: dict[str, tuple[str, str]] = {
    "an unknown key": ("policy: 1\nmin_patient: 3\n", "min_patient"),
    "a threshold of nobody": ("policy: 1\nmin_patients: 0\n", "min_patients"),
    "an unknown purpose": ("policy: 1\npurposes: [profit]\n", "purposes"),
    "a wheel that is no digest": ("policy: 1\ncode: {allowed: true, wheels: [mine]}\n", "wheels"),
    "a day that is none": ("policy: 1\nexpires: 2030-02-30\n", "expires"),
    "another format": ("policy: 2\n", "policy"),
    "a key twice": ("policy: 1\nmax_rounds: 1\nmax_rounds: 9\n", "max_rounds"),
    "no mapping": ("- 1\n", "policy.yaml:1"),
    "nothing": ("", "policy.yaml"),
    "no YAML": ("policy: [1\n", "policy.yaml"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_policy_file_that_is_wrong_is_refused_by_line(tmp_path: Path, name: str) -> None:
    text, words = BAD[name]
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(PolicyInvalid, match=words):
        yamlfile.load(tmp_path / "policy.yaml", Policy, PolicyInvalid)

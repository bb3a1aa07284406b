"""A contribution that cannot be summed or judged, or holds anything beside its segments, is refused by both ends."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.algorithms import evaluation, groups, layout
from consilium.algorithms.fedavg import FedAvg
from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.core.tensors import to_safetensors
from consilium.core.update import Sum
from consilium.testing.trainers import a_study

STUDY = a_study("binary", {"kind": "logistic"})


def judged(kind: str) -> dict[str, Any]:
    """Sums over two held-out patients."""
    members = np.zeros((2, len(groups.asked(STUDY))), dtype=bool)
    counted = evaluation.sums(STUDY, kind, np.array([0.2, 0.9]), np.array([0.0, 1.0]), members)
    return {f"metrics/{name}": array for name, array in counted.items()}


JUDGED, FINALLY = judged("TRAIN"), judged("EVALUATE")
GOOD: dict[str, Any] = {"update": np.zeros(3), "weight": np.array([10.0]), **JUDGED}


def sent(arrays: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    chain.write(arrays, metadata or {}, out)
    return out.getvalue()


def check(folder: Path, data: bytes, kind: str = "TRAIN", study: Study = STUDY, **more: Any) -> None:
    state, path = folder / "state", folder / "sent"
    with state.open("wb") as file:
        chain.begin(FedAvg({}), to_safetensors({"w": np.zeros(3)}), "r-1", file)
    path.write_bytes(data)
    layout.check(chain.read(path), layout.model_of(chain.read(state)), kind, study, **more)


def test_what_our_agent_sends_is_accepted(tmp_path: Path) -> None:
    check(tmp_path, sent(GOOD), judged=True)
    check(tmp_path, sent({"weight": np.array([10.0]), **FINALLY}), kind="EVALUATE", judged=True)
    check(tmp_path, sent(BARE))


def test_under_an_epsilon_a_round_of_training_has_no_figures_and_the_plans_own_weight(tmp_path: Path) -> None:
    check(tmp_path, sent(BARE), judged=True, weight=10.0)
    check(tmp_path, sent({"weight": np.array([10.0]), **FINALLY}), kind="EVALUATE", judged=True, weight=10.0)
    check(tmp_path, sent({**BARE, "weight": np.array([0.5])}), judged=True, weight=0.5)
    with pytest.raises(Invalid, match="no noise is added"):
        check(tmp_path, sent(GOOD), weight=10.0)
    for told in (11.0, np.nan, np.inf, 0.0):
        with pytest.raises(Invalid, match="not the one that the plan says"):
            check(tmp_path, sent({**BARE, "weight": np.array([told])}), weight=10.0)
    with pytest.raises(Invalid):
        check(tmp_path, sent({"weight": np.array([10.0])}), kind="EVALUATE", judged=True, weight=10.0)


def test_sums_that_prepare_inputs_come_without_a_model_and_without_figures(tmp_path: Path) -> None:
    sums = {"prepare": Sum(100.0, each=False, length=3)}
    good = {"prepare": np.array([10.0, -4.0, 3.0]), "weight": np.array([10.0])}
    check(tmp_path, sent(good), kind="PREPARE", sums=sums, judged=True)
    wrong = {
        "figures": ({**good, **JUDGED}, "there is no model yet"),
        "an update": ({**good, "update": np.zeros(3)}, "do not fit a round of kind PREPARE"),
        "another length": ({**good, "prepare": np.zeros(4)}, "does not fit the model"),
        "more than its patients": ({**good, "prepare": np.array([10.0, -10.1, 3.0])}, "more than its patients"),
    }
    for what, (arrays, words) in wrong.items():
        with pytest.raises(Invalid, match=words):
            pytest.fail(f"{what} passed: {check(tmp_path, sent(arrays), kind='PREPARE', sums=sums)}")


BARE = {"update": np.zeros(3), "weight": np.array([10.0])}
BAD: dict[str, dict[str, Any]] = {
    "no weight": {name: array for name, array in GOOD.items() if name != "weight"},
    "no update": {name: array for name, array in GOOD.items() if name != "update"},
    "a strange segment": {**GOOD, "patients": np.zeros(3)},
    "an update of another length": {**GOOD, "update": np.zeros(4)},
    "an update of another type": {**GOOD, "update": np.zeros(3, dtype=np.float32)},
    "a weight of nothing": {**GOOD, "weight": np.array([0.0])},
    "a negative weight": {**GOOD, "weight": np.array([-1.0])},
    "a weight that is no number": {**GOOD, "weight": np.array([np.nan])},
    "an infinite weight": {**GOOD, "weight": np.array([np.inf])},
    "two weights": {**GOOD, "weight": np.ones(2)},
    "metrics without n": {name: array for name, array in GOOD.items() if name != "metrics/n"},
    "a strange metric": {**GOOD, "metrics/x": np.zeros(1)},
    "a metric that is no number": {**GOOD, "metrics/brier": np.array([np.nan])},
    "bins of another number": {**GOOD, "metrics/positives": np.zeros(7)},
    "fewer patients than nothing": {**GOOD, "metrics/n": np.array([-2.0])},
    "patients that are not in the bins": {**GOOD, "metrics/n": np.array([3.0])},
}


def test_where_figures_must_be_there_their_absence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        check(tmp_path, sent(BARE), judged=True)


def test_an_update_has_no_place_in_a_round_that_judges(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        check(tmp_path, sent(GOOD), kind="EVALUATE")


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_summed_or_judged_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        check(tmp_path, sent(BAD[name]))


def test_metrics_of_another_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        check(tmp_path, sent(GOOD), study=a_study("count", {"kind": "poisson"}))


def headed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A good contribution whose header was written otherwise."""
    data = sent(GOOD)
    start = 8 + int.from_bytes(data[:8], "little")
    text = change(json.loads(data[8:start]))
    text = text if isinstance(text, bytes) else json.dumps(text, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + data[start:]


MARK = "MUSTERMANN-4711"
HIDDEN: dict[str, Callable[[], bytes]] = {
    "metadata": lambda: sent(GOOD, {"note": MARK}),
    "the name of a segment": lambda: sent({**GOOD, MARK: np.zeros(1)}),
    "the name of a metric": lambda: sent({**GOOD, f"metrics/{MARK}": np.zeros(1)}),
    "blanks in the header": lambda: headed(lambda head: json.dumps(head).encode() + b" " * 4711),
    "the order of segments": lambda: headed(lambda head: dict(reversed(head.items()))),
    "a key of a segment": lambda: headed(lambda head: {**head, "weight": {**head["weight"], "note": MARK}}),
    "a key that stands twice": lambda: headed(
        lambda head: json.dumps(head).replace("{", '{"weight":"' + MARK + '",', 1).encode()
    ),
    "bytes after the last": lambda: sent(GOOD) + MARK.encode(),
    "an empty segment": lambda: sent({**GOOD, MARK: np.zeros(0)}),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_nothing_is_hidden_beside_the_segments_and_the_refusal_does_not_tell_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(tmp_path, HIDDEN[name]())
    assert MARK not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(st.data())
def test_a_file_that_passes_is_written_anew_from_its_segments_to_the_same_bytes(
    tmp_path: Path, data: st.DataObject
) -> None:
    """So nothing but the segments travels with it: whichever byte of a header is changed, it is refused or the same."""
    good = sent(GOOD)
    at = data.draw(st.integers(0, 8 + int.from_bytes(good[:8], "little") - 1))
    changed = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    try:
        check(tmp_path, changed)
    except Invalid:
        return
    assert sent(dict(chain.read(tmp_path / "sent").arrays)) == changed

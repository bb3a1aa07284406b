"""Whatever the contract, the preparation and the weights: an ONNX file says of raw rows what the product says."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from consilium.algorithms import encode, preparation
from consilium.algorithms.made_up import Row, made_up
from consilium.core.errors import Invalid
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array, Tensors
from consilium.exported import Exported, origin

onnx: Any = pytest.importorskip("onnx", reason="ONNX is an extra")
pytest.importorskip("onnxruntime", reason="ONNX is an extra")

from consilium.onnxfile import feed, to_onnx  # noqa: E402
from consilium.training.onnx import runtime  # noqa: E402

LABELS = {"logistic": "binary", "linear": "number", "poisson": "count", "cox": "time-to-event"}
QUICK = (Phase.explicit, Phase.generate)
MISSING = st.sampled_from(["allowed", "forbidden"])
NUMBERS = st.fixed_dictionaries({
    "type": st.just("number"), "unit": st.just("1"), "missing": MISSING,
    "range": st.sampled_from([[0, 1], [-3, 2.7], [0.7, 0.8], [18, 100], [0, 1e6]]),
})  # fmt: skip
CATEGORIES = st.fixed_dictionaries({
    "type": st.just("category"), "missing": MISSING,
    "categories": st.sampled_from([{"b": "b", "a": "a"}, {"z": "z", "x": "x", "y": "y", "w": "w"}]),
})  # fmt: skip


@st.composite
def studies(draw: st.DrawFn) -> Study:
    features = [
        {"id": f"f{at}", "meaning": f"feature {at}", **one}
        for at, one in enumerate(draw(st.lists(NUMBERS | CATEGORIES, min_size=1, max_size=5)))
    ]
    numbers = [one["id"] for one in features if one["type"] == "number"]
    prepare = {
        "numbers": draw(st.sampled_from(["by_range", "standardise"])),
        "missing": draw(st.sampled_from(["flag", "impute"])), "hide_below": 1,
        "bins": {name: draw(st.integers(2, 4)) for name in numbers if draw(st.booleans())},
        "rare_below": draw(st.sampled_from([0, 30])),
    }  # fmt: skip
    asks = prepare["numbers"] != "by_range" or prepare["missing"] != "flag" or prepare["bins"] or prepare["rare_below"]
    return study(features, {"kind": draw(st.sampled_from(sorted(LABELS)))}, prepare=prepare if asks else None)


def study(features: list[dict[str, Any]], model: dict[str, Any], label: str = "", **change: Any) -> Study:
    told: dict[str, Any] = {"id": "y", "meaning": "outcome", "type": label or LABELS[model["kind"]]}
    told |= {"unit": "d", "range": [0, 999]} if told["type"] in ("number", "time-to-event") else {}
    made = Study.model_validate({
        "consilium": 1, "name": "home", "title": "Home",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {"id": "home", "features": features, "label": told}, "model": model,
        "rounds": 1, "quorum": 3, **change,
    })  # fmt: skip
    return Plan.load(Plan.of(made).payload).study


def columns(of: Study, rows: dict[str, list[Row]]) -> dict[str, Array]:
    found = {}
    for feature in of.contract.features:
        codes = {code: float(at) for at, code in enumerate(feature.categories or ())}
        values = [codes.get(str(value), value) if codes else value for value in rows[feature.id]]
        found[feature.id] = np.array([np.nan if value is None else float(value) for value in values])
    return found


def exported(of: Study, model: Tensors, seed: int = 0) -> Exported:
    learned: Tensors = {}
    if of.prepare is not None:
        rows = columns(of, made_up(of.contract, 100, np.random.default_rng([seed, 1])))
        learned = preparation.learned(of, preparation.statistics(of, rows), 100.0)
    return Exported(of, model, learned, origin(Plan.of(of), "home-1", "sha256:0", model, learned))


def regression(of: Study, rng: np.random.Generator) -> Tensors:
    weights = rng.normal(size=len(encode.names(of.contract, of.prepare)))
    return {"weights": weights} | ({} if of.model.kind == "cox" else {"intercept": rng.normal(size=1)})


def says_the_same(taken: Exported, rows: dict[str, list[Row]], tolerance: float = 1e-6) -> None:
    found = runtime(to_onnx(taken)).run(None, feed(taken.study, rows))[0]
    wanted = taken.predict(rows)
    assert found.shape == (len(wanted), 1) and len(wanted)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=tolerance, atol=tolerance)


@settings(max_examples=20, deadline=None, phases=QUICK)
@given(of=studies(), seed=st.integers(0, 2**16))
def test_it_says_what_the_product_says(of: Study, seed: int) -> None:
    """Of patients of the contract, of values beyond a range, and at the very edges of ranges and of bins."""
    rng = np.random.default_rng(seed)
    taken, rows = exported(of, regression(of, rng), seed), made_up(of.contract, 60, rng)
    edges = [float(edge) for edge in taken.learned.get("prepare/edges", np.zeros(0))]
    for feature in of.contract.features:
        if feature.range is None:
            continue
        inside = [edge for edge in edges if feature.range[0] <= edge <= feature.range[1]]
        rows[feature.id][: len(inside)] = inside
        if feature.missing == "allowed":
            low, high = feature.range
            beyond = [np.nextafter(low, -np.inf), np.nextafter(high, np.inf), np.inf, -np.inf, np.nan]
            rows[feature.id][30:35] = [float(value) for value in beyond]
    says_the_same(taken, rows)


FORBIDDEN = [
    {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [18, 100], "missing": "forbidden"},
    {"id": "crp", "meaning": "CRP", "type": "number", "unit": "mg/L", "range": [0, 500]},
    {"id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "F", "m": "M"}, "missing": "forbidden"},
    {"id": "ward", "meaning": "ward", "type": "category", "categories": {"icu": "ICU", "other": "other"}},
]


def test_of_whom_the_product_says_nothing_it_says_nothing() -> None:
    """A value that must not be missing, one beyond its range, a code that is unknown: NaN, and never a number."""
    of = study(FORBIDDEN, {"kind": "logistic"})
    taken = exported(of, regression(of, np.random.default_rng(0)))
    well: dict[str, Row] = {"age": 50.0, "crp": 3.0, "sex": "f", "ward": "icu"}
    ill = [{"age": None}, {"age": 17.9}, {"age": 101.0}, {"sex": None}, {"sex": "x"}, {"ward": "ICU"}]
    fine = [{}, {"crp": None}, {"ward": None}, {"crp": 501.0}]
    patients = [{**well, **change} for change in (*ill, *fine)]
    rows = {name: [one[name] for one in patients] for name in well}
    found = runtime(to_onnx(taken)).run(None, feed(of, rows))[0][:, 0]
    assert np.all(np.isnan(found[: len(ill)])) and np.all(np.isfinite(found[len(ill) :]))
    for change in ill:
        with pytest.raises(Invalid):
            taken.predict({name: [value] for name, value in {**well, **change}.items()})


def test_the_file_says_what_it_asks_for_and_where_it_comes_from() -> None:
    of = study(FORBIDDEN, {"kind": "logistic"})
    file = onnx.load_model_from_string(to_onnx(exported(of, regression(of, np.random.default_rng(0)))))
    onnx.checker.check_model(file, full_check=True)
    told = {one.key: one.value for one in file.metadata_props}
    assert told["contract"] == of.contract.digest and told["plan"] == Plan.of(of).digest
    assert Plan.load(told["payload"].encode()).study == of
    signature = json.loads(told["signature"])
    assert [one["name"] for one in signature["inputs"]] == [one.name for one in file.graph.input]
    assert signature["inputs"][0] == {
        "name": "age", "meaning": "age", "type": "number", "unit": "a", "range": [18, 100], "missing": "forbidden",
        "shape": [1],
    }  # fmt: skip
    assert signature["inputs"][3]["categories"] == {"icu": "ICU", "other": "other"}
    assert "mg/L" in file.graph.input[1].doc_string and signature["label"]["type"] == "binary"


def test_what_has_no_form_in_onnx_is_refused() -> None:
    of = study(FORBIDDEN, {"kind": "logistic"})
    trees = of.model_copy(update={"model": of.model.model_copy(update={"kind": "xgboost"})})
    with pytest.raises(Invalid, match="no ONNX form"):
        to_onnx(exported(trees, {}))
    called = study([{**FORBIDDEN[0], "id": "prediction"}], {"kind": "logistic"})
    with pytest.raises(Invalid, match="is called prediction, as the output"):
        to_onnx(exported(called, regression(called, np.random.default_rng(1))))

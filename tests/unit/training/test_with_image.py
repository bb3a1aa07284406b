"""A contract with a column and an image: the image's values are inputs everywhere, in the contract's order."""

from typing import Any

import numpy as np
import pytest

from consilium.algorithms import encode, regression
from consilium.core.contract import Contract
from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.exported import Exported
from consilium.training import trees

CONTRACT = Contract.model_validate({
    "id": "c", "label": {"id": "y", "meaning": "y", "type": "binary"},
    "features": [{"id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "f", "m": "m"}},
                 {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [0, 100]}],
    "image": {"meaning": "chest", "modality": ["CR"], "rows": 2, "columns": 3, "range": [-100, 300],
              "unit": "[hnsf'U]"},
})  # fmt: skip
STUDY = Study.model_validate({
    "consilium": 1, "name": "s", "title": "s", "purpose": {"code": "research", "text": "t", "requester": "r"},
    "contract": CONTRACT.model_dump(mode="json"), "model": {"kind": "logistic"}, "rounds": 1, "quorum": 3,
})  # fmt: skip
PICTURES = np.random.default_rng(1).uniform(-100, 300, (4, 2, 3))
COLUMNS = {"sex": np.array([0, 1, 1, np.nan]), "age": np.array([50, 60, np.nan, 20]), "pixel": PICTURES.reshape(4, 6)}


def test_inputs_are_columns_first_and_then_the_image_row_by_row() -> None:
    names = encode.names(CONTRACT)
    assert names == ["sex=m", "sex?", "age", "age?", *(f"pixel_{n}" for n in range(6))]
    x = encode.encode(CONTRACT, COLUMNS)
    assert x.shape == (4, len(names)) and x.flags.c_contiguous
    np.testing.assert_array_equal(x[:, 4:], (PICTURES.reshape(4, 6) - 100) / 200)
    plain = CONTRACT.model_copy(update={"image": None})
    np.testing.assert_array_equal(x[:, :4], encode.encode(plain, COLUMNS))
    for name, values in encode.decode(CONTRACT, x).items():
        np.testing.assert_allclose(values, COLUMNS[name], atol=1e-9, err_msg=name)


def test_trees_have_an_image_in_its_own_unit() -> None:
    places = trees._places(CONTRACT)
    assert [*places] == ["sex=f", "sex=m", "age", *(f"pixel_{n}" for n in range(6))]
    raw = trees._raw(CONTRACT, encode.encode(CONTRACT, COLUMNS))
    np.testing.assert_allclose(raw[:, 3:], PICTURES.reshape(4, 6), rtol=1e-6)
    np.testing.assert_array_equal(raw[:, 2], COLUMNS["age"])


def test_coefficients_of_an_image_are_told_in_its_unit() -> None:
    weights = np.random.default_rng(2).normal(size=len(encode.names(CONTRACT)))
    scaling = regression.scaling(CONTRACT)
    told = scaling @ np.concatenate([[0.0], weights])
    known = {**COLUMNS, "sex": np.array([0.0, 1, 1, 0]), "age": np.array([50.0, 60, 1, 20])}
    raw = np.column_stack([np.ones(4), known["sex"], np.zeros(4), known["age"], np.zeros(4), known["pixel"]])
    np.testing.assert_allclose(raw @ told, encode.encode(CONTRACT, known) @ weights)
    assert regression._words(STUDY, {})["pixel_5"] == "pixel_5, per 1 [hnsf'U]"


def test_a_model_that_was_taken_home_takes_images_as_they_are() -> None:
    model = Exported(STUDY, {}, {}, {})
    rows: dict[str, Any] = {"sex": ["f", "m", "m", None], "age": [50, 60, None, 20]}
    for pictures in (PICTURES, PICTURES.reshape(4, 6), PICTURES.tolist()):
        np.testing.assert_array_equal(model.inputs({**rows, "pixel": pictures}), encode.encode(CONTRACT, COLUMNS))
    for wrong, said in (
        (PICTURES[:, :1], "another size"), (PICTURES + 500, "outside of its range"), (PICTURES[:3], "unequal length"),
        (PICTURES * np.nan, "outside of its range"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=said):
            model.inputs({**rows, "pixel": wrong})
    with pytest.raises(Invalid, match="pixel is lacking"):
        model.inputs(rows)


def test_onnx_files_take_an_image_beside_columns_and_one_that_came_is_given_it() -> None:
    pytest.importorskip("onnxruntime", reason="ONNX is an extra")
    from consilium.algorithms.made_up import made_up
    from consilium.onnxfile import feed, to_onnx
    from consilium.training.onnx import Graph, runtime

    told = STUDY.model_dump(mode="json") | {"prepare": {"numbers": "standardise"}}
    chance = np.random.default_rng(4)
    for study, learned in (
        (STUDY, {}),
        (Study.model_validate(told), {
            "prepare/centre": chance.normal(size=8), "prepare/spread": chance.uniform(1, 9, 8),
            "prepare/fill": np.ones(8),
        }),
    ):  # fmt: skip
        weights = chance.normal(size=len(encode.names(study.contract, study.prepare)))
        model = Exported(study, {"weights": weights, "intercept": np.zeros(1)}, learned, {})
        rows = made_up(study.contract, 30, chance)
        assert rows["pixel"].shape == (30, 2, 3)
        said = runtime(to_onnx(model)).run(None, feed(study, rows))[0][:, 0]
        np.testing.assert_allclose(said, model.predict(rows), atol=1e-9)
        if not learned:
            given = {
                **STUDY.model_dump(mode="json"), "rounds": 0, "model": {"kind": "onnx", "start": "given"},
                "evaluation": {"test_fraction": 1},
            }  # fmt: skip
            judged, graph = Study.model_validate(given), Graph()
            found = graph.predict(judged, graph.read(judged, to_onnx(model)), encode.encode(CONTRACT, COLUMNS))
            asked = {"sex": ["f", "m", "m", None], "age": [50, 60, None, 20], "pixel": PICTURES}
            np.testing.assert_allclose(found, model.predict(asked), atol=1e-9)

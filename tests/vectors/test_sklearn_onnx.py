"""Models that scikit-learn 1.9 trained and skl2onnx 1.20 wrote, with a ZipMap and without: they say here what there.

Made of 120 made-up patients, `LogisticRegression` after `StandardScaler`, `GradientBoostingClassifier` and
`RandomForestClassifier` of eight trees, in single precision; `known.json` has 40 of them and what `predict_proba` gave.
`sums.onnx`, a forest over two numbers, is judged in a federation: `tests/e2e/test_secure_sum.py`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.algorithms.encode import encode
from consilium.core.study import Study
from consilium.core.tensors import from_safetensors, to_safetensors

pytest.importorskip("onnxruntime", reason="ONNX is an extra")

from consilium.training.onnx import Graph

HERE = Path(__file__).parent / "sklearn"
KNOWN = json.loads((HERE / "known.json").read_text())
NEVER = {"missing": "forbidden"}


def study() -> Study:
    number: dict[str, Any] = {"type": "number", "unit": "1", "range": [0, 500], **NEVER}
    sex = {"type": "category", "categories": {"f": "F", "m": "M"}, **NEVER}
    features = [{"id": "age", **number, "typical": [30, 70]}, {"id": "crp", **number}, {"id": "sex", **sex}]
    return Study.model_validate({
        "consilium": 1, "name": "given", "title": "Given",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "given", "features": [{"meaning": one["id"], **one} for one in features],
            "label": {"id": "ill", "meaning": "ill", "type": "binary"},
        },
        "model": {"kind": "onnx", "start": "given", "options": {"inputs": {"X": ["age", "crp", "sex=m"]}}},
        "rounds": 0, "quorum": 3, "evaluation": {"test_fraction": 1},
    })  # fmt: skip


@pytest.mark.parametrize("name", sorted(KNOWN["of"]))
def test_predictions_are_those_of_scikit_learn(name: str) -> None:
    asked = study()
    sent = from_safetensors(to_safetensors(Graph().read(asked, (HERE / name).read_bytes())))
    columns = {key: np.array([row[key] for row in KNOWN["rows"]]) for key in ("age", "crp", "sex")}
    found = Graph().predict(asked, sent, encode(asked.contract, columns))
    np.testing.assert_allclose(found, KNOWN["of"][name], atol=1e-6)

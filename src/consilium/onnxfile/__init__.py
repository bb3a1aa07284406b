"""A model that was taken home, as an ONNX file: raw rows in, a prediction out, with the plan's preparation inside.

::

    from consilium.exported import Exported
    from consilium.onnxfile import to_onnx

    Path("model.onnx").write_bytes(to_onnx(Exported.read("model.safetensors")))

One input per feature of the contract, named as it is, (N, 1): float64 for a number in the contract's unit, text for a
category's code; one (N, rows, columns) for an image. One output, `prediction`, (N, 1), float64.
"""

import json
from typing import Any

import numpy as np

from consilium import __version__
from consilium.algorithms import combat
from consilium.algorithms.made_up import made_up
from consilium.algorithms.signature import Input, inputs, signature
from consilium.core.errors import EXTRA, Invalid, Refused
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors
from consilium.core.timed import COX
from consilium.exported import Exported
from consilium.training.cox import FARTHEST
from consilium.training.onnx import runtime
from consilium.training.slopes import MAX_RATE

try:
    from onnx import ModelProto, ValueInfoProto, helper

    from consilium.onnxfile.columns import encoded
    from consilium.onnxfile.nodes import DOUBLE, ML, TEXT, Nodes
except ImportError as error:
    raise Refused("ONNX files need the extra", EXTRA.format("onnx"), reason="extra") from error

OPERATORS, ML_OPERATORS, FORMAT = 17, 2, 8
"""Versions of the operators of ai.onnx and ai.onnx.ml, and of the file: what runtimes of 2022 read."""
OUTPUT = "prediction"
TRIED, MOST_TRIED = 200, 10_000_000
"""Made-up patients on whom a file must say what the model says; and how many values they may have in all."""
WITHIN = 1e-6


def to_onnx(model: Exported) -> bytes:
    """The file. It was tried: on made-up patients of the contract it says what `Exported.predict` says, to 1e-6.

    Raises: Invalid: this kind of model has no form in ONNX here, or the file says something else.
    """
    study, nodes = model.study, Nodes()
    if combat.asked_of(study) is not None:
        raise Invalid(
            "the model takes numbers that are harmonised by what each hospital keeps, and that is in no model's file",
            "take it as safetensors, and apply it with a hospital's `harmony`",
        )
    if OUTPUT in [one.name for one in inputs(study.contract)]:
        raise Invalid(
            f"a feature of the contract is called {OUTPUT}, as the output of an ONNX file is",
            "take the model as safetensors, or call the feature otherwise in the next study",
        )
    columns, refused = encoded(nodes, study, model.learned)
    found = _predicted(nodes, study, model.model, columns, len(model.names))
    if refused is not None:
        found = nodes.add("Where", refused, np.full((1, 1), np.nan), found)
    nodes.nodes[-1].output[0] = OUTPUT
    graph = helper.make_graph(
        nodes.nodes, study.name, [_input(one) for one in inputs(study.contract)],
        [helper.make_tensor_value_info(OUTPUT, DOUBLE, ["N", 1])], nodes.constants,
    )  # fmt: skip
    file: ModelProto = helper.make_model(
        graph, ir_version=FORMAT, producer_name="consilium", producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPERATORS), helper.make_opsetid(ML, ML_OPERATORS)],
    )  # fmt: skip
    file.doc_string = f"{study.title}. {study.purpose.text}"
    helper.set_model_props(file, {**model.metadata, "signature": json.dumps(signature(study.contract), sort_keys=True)})
    data: bytes = file.SerializeToString(deterministic=True)
    _tried(model, data)
    return data


def _input(one: Input) -> ValueInfoProto:
    told = one.to_json()
    words = "; ".join(f"{name}: {told[name]}" for name in ("unit", "range", "categories", "missing") if name in told)
    kind = TEXT if one.text else DOUBLE
    return helper.make_tensor_value_info(one.name, kind, ["N", *one.shape], doc_string=f"{one.meaning}; {words}")


def _predicted(nodes: Nodes, study: Study, model: Tensors, columns: str, count: int) -> str:
    """What the trainer of this kind predicts, (N, 1), float64."""
    kind, label, most = study.model.kind, study.contract.label.type, FARTHEST
    if study.model.wheel is not None:
        raise Invalid("the model's code is in a wheel of its own", "export it with that code, by torch.onnx")
    if kind in ("linear", "logistic", "poisson", COX):
        score = nodes.add("MatMul", columns, model["weights"].astype(np.float64)[:, None])
        score = score if kind == COX else nodes.add("Add", score, model["intercept"].astype(np.float64)[None, :])
    elif kind == "torch":
        from consilium.onnxfile import layers

        score, most = nodes.cast(layers.score(nodes, study, model, columns, count), DOUBLE), MAX_RATE
    else:
        raise Invalid(f"a model of kind {kind} has no ONNX form here", "take it as it was given, or as safetensors")
    if label == "binary":
        return nodes.add("Sigmoid", score)
    return nodes.add("Identity", score) if label == "number" else nodes.add("Exp", nodes.add("Min", score, most))


def feed(study: Study, rows: dict[str, Any]) -> dict[str, Array]:
    """Raw rows as a file's inputs: None is NaN among numbers, and an empty text among codes."""
    found = dict[str, Array]()
    for one in inputs(study.contract):
        given = rows[one.name]
        if one.text:
            found[one.name] = np.array([["" if code is None else str(code)] for code in given], dtype=object)
        else:
            found[one.name] = np.array(given, dtype=np.float64).reshape(-1, *one.shape)
    return found


def _tried(model: Exported, data: bytes) -> None:
    """Raises: Invalid: the file does not say what the model says."""
    contract = model.study.contract
    rows = made_up(contract, max(min(TRIED, MOST_TRIED // contract.size), 2), np.random.default_rng(1))
    session: Any = runtime(data)
    told = session.run([OUTPUT], feed(model.study, rows))[0][:, 0]
    wanted = model.predict(rows)
    if not np.all(np.abs(told - wanted) <= WITHIN * np.maximum(1.0, np.abs(wanted))):
        raise Invalid("the ONNX file does not say what the model says", "take the model as safetensors, and tell us")

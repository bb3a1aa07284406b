"""ONNX files that were made elsewhere: scikit-learn's predictions, inputs by name, and files that mean harm."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.algorithms import encode
from consilium.algorithms.made_up import made_up
from consilium.core import state as chain
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.ids import digest
from consilium.core.study import Plan, Study
from consilium.core.tensors import Tensors, flatten, from_safetensors, to_safetensors
from property.test_onnx_export import columns, exported, regression, study
from vectors.test_sklearn_onnx import HERE as GIVEN
from vectors.test_sklearn_onnx import study as given_study

onnx: Any = pytest.importorskip("onnx", reason="ONNX is an extra")
pytest.importorskip("onnxruntime", reason="ONNX is an extra")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from consilium.onnxfile import to_onnx  # noqa: E402
from consilium.training import forests, graphs  # noqa: E402
from consilium.training.onnx import Graph, packed, runtime, unpacked  # noqa: E402

AGE: dict[str, Any] = {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [18, 100]}
CRP: dict[str, Any] = {"id": "crp", "meaning": "CRP", "type": "number", "unit": "mg/L", "range": [0, 500]}
SEX: dict[str, Any] = {"id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "F", "m": "M"}}
NEVER = {"missing": "forbidden"}
WHOLE = [{**AGE, **NEVER}, {**CRP, **NEVER}, {**SEX, **NEVER}]
MATRIX = {"X": ["age", "crp", "sex=m"]}
FLOAT, DOUBLE, TEXT, WHOLE_64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.STRING, TensorProto.INT64
PATIENTS = 120


def judged(features: list[dict[str, Any]], label: str = "binary", **options: Any) -> Study:
    model = {"kind": "onnx", "start": "given", "options": options}
    return study(features, model, label, rounds=0, evaluation={"test_fraction": 1})


def patients(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Age, CRP and whether male, (n, 3) float32, and an outcome (n,)."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.uniform(18, 100, PATIENTS), rng.uniform(0, 500, PATIENTS), rng.integers(0, 2, PATIENTS)])
    y = x[:, 0] / 40 + x[:, 1] / 200 + x[:, 2] + rng.normal(size=PATIENTS) > 4
    return x.astype(np.float32), y.astype(np.int64)


def seen(of: Study, x: np.ndarray) -> np.ndarray:
    """The same patients as a hospital has them, encoded."""
    raw = {name: x[:, place].astype(np.float64) for place, name in enumerate(("age", "crp", "sex"))}
    return encode.encode(of.contract, raw)


def known(name: str) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        "imputed": lambda: make_pipeline(SimpleImputer(), RandomForestClassifier(n_estimators=8, random_state=1)),
        "boosting": lambda: GradientBoostingClassifier(n_estimators=8, random_state=1),
        "forest": lambda: RandomForestClassifier(n_estimators=8, max_depth=4, random_state=1),
    }[name]()


@pytest.mark.long  # with what skl2onnx wrote once: tests/vectors/test_sklearn_onnx.py
@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("name", ["logistic", "boosting", "forest", "imputed"])
@pytest.mark.parametrize("classes", [(0, 1), ("well", "died")])
def test_a_classifier_of_scikit_learn_predicts_here_what_it_predicts_there(
    name: str, zipmap: bool, classes: tuple[Any, Any]
) -> None:
    """With probabilities in a matrix, and in a ZipMap; whatever its classes are called, and in whatever order."""
    skl2onnx: Any = pytest.importorskip("skl2onnx", reason="of the extra `test`")
    x, y = patients()
    model = known(name).fit(x, np.array(classes, dtype=object)[y] if classes[0] == "well" else y)
    data = skl2onnx.to_onnx(model, x[:1].astype("float32"), options={"zipmap": zipmap}).SerializeToString()
    positive = {} if classes == (0, 1) else {"positive": "died"}  # sorted: the first of two columns
    of = judged(WHOLE, inputs=MATRIX, **positive)
    sent = from_safetensors(to_safetensors(Graph().read(of, data)))
    expected = model.predict_proba(x)[:, list(model.classes_).index(classes[1])]
    np.testing.assert_allclose(Graph().predict(of, sent, seen(of, x)), expected, atol=1e-6)
    if positive:
        with pytest.raises(StudyInvalid, match="classes are died, well"):
            Graph().read(judged(WHOLE, inputs=MATRIX), data)


@pytest.mark.long
def test_a_pipeline_over_named_columns_takes_texts_and_missing_values() -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    pd: Any = pytest.importorskip("pandas", reason="of the extra `notebook`")
    skl2onnx: Any = pytest.importorskip("skl2onnx", reason="of the extra `test`")
    x, y = patients()
    table = pd.DataFrame({"age": x[:, 0], "crp": x[:, 1], "sex": np.where(x[:, 2] == 1, "m", "f")})
    table.loc[::7, "crp"] = np.nan
    steps = make_column_transformer(
        (SimpleImputer(), ["age", "crp"]), (OneHotEncoder(handle_unknown="ignore"), ["sex"])
    )
    model = make_pipeline(steps, LogisticRegression()).fit(table, y)
    kinds = skl2onnx.common.data_types
    types = [("age", kinds.FloatTensorType([None, 1])), ("crp", kinds.FloatTensorType([None, 1]))]
    types += [("sex", kinds.StringTensorType([None, 1]))]
    data = skl2onnx.convert_sklearn(model, initial_types=types, options={"zipmap": False}).SerializeToString()
    of = judged([WHOLE[0], CRP, SEX])
    raw = {"age": x[:, 0].astype(np.float64), "crp": table["crp"].to_numpy(dtype=np.float64), "sex": x[:, 2].copy()}
    raw["sex"][::5] = np.nan
    table.loc[::5, "sex"] = ""
    found = Graph().predict(of, Graph().read(of, data), encode.encode(of.contract, raw))
    np.testing.assert_allclose(found, model.predict_proba(table)[:, 1], atol=1e-6)


@pytest.mark.parametrize("kind", ["logistic", "linear", "poisson", "cox"])
def test_what_is_exported_here_is_judged_here(kind: str) -> None:
    """There and back: the file takes raw values, and says what the model says of encoded ones."""
    taken = exported(study([AGE, WHOLE[1], SEX], {"kind": kind}), {})
    model = regression(taken.study, np.random.default_rng(2))
    data = to_onnx(exported(taken.study, model))
    of = judged([AGE, WHOLE[1], SEX], taken.study.contract.label.type)
    rows = made_up(of.contract, 50, np.random.default_rng(3))
    x = encode.encode(of.contract, columns(of, rows))
    found = Graph().predict(of, Graph().read(of, data), x)
    np.testing.assert_allclose(found, exported(taken.study, model).predict(rows), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(data=st.binary(min_size=1, max_size=40))
def test_bytes_come_back_from_an_array(data: bytes) -> None:
    assert unpacked(from_safetensors(to_safetensors(packed(data)))) == data


@pytest.mark.parametrize(
    "model",
    [
        {}, {"file": np.zeros(3)}, {"file": np.array([0.5]), "padding": np.zeros(1)},
        {"file": np.array([float(1 << 24)]), "padding": np.zeros(1)},
        {"file": np.array([1.0]), "padding": np.array([3.0])},
        {"file": np.array([np.nan]), "padding": np.zeros(1)}, {"file": np.array([-1.0]), "padding": np.zeros(1)},
    ],
)  # fmt: skip
def test_arrays_that_are_no_file_are_refused(model: Tensors) -> None:
    with pytest.raises(Invalid, match="no packed file"):
        unpacked(model)


def graph(
    nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, tuple[int, Any]] | None = None,
    constants: list[Any] | None = None, domains: tuple[str, ...] = ("", "ai.onnx.ml"), **more: Any,
) -> Any:  # fmt: skip
    """An ONNX model of nodes; `p` of shape (N, 1) is the output, if nothing is said."""
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, *of) for name, of in inputs.items()],
        [helper.make_tensor_value_info(name, *of) for name, of in (outputs or {"p": (FLOAT, ["N", 1])}).items()],
        constants or [],
    )  # fmt: skip
    versions = {"": 17, "ai.onnx.ml": 2}
    return helper.make_model(
        made, ir_version=8, opset_imports=[helper.make_opsetid(name, versions.get(name, 1)) for name in domains], **more
    )


def sigmoid(**change: Any) -> Any:
    """A model of age alone."""
    given = {"nodes": [helper.make_node("Sigmoid", ["age"], ["p"])], "inputs": {"age": (FLOAT, ["N", 1])}, **change}
    return graph(**given)


def refused(model: Any, words: str, of: Study | None = None) -> None:
    with pytest.raises(StudyInvalid, match=words):
        Graph().read(of or judged([WHOLE[0]]), model.SerializeToString())


def test_a_plain_graph_is_read() -> None:
    of = judged([WHOLE[0]])
    model = Graph().read(of, sigmoid().SerializeToString())
    found = Graph().predict(of, model, encode.encode(of.contract, {"age": np.array([20.0, 90.0])}))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array([20.0, 90.0]))), atol=1e-6)
    assert Graph().predict(of, model, np.zeros((0, 1))).shape == (0,)


def test_a_graph_of_double_precision_for_which_the_runtime_lacks_an_operator_is_told_what_to_do() -> None:
    """skl2onnx writes a pipeline with an imputer so, where it is shown a matrix of float64."""
    nodes = [
        helper.make_node("Imputer", ["age"], ["q"], domain="ai.onnx.ml", imputed_value_floats=[50.0]),
        helper.make_node("Sigmoid", ["q"], ["p"]),
    ]
    for kind, said in ((DOUBLE, "astype\\('float32'\\)"), (FLOAT, "")):
        model = graph(nodes, {"age": (kind, ["N", 1])}, {"p": (kind, ["N", 1])})
        if said:
            with pytest.raises(Invalid, match=f"the graph cannot be loaded: .*Imputer.*{said}"):
                Graph().read(judged([WHOLE[0]]), model.SerializeToString())
        else:
            Graph().read(judged([WHOLE[0]]), model.SerializeToString())


def test_a_study_that_would_train_a_graph_is_told_before_it_is_sent() -> None:
    of = study([WHOLE[0]], {"kind": "onnx", "start": "given"}, "binary")
    refused(sigmoid(), "kind onnx is judged here, and not trained", of)


def test_the_runtime_is_one_that_tells_nobody_of_its_sessions() -> None:
    """From 1.29 on its packages have telemetry; whoever installs a later one has it switched off."""
    runtime(sigmoid().SerializeToString())
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert tuple(map(int, version("onnxruntime").split(".")[:2])) < (1, 29)


def test_bytes_of_another_format_of_the_runtime_are_read_as_onnx_and_their_makers_name_is_dropped() -> None:
    """By `ORTM` at the fifth byte onnxruntime knows a format of its own, of which no rule here says anything."""
    model = sigmoid(producer_name="ORTM" * 20, producer_version="1", domain="d", doc_string="of somebody")
    assert model.SerializeToString()[4:8] == b"ORTM"
    assert runtime(model.SerializeToString()).get_inputs()[0].name == "age"
    sent = graphs.checked(model.SerializeToString() + b"\xfa\x07\x02hi")
    assert not any((sent.producer_name, sent.producer_version, sent.domain, sent.doc_string))
    assert sent.SerializeToString() == graphs.checked(sigmoid().SerializeToString()).SerializeToString()


def across() -> Any:
    """A graph by which the score of each tells how old the oldest of all is."""
    nodes = [
        helper.make_node("ReduceMax", ["age"], ["all"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["age", "all"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"]),
    ]  # fmt: skip
    return sigmoid(nodes=nodes)


def test_no_patient_is_seen_beside_another() -> None:
    refused(across(), "depends on other patients")
    of, ages = judged([WHOLE[0]]), np.array([20.0, 90.0, 50.0])
    x = encode.encode(of.contract, {"age": ages})
    found = Graph().predict(of, packed(across().SerializeToString()), x)  # by a sender who did not try it
    np.testing.assert_allclose(found, 0.5)


@pytest.mark.parametrize("more", [{"training_mode": 1}, {}])
def test_a_graph_that_learns_of_patients_is_refused(more: dict[str, int]) -> None:
    outputs = ["n"] if more else ["n", "m", "v", "a", "b"]
    nodes = [helper.make_node("BatchNormalization", ["age", "o", "o", "o", "o"], outputs, **more),
             helper.make_node("Sigmoid", ["n"], ["p"])]  # fmt: skip
    refused(
        sigmoid(nodes=nodes, constants=[numpy_helper.from_array(np.ones(1, dtype=np.float32), "o")]),
        "BatchNormalization learns of patients",
    )


def elsewhere(path: str) -> Any:
    """A model one of whose constants says that its values lie in the file `path`."""
    weight = TensorProto(name="w", data_type=FLOAT, dims=[1, 1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", path), ("offset", "0"), ("length", "4")):
        weight.external_data.add(key=key, value=value)
    nodes = [helper.make_node("MatMul", ["age", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])]
    return sigmoid(nodes=nodes, constants=[weight])


@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret", "weights.bin", "*/_ORT_MEM_ADDR_/*"])
def test_values_in_another_file_are_refused(path: str) -> None:
    refused(elsewhere(path), "lie in another file")
    constant = helper.make_node("Constant", [], ["w"], value=elsewhere(path).graph.initializer[0])
    nodes = [constant, helper.make_node("MatMul", ["age", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])]
    refused(sigmoid(nodes=nodes), "lie in another file")


def huge(**change: Any) -> Any:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[1 << 20, 1 << 20], **change)
    nodes = [helper.make_node("MatMul", ["age", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])]
    return sigmoid(nodes=nodes, constants=[weight])


def looped() -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["again"])], "body",
        [helper.make_tensor_value_info("at", WHOLE_64, []), helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, [])],
    )  # fmt: skip
    nodes = [helper.make_node("Loop", ["", ""], [], body=body), helper.make_node("Sigmoid", ["age"], ["p"])]
    return sigmoid(nodes=nodes)


def sided(number: int, size: int) -> Any:
    return sigmoid(constants=[TensorProto(name="w", data_type=FLOAT, dims=[size] * number, float_data=[1.0])])


def between(sides: list[Any]) -> Any:
    """A word on a value in between, in a list of such."""
    model = sigmoid()
    shape = helper.make_tensor_type_proto(FLOAT, sides)
    model.graph.value_info.append(helper.make_value_info("z", helper.make_sequence_type_proto(shape)))
    return model


def brought() -> Any:
    """An operator that the file brings with it, under a name of the standard."""
    model = sigmoid()
    model.functions.add(name="Sigmoid", domain="ai.onnx.ml", input=["x"], output=["y"])
    return model


def trees(lists: dict[str, Any], version: int = 2) -> Any:
    """Trees over age alone."""
    kind, more = ("TreeEnsembleRegressor", {}) if version < 5 else ("TreeEnsemble", {"tree_roots": [1 << 40]})
    node = helper.make_node(kind, ["age"], ["z"], domain="ai.onnx.ml", **lists, **more, n_targets=1)
    model = sigmoid(nodes=[node, helper.make_node("Sigmoid", ["z"], ["p"])])
    model.opset_import[1].version = version
    return model


def named_trees(**change: Any) -> Any:
    """One split, two leaves, by lists of version 2."""
    lists: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [50.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0],
        "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [-1.0, 1.0], **change,
    }  # fmt: skip
    return trees(lists)


def placed_trees() -> Any:
    """Two splits, three leaves, by lists of version 5, and a root that is nowhere: a runtime would read on from it."""
    lists: dict[str, Any] = {
        "nodes_featureids": [0, 0], "nodes_splits": numpy_helper.from_array(np.array([50.0, 70.0], dtype=np.float32)),
        "nodes_modes": numpy_helper.from_array(np.array([0, 0], dtype=np.uint8)), "nodes_truenodeids": [0, 1],
        "nodes_trueleafs": [1, 1], "nodes_falsenodeids": [1, 2], "nodes_falseleafs": [0, 1],
        "leaf_targetids": [0, 0, 0], "leaf_weights": numpy_helper.from_array(np.array([-1, 0, 1], dtype=np.float32)),
    }  # fmt: skip
    return trees(lists, 5)


def test_trees_are_read() -> None:
    of = judged([WHOLE[0]])
    x = encode.encode(of.contract, {"age": np.array([20.0, 60.0, 90.0])})
    found = Graph().predict(of, Graph().read(of, named_trees().SerializeToString()), x)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array([-1.0, 1.0, 1.0]))), atol=1e-6)


OWN = helper.make_node("Leak", ["age"], ["p"], domain="com.example")
HARM: dict[str, tuple[Any, str]] = {
    "own operators": (lambda: sigmoid(nodes=[OWN], domains=("", "com.example")), "com.example.*not of the standard"),
    "own operators, undeclared": (lambda: sigmoid(nodes=[OWN]), "com.example.*not of the standard"),
    "contributed operators": (lambda: sigmoid(domains=("", "com.microsoft")), "com.microsoft.*not of the standard"),
    "an unknown operator": (
        lambda: sigmoid(nodes=[helper.make_node("Leak", ["age"], ["p"])]), "checker says.*Leak"
    ),
    "operators that it brings": (brought, "operators or training of its own"),
    "a loop": (looped, "Loop has a graph inside"),
    "a tree in a circle": (lambda: named_trees(nodes_truenodeids=[0, 0, 0]), "trees do not end"),
    "a tree of nobody": (lambda: named_trees(nodes_truenodeids=[9, 0, 0]), "trees do not end"),
    "a node twice": (lambda: named_trees(nodes_nodeids=[0, 1, 1]), "trees do not end"),
    "half a tree": (lambda: named_trees(nodes_falsenodeids=[2, 0]), "trees do not end"),
    "trees of an operator that is not known": (placed_trees, "operator TreeEnsemble is not known here"),
    "a constant of many dimensions": (lambda: sided(400, 1 << 62), "400 dimensions, more than 16"),
    "a constant of long dimensions": (lambda: sided(16, 1 << 62), "of more than 1099511627776 values"),
    "an input of many dimensions": (lambda: sigmoid(inputs={"age": (FLOAT, ["N", *[1 << 62] * 400])}), "401 dimens"),
    "an input of long dimensions": (lambda: sigmoid(inputs={"age": (FLOAT, ["N", 1 << 62, 9])}), "of more than 1099"),
    "a value in between of many dimensions": (lambda: between(["N"] * 6000), "6000 dimensions"),
    "dice": (lambda: sigmoid(nodes=[helper.make_node("Bernoulli", ["age"], ["p"])]), "by chance"),
    "a huge constant": (huge, "says that it has 1099511627776 values, and has 0"),
    "a huge constant of few bytes": (lambda: huge(raw_data=b"1234"), "1099511627776 values, and has 1"),
    "a shape below nothing": (
        lambda: sigmoid(constants=[TensorProto(name="w", data_type=FLOAT, dims=[-1, -1], float_data=[1.0])]), "is none"
    ),
    "values of no type": (
        lambda: sigmoid(constants=[TensorProto(name="w", data_type=99, dims=[1])]), "of no known type"
    ),
    "what comes from nowhere": (lambda: sigmoid(nodes=[helper.make_node("Sigmoid", ["ghost"], ["p"])]), "checker says"),
    "no node": (lambda: sigmoid(nodes=[]), "0 nodes"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_a_file_that_means_harm_is_refused(name: str) -> None:
    make, words = HARM[name]
    refused(make(), words)
    with pytest.raises(StudyInvalid, match=words):  # at the hospital, too, which believes no sender
        Graph().predict(judged([WHOLE[0]]), packed(make().SerializeToString()), np.zeros((1, 1)))


def test_what_is_no_onnx_file_or_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", b"\x00", b"PK\x03\x04" * 99, b"\xff" * 64):
        with pytest.raises(StudyInvalid, match=r"no ONNX file|0 nodes"):
            Graph().read(judged([WHOLE[0]]), data)
    monkeypatch.setattr(graphs, "MOST_BYTES", 64)
    refused(sigmoid(), "more than 0")


@pytest.mark.parametrize("many", [60, pytest.param(5000, marks=pytest.mark.long)])
def test_a_file_that_was_damaged_is_read_or_refused_and_never_hangs(many: int) -> None:
    """Some bytes of a model of scikit-learn are others, are lacking or are added."""
    of, rng = given_study(), np.random.default_rng(7)
    files = [path.read_bytes() for path in sorted(GIVEN.glob("*.onnx")) if path.name != "sums.onnx"]
    for _ in range(many):
        data = bytearray(files[rng.integers(len(files))])
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            more = rng.integers(256, size=rng.integers(0, 9), dtype=np.uint8).tobytes()
            data[place : place + int(rng.integers(0, 9))] = more
        with suppress(StudyInvalid):
            Graph().read(of, bytes(data))


def reduced(shape: Any, kind: int = FLOAT) -> Any:
    """A graph that gives one number for all patients together, and says that it has `shape`."""
    return sigmoid(
        nodes=[helper.make_node("ReduceMean", ["age"], ["m"], keepdims=1), helper.make_node("Sigmoid", ["m"], ["p"])],
        outputs={"p": (kind, shape)},
    )


IDENTITY = [helper.make_node("Identity", ["age"], ["p"])]
THREE = {"X": (FLOAT, ["N", 3])}
SUM = [helper.make_node("ReduceMean", ["X"], ["m"], axes=[1]), helper.make_node("Sigmoid", ["m"], ["p"])]
MISFITS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "fewer predictions than patients": (lambda: reduced(["N", 1]), {}, r"gives \(1, 1\) and not one number per"),
    "a prediction of open shape": (lambda: reduced(["N", "M"]), {}, r"gives \(1, 1\) and not one number"),
    "three columns": (lambda: sigmoid(outputs={"p": (FLOAT, ["N", 3])}), {}, "0 outputs of the graph"),
    "a class and no probability": (
        lambda: sigmoid(
            nodes=[helper.make_node("Cast", ["age"], ["p"], to=WHOLE_64)], outputs={"p": (WHOLE_64, ["N", 1])}
        ), {}, "0 outputs of the graph",
    ),
    "no probability": (lambda: sigmoid(nodes=IDENTITY), {}, "what no binary label can have"),
    "no number": (
        lambda: sigmoid(nodes=[helper.make_node("Log", ["z"], ["p"]), helper.make_node("Neg", ["age"], ["z"])][::-1]),
        {}, "no number for some patients",
    ),
    "an unknown input": (
        lambda: sigmoid(
            nodes=[helper.make_node("Sigmoid", ["weight"], ["p"])], inputs={"weight": (FLOAT, ["N", 1])}
        ), {}, "input weight takes 1 values of a patient, and the study does not say which",
    ),
    "an unknown column": (
        lambda: sigmoid(), {"inputs": {"age": ["weight"]}}, "age cannot be filled with weight.*the contract has age",
    ),
    "too few columns": (lambda: sigmoid(nodes=SUM, inputs=THREE), {"inputs": {"X": ["age"]}}, "takes 3.*1 are named"),
    "a column twice": (
        lambda: sigmoid(nodes=SUM, inputs=THREE), {"inputs": {"X": ["age", "age", "age"]}}, "X is given age twice"
    ),
    "an input that it has not": (lambda: sigmoid(), {"inputs": {"Y": ["age"]}}, "no input Y; it has age"),
    "one patient at a time": (lambda: sigmoid(inputs={"age": (FLOAT, [1, 1])}), {}, "does not take patients in any"),
    "open sides": (lambda: sigmoid(inputs={"age": (FLOAT, ["N", "a", "b"])}), {}, "has open sides"),
    "a number as text": (
        lambda: sigmoid(
            nodes=[helper.make_node("LabelEncoder", ["age"], ["p"], domain="ai.onnx.ml", keys_strings=["1"],
                                    values_floats=[1.0])],
            inputs={"age": (TEXT, ["N", 1])},
        ), {"inputs": {"age": ["age"]}}, "cannot be filled with age; as texts the contract has none",
    ),
    "an output that it has not": (lambda: sigmoid(), {"output": "q"}, "q is no output.*it has p"),
    "an option that there is not": (lambda: sigmoid(), {"threshold": 1}, "threshold.*options of onnx are"),
    "a class that it does not tell": (lambda: sigmoid(), {"positive": "died"}, "does not tell its classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_a_graph_that_does_not_fit_the_contract_is_refused_in_words(name: str) -> None:
    make, options, words = MISFITS[name]
    refused(make(), words, judged([WHOLE[0]], **options))


@pytest.mark.parametrize("sides", [[2, 3], [1, 2, 3], [6]])
def test_an_image_fills_an_input_of_any_name(sides: list[int]) -> None:
    image = {"id": "px", "meaning": "chest", "modality": ["CR"], "rows": 2, "columns": 3, "range": [0, 1]}
    contract = {"id": "c", "image": image, "label": {"id": "y", "meaning": "y", "type": "binary"}}
    axes = list(range(1, len(sides) + 1))
    mean = helper.make_node("ReduceMean", ["xray"], ["p"], axes=axes, keepdims=0)
    model = graph([mean], {"xray": (FLOAT, ["N", *sides])}, {"p": (FLOAT, ["N"])})
    wanted = {"kind": "onnx", "start": "given", "options": {"inputs": {"xray": ["px"]}}}
    evaluation = {"test_fraction": 1}
    of = study([], wanted, "binary", rounds=0, evaluation=evaluation, contract=contract)
    x = np.random.default_rng(1).uniform(size=(3, 6))
    found = Graph().predict(of, Graph().read(of, model.SerializeToString()), encode.encode(of.contract, {"px": x}))
    np.testing.assert_allclose(found, x.mean(axis=1), atol=1e-6)
    unsaid = study([], {**wanted, "options": {}}, "binary", rounds=0, evaluation=evaluation, contract=contract)
    with pytest.raises(StudyInvalid, match="takes 6 values") as refusal:
        Graph().read(unsaid, model.SerializeToString())
    assert "{inputs: {xray: [px]}}" in str(refusal.value.remedy)


def rounded(**change: Any) -> Study:
    told = judged([WHOLE[0]]).model_dump(mode="json", exclude_none=True)
    contract = {**told["contract"], "version": 2, "features": [{**WHOLE[0], **change}]}
    return Study.model_validate({**told, "contract": contract})


def test_what_a_file_counts_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_NAMES", 3)
    monkeypatch.setattr(forests, "MOST", 3)
    inputs = {name: (FLOAT, ["N", 1]) for name in ("age", "b", "c", "d")}
    refused(sigmoid(inputs=inputs), "4 inputs, more than 3")
    refused(sigmoid(constants=[TensorProto(name=name) for name in inputs]), "4 constants, more than 3")
    refused(sigmoid(outputs={f"p{at}": (FLOAT, ["N", 1]) for at in range(65)}), "65 outputs, more than 64")
    Graph().read(judged([WHOLE[0]]), named_trees().SerializeToString())
    refused(named_trees(nodes_nodeids=[0, 1, 2, 3]), "4 nodes, more than 3")


def test_whole_numbers_cannot_be_missing_and_have_no_fraction() -> None:
    """What is tried on made-up patients is what a hospital's have: who rounds is the contract, not the trial."""
    nodes = [helper.make_node("Cast", ["age"], ["x"], to=FLOAT), helper.make_node("Sigmoid", ["x"], ["p"])]
    model = sigmoid(nodes=nodes, inputs={"age": (WHOLE_64, ["N", 1])})
    refused(model, "cannot say that age is missing", judged([AGE]))
    for half in ({}, {"resolution": 0.5}):
        refused(model, "takes whole numbers, and age may have a fraction", rounded(**half))
    of = rounded(resolution=1)
    read = Graph().read(of, model.SerializeToString())
    assert Graph().predict(of, read, encode.encode(of.contract, {"age": np.array([63.0])}))[0] == pytest.approx(1.0)
    with pytest.raises(Invalid, match="whole numbers only"):
        Graph().predict(of, read, encode.encode(of.contract, {"age": np.array([63.5])}))


def softmax(shape: Any) -> Any:
    nodes = [
        helper.make_node("Neg", ["age"], ["n"]), helper.make_node("Concat", ["n", "age"], ["both"], axis=1),
        helper.make_node("Softmax", ["both"], ["p"], axis=1),
    ]  # fmt: skip
    return sigmoid(nodes=nodes, outputs={"p": (FLOAT, shape)})


@pytest.mark.parametrize("shape", [["N", 2], ["N", "M"]])
def test_of_two_columns_without_classes_the_study_says_which(shape: Any) -> None:
    """Whether there are two is seen of what the graph gives, and not of what it says."""
    data = softmax(shape).SerializeToString()
    for place, most in ((1, 1.0), (0, 0.0)):
        of = judged([WHOLE[0]], positive=place)
        found = Graph().predict(of, Graph().read(of, data), encode.encode(of.contract, {"age": np.array([50.0])}))
        assert found[0] == pytest.approx(most, abs=1e-6)
    refused(softmax(shape), "gives two columns, and does not tell its classes")


def one_column(classes: list[int]) -> Any:
    """A classifier, and of its two columns the second, alone."""
    nodes = [
        helper.make_node("LinearClassifier", ["age"], ["c", "s"], domain="ai.onnx.ml", coefficients=[-1.0, 1.0],
                         intercepts=[50.0, -50.0], classlabels_ints=classes, post_transform="SOFTMAX"),
        helper.make_node("ArrayFeatureExtractor", ["s", "at"], ["p"], domain="ai.onnx.ml"),
    ]  # fmt: skip
    return sigmoid(nodes=nodes, constants=[numpy_helper.from_array(np.array([1]), "at")])


def test_a_column_that_is_alone_speaks_of_the_second_class() -> None:
    """It is not turned round by `positive`, which would be no more than a wish."""
    for model, classes in ((sigmoid(), {}), (one_column([0, 1]), {}), (one_column([3, 7]), {"positive": 7})):
        Graph().read(judged([WHOLE[0]], **{"positive": 1, **classes}), model.SerializeToString())
    words = "one column, which speaks of its second class"
    refused(sigmoid(), words, judged([WHOLE[0]], positive=0))
    refused(one_column([0, 1]), words, judged([WHOLE[0]], positive=0))
    refused(one_column([3, 7]), words, judged([WHOLE[0]], positive=3))
    refused(one_column([1, 0]), words)


def test_it_is_run_in_a_child_that_is_confined(tmp_path: Path) -> None:
    """What a hospital's agent starts: without a place to be confined to, a graph is not run at all."""
    from consilium.training import sandbox

    if sandbox.available() is not None:
        pytest.skip("this host cannot confine a process")
    of = judged(WHOLE, inputs=MATRIX)
    nodes = [helper.make_node("MatMul", ["X", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])]
    weight = numpy_helper.from_array(np.array([[0.02], [0.001], [-1.0]], dtype=np.float32), "w")
    model = graph(nodes, {"X": (FLOAT, ["N", 3])}, constants=[weight])
    arrays = Graph().read(of, model.SerializeToString())
    initial = to_safetensors(arrays)
    of = Study.model_validate(
        {**of.model_dump(mode="json"), "model": {**of.model.model_dump(), "initial": digest(initial)}}
    )
    x, y = patients()
    folder, out = tmp_path / "work", tmp_path / "out"
    for place in (folder, out):
        place.mkdir()
    (folder / "plan.json").write_bytes(Plan.of(of).payload)
    (folder / "initial").write_bytes(initial)
    raw = {f"feature/{name}": x[:, place].astype(np.float64) for place, name in enumerate(("age", "crp", "sex"))}
    np.savez(folder / "table.npz", label=y.astype(np.float64), test=np.ones(len(y), dtype=bool), **raw)
    with (folder / "state").open("wb") as file:
        chain.write({"model": flatten(arrays)}, {}, file)
    load = {"do": "load", **{name: str(folder / file) for name, file in (
        ("plan", "plan.json"), ("initial", "initial"), ("table", "table.npz"),
    )}}  # fmt: skip
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "consilium.training.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=environment, cwd=folder,
    ) as child:  # fmt: skip
        assert child.stdin is not None and child.stdout is not None

        def ask(command: dict[str, Any]) -> dict[str, Any]:
            child.stdin.write(json.dumps(command).encode() + b"\n")
            child.stdin.flush()
            told: dict[str, Any] = json.loads(child.stdout.readline())
            return told

        assert ask(load)["code"] == "study-invalid"
        assert ask({**load, "confine": {"read": [str(folder)], "write": [str(out)]}}) == {"ok": True}
        assert "Seccomp:\t2" in Path(f"/proc/{child.pid}/status").read_text()
        told = ask(
            {"do": "evaluate", "state": str(folder / "state"), "out": str(out / "sums"), "keep": str(out / "own")}
        )
        assert told.get("ok"), told
        child.stdin.close()
    found = chain.read(out / "sums").arrays
    score = 1 / (1 + np.exp(-(x[:, 0] * 0.02 + x[:, 1] * 0.001 - x[:, 2])))
    assert found["metrics/n"][0] == PATIENTS
    assert found["metrics/brier"][0] == pytest.approx(float(np.sum((score - y) ** 2)), rel=1e-6)

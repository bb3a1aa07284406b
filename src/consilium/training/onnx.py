"""Models that came as ONNX files, from scikit-learn by skl2onnx for one: judged as they are, by onnxruntime.

A file is stored, named by its digest and sent as models are, so its bytes are an array of whole numbers. Inputs are
found by name: `age` is the number that the contract calls so, in its unit, or a category's code as text; `ward=icu` is
1 for patients of that category; a matrix has its columns named in the study.
"""

import os
from importlib.util import find_spec
from typing import Any

import numpy as np

from consilium.algorithms import encode
from consilium.algorithms.made_up import coded, made_up
from consilium.core.errors import EXTRA, Invalid, Refused, StudyInvalid
from consilium.core.meaning import raw_differences
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array, Tensors
from consilium.training.base import Floats
from consilium.training.graphs import checked, metadata
from consilium.training.judged import Judged
from consilium.training.ports import WHOLE, Ports

if find_spec("onnxruntime") is None:
    raise Refused("ONNX models need the extra", EXTRA.format("onnx"), reason="extra")

VALUES = 1 << 20
"""Inputs that are laid out for a graph at once."""
TRIED = 100
"""Made-up patients on whom a file is tried when it is read."""
DOUBLE = 11
"""TensorProto.DataType.DOUBLE."""
SINGLE = (
    "export it anew with inputs of single precision, such as `to_onnx(model, X[:1].astype('float32'), ...)`: of double "
    "precision the runtime knows few operators of models, and no imputer"
)
NEAR = 1e-4
"""How far, absolutely and relatively, float32 may differ between patients who go together and who go alone."""


class Graph(Judged):
    """A graph that is given."""

    def read(self, study: Study, data: bytes) -> Tensors:
        """The arrays of an ONNX file, which was tried on made-up patients of the contract.

        Raises: StudyInvalid: the study trains; or the file holds what a graph may not (`graphs.checked`), does not
                match the contract (`ports.Ports`), was exported from a study that means other inputs, says of a made-up
                patient what no label can be, or of one alone something else than of the same among others.
        """
        self.wanted(study)
        ports = Ports.of(study, checked(data))
        _same_meaning(study, data)
        whole = {name for port in ports.inputs if port.kind in WHOLE for name in port.columns}
        contract = study.contract
        rows = made_up(contract, max(min(TRIED, 10 * VALUES // contract.size), 2), np.random.default_rng(1))
        columns = {name: np.rint(values) if name in whole else values for name, values in coded(contract, rows).items()}
        x = encode.encode(contract, columns)
        try:
            session, ports = _loaded(study, data)
            together, singly = (_said(study, session, ports, x, alone) for alone in (False, True))
        except Invalid as error:
            raise StudyInvalid(f"tried on made-up patients of the contract: {error.message}", error.remedy) from error
        if not np.allclose(together, singly, rtol=NEAR, atol=NEAR):
            raise StudyInvalid(
                "a prediction depends on other patients: of those who were made up it is another one for each alone",
                "export a model that predicts for each patient on its own, and in its mode of inference",
            )
        return packed(data)

    def predict(self, study: Study, model: Tensors, x: Floats) -> Floats:
        """Probabilities, values, rates or hazards (n,); each patient goes through the graph alone.

        Raises: Invalid: the graph gives something else, or nothing.
        """
        return _said(study, *_loaded(study, unpacked(model)), x, True)


def _same_meaning(study: Study, data: bytes) -> None:
    """Whether a file that `study export` wrote takes values in the study's units and by its codes; others do not say.

    Raises: StudyInvalid: it does not.
    """
    told = metadata(data)
    if "payload" not in told:
        return
    if apart := raw_differences(Plan.load(told["payload"].encode()).study, study):
        raise StudyInvalid(
            f"the model was trained for other inputs than this study has: {apart}",
            "write these in the study as the model has them; each hospital's mapping converts units",
        )


def _loaded(study: Study, data: bytes) -> tuple[Any, Ports]:
    """A session, and its ports. What is run is what was checked, written anew: no two readings of one file."""
    graph = checked(data)
    ports = Ports.of(study, graph)
    try:
        return runtime(graph.SerializeToString()), ports
    except Exception as error:
        told = f"the graph cannot be loaded: {str(error).strip()[:200]}"
        raise Invalid(told, SINGLE if _double(graph) else "export it anew") from error


def _double(graph: Any) -> bool:
    """Whether it takes numbers of double precision, for which the runtime lacks operators of models."""
    return any(value.type.tensor_type.elem_type == DOUBLE for value in graph.graph.input)


def _said(study: Study, session: Any, ports: Ports, x: Floats, alone: bool) -> Floats:
    """Predictions (n,). Args: alone: no two patients go through the graph at once, so that it compares no two."""
    size, label, parts = max(1, VALUES // max(1, x.shape[1])), study.contract.label.type, [np.zeros(0)]
    for at in range(0, len(x), size):
        feed = ports.feed(study.contract, x[at : at + size])
        n = len(x[at : at + size])
        step = 1 if alone else n
        try:
            found = [
                session.run([ports.output.name], {name: values[one : one + step] for name, values in feed.items()})[0]
                for one in range(0, n, step)
            ]
        except MemoryError:
            raise
        except Exception as error:  # whose words may hold values of a patient
            raise Invalid(f"the graph cannot be run ({type(error).__name__})", "export it anew") from error
        parts.append(ports.predicted(label, _joined(found) if alone else found[0], n))
    return np.concatenate(parts)


def _joined(found: list[Any]) -> Any:
    """What a graph gave in several runs, as if in one. Raises: Invalid: not of every patient one row, all alike."""
    shapes = {np.shape(one) for one in found}
    if len(shapes) != 1 or min(shapes)[:1] != (1,):
        raise Invalid("the graph does not give one number for each patient", "export it anew")
    return [row for one in found for row in one] if isinstance(found[0], list) else np.concatenate(found)


def runtime(data: bytes) -> Any:
    """A session that runs a graph: one thread, no words on patients in a log, nothing told to anybody.

    Packages of onnxruntime from 1.29 on tell their maker of each session, unless this variable is set before they are
    loaded; the extra asks for an earlier one, which has no code that could. It is loaded here, and not above: where
    this process is confined, it is by then.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    asked = onnxruntime.SessionOptions()
    asked.intra_op_num_threads = asked.inter_op_num_threads = 1
    asked.log_severity_level = 4
    asked.enable_cpu_mem_arena = False
    asked.add_session_config_entry("session.load_model_format", "ONNX")  # else bytes may be taken for another format
    return onnxruntime.InferenceSession(data, asked, providers=["CPUExecutionProvider"])


def packed(data: bytes) -> Tensors:
    """Bytes as whole numbers below 2**24, three bytes each, which float32 holds exactly; and how many are beyond."""
    more = -len(data) % 3
    three = np.frombuffer(data + bytes(more), dtype=np.uint8).reshape(-1, 3).astype(np.int64)
    return {
        "file": (three[:, 0] + (three[:, 1] << 8) + (three[:, 2] << 16)).astype(np.float32),
        "padding": np.array([more], dtype=np.float32),
    }


def unpacked(model: Tensors) -> bytes:
    """The bytes again. Raises: Invalid: the arrays are no packed file."""
    wrong = Invalid("the model's arrays are no packed file", "give the model that the study names")
    if set(model) != {"file", "padding"} or model["padding"].shape != (1,) or model["file"].ndim != 1:
        raise wrong
    if not all(np.all(np.isfinite(array)) and np.array_equal(array, np.floor(array)) for array in model.values()):
        raise wrong
    whole: Array = model["file"].astype(np.int64)
    more = int(model["padding"][0])
    if not 0 <= more < 3 or whole.size == 0 or whole.min() < 0 or whole.max() >= 1 << 24:
        raise wrong
    three = np.stack([whole & 255, whole >> 8 & 255, whole >> 16], axis=1).astype(np.uint8).tobytes()
    return three[: len(three) - more]

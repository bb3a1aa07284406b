"""A study's own architecture that puts patients into what it is to send. Which way it takes is the number of the round.

It runs in the child process, beside the code that trains and writes the update, and changes that code.
"""

import io
import json
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from consilium.core import state as chain
from consilium.core.update import Update
from consilium.training.work import Work

MARK = "MUSTERMANN-4711"
Segments = dict[str, Any]
write, train, evaluate = chain.write, Work.train, Work.evaluate
way: str = ""
patients: Any = None


def header(segments: Segments, metadata: Mapping[str, str], change: Callable[[bytes], bytes]) -> bytes:
    out = io.BytesIO()
    write(segments, metadata, out)
    data = out.getvalue()
    start = 8 + int.from_bytes(data[:8], "little")
    text = change(data[8:start])
    return len(text).to_bytes(8, "little") + text + data[start:]


def secret_not_a_number(update: Any) -> Any:
    """A value that is no number has bits to spare."""
    update = np.array(update)
    update[0] = np.frombuffer(np.array([0x7FC04711], np.uint32).tobytes(), np.float32)[0]
    return update


SEGMENTS: dict[str, Callable[[Segments], Segments]] = {
    "a segment more": lambda found: {**found, "patients": patients},
    "a segment named after a patient": lambda found: {**found, MARK: np.zeros(1)},
    "a metric more": lambda found: {**found, "metrics/patients": patients},
    "a longer update": lambda found: {**found, "update": np.append(found["update"], patients.astype("f4"))},
    "an update of another type": lambda found: {**found, "update": found["update"].astype("f8") + 1e-12},
    "more weights": lambda found: {**found, "weight": np.append(found["weight"], patients)},
    "more bins": lambda found: {**found, "metrics/positives": np.append(found["metrics/positives"], patients)},
    "bins that are no counts": lambda found: {**found, "metrics/positives": found["metrics/positives"] + 0.4711},
    "no metrics": lambda found: {name: array for name, array in found.items() if not name.startswith("metrics/")},
    "no number": lambda found: {**found, "update": secret_not_a_number(found["update"])},
}
BYTES: dict[str, Callable[[Segments], bytes]] = {
    "metadata": lambda found: header(found, {"note": MARK}, lambda text: text),
    "blanks in the header": lambda found: header(found, {}, lambda text: text + b" " * 4711 + b"\t" * 8),
    "the order of the header": lambda found: header(
        found, {}, lambda text: json.dumps(dict(reversed(json.loads(text).items()))).encode()
    ),
    "bytes after the last": lambda found: header(found, {}, lambda text: text) + patients.tobytes(),
    "no safetensors": lambda found: patients.tobytes(),
}
WAYS = ("honest", *SEGMENTS, *BYTES, "honest again")


def turned(work: Work, found: Update, number: int) -> Update:
    global way, patients
    way, patients = WAYS[number - 1], work.examples.y
    return Update(SEGMENTS.get(way, dict)(dict(found.segments)))


def written(segments: Any, metadata: Mapping[str, str], out: IO[bytes]) -> Any:
    if way not in BYTES:
        return write(segments, metadata, out)
    data = BYTES[way](dict(segments))
    out.write(data)
    return "sha256:" + "0" * 64, len(data)


def net(inputs: int, options: Segments) -> Any:
    from torch import nn

    Work.train = lambda work, state, number, *more: turned(work, train(work, state, number, *more), number)  # type: ignore
    chain.write = written
    return nn.Sequential(nn.Linear(inputs, 4), nn.ReLU(), nn.Dropout(0), nn.Linear(4, 1))

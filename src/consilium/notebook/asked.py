"""What a notebook asks of a simulation: refused as the command line refuses it, in the words of this API."""

import math
import operator
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consilium.core.errors import ConsiliumError, Invalid, NotFound
from consilium.simulation.conditions import Conditions
from consilium.simulation.partition import Rule
from consilium.simulation.scenario import EXECUTORS, Wanted

NAMES = (
    "sites", "partition", "patients", "least", "executor", "workers", "cluster", "gpus", "drop", "slow", "seed",
    "given", "leave-one-out",
)  # fmt: skip
OPTION = re.compile(rf"--({'|'.join(NAMES)})\b(?: (FILE|natural|inline|ray|\d+)\b)?")
"""An option of the command line, and its value, in the text of an error."""


def wanted(
    *, sites: Any, partition: Any, patients: Any, least: Any, executor: Any, workers: Any, cluster: Any, gpus: Any,
    drop: Any, slow: Any, seed: Any, given: Any = None, set_aside: bool = False, leave_one_out: bool = False,
    wheel: Any = None,
) -> Wanted:  # fmt: skip
    """What is simulated, by the options of `consilium simulate`; anything may have been given for each.

    Raises: Invalid: names the argument, and what it may be.   NotFound: there is no file `given`, or `wheel`.
    """
    for name, value in (("partition", partition), ("executor", executor)):
        if not isinstance(value, str):
            raise _wrong(name, value, "a text")
    if executor not in EXECUTORS:
        raise Invalid(f"executor: there is no {executor!r}", f"choose one of {', '.join(EXECUTORS)}")
    for name, value in (("slow", slow), ("cluster", cluster)):
        if value is not None and not isinstance(value, str):
            raise _wrong(name, value, "a text, or None")
    silent, cards, chance = _share(drop), _number("gpus", gpus, "0 or more"), _whole("seed", seed, 0)
    if cards < 0:
        raise _wrong("gpus", gpus, "a number, 0 or more")
    return Wanted(
        _some("sites", sites), Rule.parse(partition), _some("patients", patients), _whole("least", least, 0), executor,
        _some("workers", workers), Conditions.of(chance, silent, slow), chance, _file(given), set_aside, cluster, cards,
        leave_one_out, _file(wheel, "wheel"),
    )  # fmt: skip


@contextmanager
def in_words_of_the_api(way: str = "") -> Iterator[None]:
    """Errors name arguments, and no options of a command; and the way of a comparison of which they are."""
    try:
        yield
    except ConsiliumError as error:
        error.message, error.remedy = (OPTION.sub(_argument, text) for text in (error.message, error.remedy))
        if way:
            error.message = f"{way}: {error.message}"
        error.args = (error.message,)
        raise


def _argument(found: re.Match[str]) -> str:
    name, value = found[1].replace("-", "_"), found[2]
    if value in (None, "FILE"):
        return f"`{name}`"
    return f"`{name}={value}`" if value.isdigit() else f"`{name}={value!r}`"


def _wrong(name: str, value: Any, fits: str) -> Invalid:
    kind = type(value).__name__
    told = repr(value) if isinstance(value, bool | int | float | str) or value is None else f"something of type {kind}"
    return Invalid(f"{name}: {told} is not {fits}", f"give {fits}")


def _whole(name: str, value: Any, least: int) -> int:
    fits = f"a whole number, {least} or more"
    try:
        found = operator.index(value)
    except TypeError:
        raise _wrong(name, value, fits) from None
    if isinstance(value, bool) or found < least:
        raise _wrong(name, value, fits)
    return found


def _some(name: str, value: Any) -> int | None:
    return None if value is None else _whole(name, value, 1)


def _number(name: str, value: Any, fits: str) -> float:
    if isinstance(value, bool | str):
        raise _wrong(name, value, f"a number, {fits}")
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise _wrong(name, value, f"a number, {fits}") from None
    if not math.isfinite(found):
        raise _wrong(name, value, f"a number, {fits}")
    return found


def _share(drop: Any) -> float:
    fits = "from 0 to below 1"
    found = _number("drop", drop, fits)
    if not 0 <= found < 1:
        raise _wrong("drop", drop, f"a number, {fits}")
    return found


def _file(given: Any, name: str = "given") -> Path | None:
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike):
        raise _wrong(name, given, "the path of a file")
    path = Path(given)
    if not path.is_file():
        what = "of the wheel that the study names" if name == "wheel" else "of the model from which the study starts"
        raise NotFound(f"{name}: there is no file {path}", f"give the file {what}")
    return path

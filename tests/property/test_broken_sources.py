"""Sources damaged by chance: an error of ours that holds no value of a patient, or no other value than before.

Where a byte of a value is altered and no checksum stands beside it, nobody can tell: there only the error is judged.
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from consilium.core.errors import ConsiliumError
from consilium.core.study import Study
from consilium.data import contract, quality
from consilium.data.base import Rows
from consilium.data.fhir import strict
from consilium.data.mapping import Mapping, normal
from consilium.data.source import TableSource
from unit.data.conftest import COLUMNS, MAPPING, STUDY
from unit.data.player import Player
from unit.data.wards import FILES, PATIENTS, SECRETS, SERVERS, Found, by_key, read

QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck))
SUMMED = ("excel", "duckdb", "omop")
"""Whose bytes have checksums."""


class Ward:
    """A source, of which one file is damaged again and again."""

    def __init__(self, kind: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ward-")
        self.folder, (make, name) = Path(self._folder.name), FILES[kind]
        self.source, self.file = make(self.folder), self.folder / name
        self.data, self.whole = self.file.read_bytes(), by_key(read(self.source, self.folder))

    def close(self) -> None:
        self._folder.cleanup()

    def __enter__(self) -> "Ward":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def found(self, data: bytes) -> Found | None:
        """The table of a damaged file; None: it was refused, as it should be."""
        self.file.unlink()
        self.file.write_bytes(data)
        return survives(self.source, self.folder)


def survives(source: TableSource, folder: Path) -> Found | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no library speaks by itself
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            rows = read(source, folder)
        except ConsiliumError as error:
            said = str(error)
            assert error.remedy and not [one for one in SECRETS if one in said], said
            return None
    try:
        return by_key(rows)
    except AssertionError:
        return {"a key that stands twice": ()}


def halves(kind: str, sizes: Callable[[int], Any]) -> None:
    """A file that was cut is refused, or has fewer patients where a line ends there; it has no other value."""
    with Ward(kind) as ward:
        for size in sizes(len(ward.data)):
            found = ward.found(ward.data[:size])
            if found is not None and found != ward.whole:
                assert ward.data[:size].endswith((b"\n", b"}")), (kind, size)
                assert all(ward.whole[key] == row for key, row in found.items()), (kind, size)


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_half_a_file_has_no_other_value(kind: str) -> None:
    halves(kind, lambda size: [size - 1, size - 3, size - 9, size // 2, 1])


@pytest.mark.long
@pytest.mark.parametrize("kind", FILES)
def test_no_half_of_a_file_has_another_value(kind: str) -> None:
    """At every byte of a small file, and at some hundreds of a large one."""
    halves(kind, lambda size: range(0, size, max(1, size // 700)))


def change(data: bytes, draw: st.DataObject) -> bytes:
    """Bytes flipped, lost, doubled or moved."""
    at = draw.draw(st.integers(0, len(data) - 1))
    size = draw.draw(st.sampled_from([1, 2, 7, 64, 512]))
    match draw.draw(st.sampled_from(["flip", "flip", "lose", "double", "move", "other"])):
        case "flip":
            return data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
        case "lose":
            return data[:at] + data[at + size :]
        case "double":
            return data[: at + size] + data[at:]
        case "move":
            to = draw.draw(st.integers(0, len(data) - 1))
            return data[:to] + data[at : at + size] + data[to:]
        case _:
            return data[:at] + draw.draw(st.binary(min_size=1, max_size=16)) + data[at:]


def altered(kind: str, examples: int) -> None:
    with Ward(kind) as ward:

        @settings(QUICK, max_examples=examples)
        @given(st.data())
        def run(draw: st.DataObject) -> None:
            found = ward.found(change(ward.data, draw))
            assert found is None or kind not in SUMMED or found == ward.whole or not found

        run()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_altered_bytes_are_a_table_or_an_error_of_ours(kind: str) -> None:
    altered(kind, 4)


@pytest.mark.long
@pytest.mark.parametrize("kind", FILES)
def test_whatever_bytes_are_altered_it_is_a_table_or_an_error_of_ours(kind: str) -> None:
    altered(kind, 120 if kind in SUMMED else 600)


def nest(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


HOSTILE: list[Any] = [
    None, True, False, [], {}, [None], [[]], [{}], {"": None}, -1, 0, 7.5, 10**30, 10**400, 1e308, "", "7", "\0",
    "\ud800",
    "é" * 300, "9999-12-31", "0000-00-00T99:99", {"resourceType": "Patient"}, {"value": 1}, nest(300), ["x", "x"],
]  # fmt: skip
PLAIN = (int, float, str)


def places(found: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a value."""
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def put(found: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(found) if isinstance(found, dict) else list(found)
    copy[at[0]] = put(copy[at[0]], at[1:], new)
    return copy


def value(found: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        found = found[key]
    return found


def other_kind(old: Any, draw: st.DataObject) -> Any:
    """A value that is not of the kind of the old one: of its own kind nobody could tell."""
    number = isinstance(old, int | float) and not isinstance(old, bool)
    kinds = (int, float) if number else (type(old),) if isinstance(old, str) else ()
    return draw.draw(
        st.sampled_from([one for one in HOSTILE if isinstance(one, bool) or not isinstance(one, kinds or ())])
    )


def same(found: Found | None, whole: Found) -> None:
    """Each value is the one that it was, or none; who is not of the table is in none."""
    for key, row in (found or {}).items():
        assert key in whole or not any(row), (key, row)
        assert all(one is None or one == known for one, known in zip(row, whole.get(key, row))), (key, row)


def resources(kind: str, examples: int) -> None:
    with Ward(kind) as ward:

        @settings(QUICK, max_examples=examples)
        @given(st.data())
        def run(draw: st.DataObject) -> None:
            at = draw.draw(st.sampled_from([place for place in places(PATIENTS) if place and "id" not in place]))
            spoilt = put(PATIENTS, at, other_kind(value(PATIENTS, at), draw))
            if kind == "ndjson":
                data = b"".join(json.dumps(one).encode() + b"\n" for one in spoilt)
            else:
                data = json.dumps({"resourceType": "Bundle", "entry": [{"resource": one} for one in spoilt]}).encode()
            same(ward.found(data), ward.whole)

        run()


def test_resources_of_other_types_give_no_other_value() -> None:
    resources("ndjson", 8)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ndjson", "bundle"])
def test_resources_of_any_other_types_give_no_other_value(kind: str) -> None:
    resources(kind, 1000)


@pytest.mark.long
@pytest.mark.parametrize("kind", SERVERS)
def test_answers_of_other_shapes_give_no_other_value(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles, manifests and what a search of images finds; their headers, and bytes of any of them."""
    from consilium.data import web

    monkeypatch.setattr(web, "TRIES", 1)
    make, paths = SERVERS[kind]
    with tempfile.TemporaryDirectory() as name:
        player = Player(Path(name))
        number = iter(range(10**6))

        def source() -> tuple[TableSource, Path]:
            player.forget()
            folder = Path(name) / str(next(number))
            folder.mkdir()
            return make(folder, player), folder

        whole = by_key(read(*source()))

        @settings(QUICK, max_examples=250)
        @given(st.data())
        def run(draw: st.DataObject) -> None:
            given_, folder = source()
            path = draw.draw(st.sampled_from(paths))
            plays = player._plays["GET", path]
            reply: Any = plays[0]
            flipped = False
            if isinstance(reply.body, bytes) and reply.body and draw.draw(st.booleans()):
                reply.body, flipped = change(reply.body, draw), True
            elif isinstance(reply.body, dict | list):
                at = draw.draw(st.sampled_from([one for one in places(reply.body) if "id" not in one]))
                reply.body = put(reply.body, at, other_kind(value(reply.body, at), draw))
            else:
                header = draw.draw(st.sampled_from([*reply.headers, "Location", "Retry-After", "Content-Encoding"]))
                reply.headers[header] = draw.draw(st.sampled_from(
                    ["", "x", "https://[::1", "https://127.0.0.1:1/", "//localhost/", "\xb2", "9" * 400, "gzip",
                     "a;b=\xff"]
                ))  # fmt: skip
                reply.status = draw.draw(st.sampled_from([200, reply.status, 302, 429, 206, 416]))
            given_ = limited(given_)
            found = survives(given_, folder)
            if not flipped:
                same(found, whole)

        run()
        player.close()


def limited(source: TableSource) -> TableSource:
    """So that a wait for ever ends soon."""
    part: Any = source.fhir or source.dicom
    name = "fhir" if source.fhir is not None else "dicom"
    return source.model_copy(update={name: part.model_copy(update={"time_limit_s": 1.0})})


SAME_UNITS = {
    **MAPPING,
    "features": {
        **MAPPING["features"], "glucose": {"column": "GLUC", "unit": "mg/dL"}, "temp": {"column": "TEMP", "unit": "Cel"}
    },
}  # fmt: skip
"""Nothing to convert: what converts takes a second to load."""
CELLS = st.sampled_from([
    None, "", " ", "NA", "?", "1", "01", "1.0", "50", "5.5", "1_0", "1_000.5", "1e999", "-1e999", "nan", "-inf",
    "Infinity",
    "0x1F", "٣", "１２", "1,5", "1e308", "-1e308", "5e-324", "9" * 400, "1" * 5000, "\0", "\ud800", "é", "2030-01-31",
    "true",
    "1e-400", "+7", "--7", "7.", ".7", "98.6", "-9", "9", "2", "0", "SECRET", "١_٢",
    "999000041000000102", "999000041000000103",
])  # fmt: skip


@settings(QUICK, max_examples=10)
@given(st.lists(st.tuples(*[CELLS] * 5), min_size=1, max_size=14))
@example([("50", "5.5", "98.6", "1", "0")] * 11 + [("1_0", "1_0", "1_0", "1_0", "1_0")])
def test_whatever_stands_in_a_cell_is_its_number_or_counted(cells: list[tuple[str | None, ...]]) -> None:
    told, kept = applied(cells, SAME_UNITS)
    assert kept <= len(cells) and told.features


@pytest.mark.long
@settings(QUICK, max_examples=3000)
@given(st.lists(st.tuples(*[CELLS] * 5), min_size=1, max_size=40))
def test_whatever_stands_in_any_cell_is_its_number_or_counted(cells: list[tuple[str | None, ...]]) -> None:
    applied(cells, MAPPING)


def applied(cells: list[tuple[str | None, ...]], given_: dict[str, Any]) -> tuple[quality.Report, int]:
    study = Study.model_validate(yaml.safe_load(STUDY))
    rows = Rows(
        {name: list(values) for name, values in zip(COLUMNS, zip(*((f"p{n}", *one) for n, one in enumerate(cells))))}
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        found = contract.apply(Mapping.model_validate(given_), study.contract, study.evaluation, rows)
        report = quality.check(study, found)
    ages = set(found.table.columns["age"].tolist())
    assert ages <= {float(one[0]) for one in cells if one[0] and plain(one[0])}, "an age that stands nowhere"
    for told in found.features.values():
        sums = told.usable + told.missing + told.out_of_range + told.not_a_number + sum(told.unmapped.values())
        assert sum([sums]) == len(cells), "a patient is in none of the counts"
    return report, len(found.table.label)


def plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


@settings(QUICK, max_examples=25)
@given(st.integers(-(10**18), 10**18), st.integers(-(10**18), 10**18))
@example(999000041000000102, 999000041000000103)
def test_two_codes_are_one_only_if_they_are_one_number(one: int, other: int) -> None:
    assert (normal(str(one)) == normal(f" 0{other}.0" if other >= 0 else f"{other}.0")) == (one == other)


@settings(QUICK, max_examples=25)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"\\', max_size=2), inner, max_size=3),
        max_leaves=8,
    ),
    st.booleans(),
)
def test_json_is_read_unless_a_name_stands_twice(found: Any, exact: bool) -> None:
    data = json.dumps(found).encode()
    try:
        assert strict.Decoder(exact).decode(data) == found
    except strict.FAULTS:
        assert "\\ud8" in data.decode() or "\\ud" in data.decode()
    twice = b'{"x": %s, "y": {"k": 1, "k": %s}}' % (data, data)
    with pytest.raises((strict.Twice, *strict.FAULTS)):
        strict.Decoder(exact).decode(twice)

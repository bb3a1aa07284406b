"""What of a round goes into a secure sum: its segments as integers, and back. Both ends compute it from the plan.

Values are multiplied, clamped and rounded so that no sum over the cohort can leave its ring (`quantize`); what was
clamped is counted, and the count is one more segment.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any, Literal

import numpy as np

from consilium.core import state as chain
from consilium.core.contract import APART, UNKNOWN
from consilium.core.errors import Invalid
from consilium.core.ids import Digest
from consilium.core.study import Study
from consilium.core.update import UPDATE, Sum
from consilium.core.writer import Writer
from consilium.privacy import masks
from consilium.privacy.masks import Integers
from consilium.privacy.mechanism import Mechanism
from consilium.privacy.noise import integers
from consilium.privacy.quantize import DTYPES, Encoding, Noised
from consilium.privacy.secagg import Segment

Blank = Callable[[Mapping[str, Any]], Mapping[str, Any]]
CLAMPED = "clamped"
"""The segment that counts clamped values."""
_WIDTHS: dict[str, Literal[32, 64]] = {"F32": 32, "F64": 64}
_KINDS = {16: "U16", 32: "U32", 64: "U64"}
PIECE = 1 << 16
"""Elements per step: they and what is computed of them fit a core's cache; bytes are whole blocks of the cipher."""


@dataclass(frozen=True)
class Layout:
    """Segments of a round of one kind: name: (type of the values, length), and how each becomes integers."""

    shape: Mapping[str, tuple[str, int]]
    encodings: Mapping[str, Encoding]

    @classmethod
    def of(
        cls,
        study: Study,
        kind: str,
        model: tuple[str, int],
        metrics: Mapping[str, tuple[str, int]],
        sites: int,
        sums: Mapping[str, Sum] = UPDATE,
    ) -> "Layout":
        """The layout for a plan.

        Args:    kind: PREPARE, TRAIN or EVALUATE.   model: type and length of the model.   metrics: the same of each
                 sum that the label's type gives.   sites: of the cohort.   sums: what is summed beside them, other
                 than in rounds of kind EVALUATE.
        Raises:  Invalid: the integers have too few bits for so many sites.
        """
        most = float(study.privacy.most_patients)
        mechanism = Mechanism.of(study)
        if kind == "PREPARE" or (mechanism is not None and kind == "TRAIN"):
            metrics = {}  # figures of a round have no noise: held-out patients are judged once, at the end
        shape = {"weight": ("F64", 1), **{f"metrics/{name}": given for name, given in metrics.items()}}
        encodings = {name: Encoding(64, most * _per_patient(study, name), sites) for name in shape}
        if kind != "EVALUATE":
            shape |= {name: of.shape(model) for name, of in sums.items()}
            encodings |= {name: _encoding(study, of, model[0], sites) for name, of in sums.items()}
            if mechanism is not None and mechanism.shared:
                encodings["update"] = noised(study, mechanism, model[1], sites)
                if mechanism.counting is not None:
                    share = mechanism.shares(sites).of_one(mechanism.counting)
                    encodings["within"] = Noised(64, 0.5, sites, 1, 0.5, share)
        counted = sum(length for _, length in shape.values())
        shape[CLAMPED] = ("F64", 1)
        encodings[CLAMPED] = Encoding(64, float(counted), sites)
        return cls(shape, encodings)

    @cached_property
    def names(self) -> list[str]:
        """Names of the segments, sorted."""
        return sorted(self.shape)

    @cached_property
    def given(self) -> dict[str, tuple[str, int]]:
        """Type and length of what a site's update on file has: sums over patients are kept as exact as they are."""
        shape = {name: of for name, of in self.shape.items() if name != CLAMPED}
        noised = {name: ("F64", of[1]) for name, of in shape.items() if isinstance(self.encodings[name], Noised)}
        return {**shape, **noised}

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The segments as an OPEN names them."""
        return tuple(Segment(name=n, length=self.shape[n][1], bits=self.encodings[n].bits) for n in self.names)

    @cached_property
    def masked(self) -> dict[str, tuple[str, int]]:
        """Type and length of each segment of a file of integers."""
        return {name: (_KINDS[self.encodings[name].bits], self.shape[name][1]) for name in self.names}

    @cached_property
    def size(self) -> int:
        """Bytes of a file of integers."""
        values = sum(length * chain.dtype(kind).itemsize for kind, length in self.masked.values())
        return len(chain.header(self.masked)) + values

    @cached_property
    def counted(self) -> list[str]:
        """Segments whose clamped values are counted: what training makes; where nothing is trained, all."""
        named = [name for name in self.names if name != CLAMPED]
        return [name for name in named if chain.added(name)] or named

    def fits(self, source: chain.Source | chain.Vectors) -> bool:
        """Whether a file holds these segments as integers, and no other. Raises: Invalid: it is no such file."""
        return chain.vectors(source).shape == self.masked

    def cover(
        self,
        update: chain.Source,
        layers: Sequence[tuple[bytes, int]],
        out: IO[bytes],
        noise: bytes = b"",
        blank: Blank = lambda arrays: arrays,
    ) -> tuple[Digest, int]:
        """Write an update as integers, with this site's noise and under masks, chunk by chunk; nothing else is written.

        Args:    layers: key and sign of each mask.   noise: key of this site's share of noise, where the plan has some.
                 blank: gives the segments with zeros where nobody adds anything.
        Raises:  Invalid: the update has other segments, or a value that is not finite; there is no key for the noise.
        """
        arrays = chain.read(update).arrays
        if {name: (chain.kind(array), array.size) for name, array in arrays.items()} != self.given:
            raise Invalid("the update's segments are not those of the plan", "update the agent")
        arrays = blank(arrays)
        clamped = sum(self._clamped(name, part) for name in self.counted for part in _parts(arrays[name]))
        writer = Writer(out)
        writer.write(chain.header(self.masked))
        for name in self.names:
            values: Any = np.array([float(clamped)]) if name == CLAMPED else arrays[name]
            keys = [(masks.segment_key(key, name), sign) for key, sign in layers]
            at = 0
            for part in _parts(values):
                whole, _ = self.encodings[name].encode(part)
                self._add_noise(name, whole, noise, at)
                for key, sign in keys:
                    masks.add(whole, key, sign, at)
                at += part.size
                writer.write(chain.raw(whole))
        return writer.digest(), writer.size

    def _clamped(self, name: str, part: Any) -> int:
        encoding = self.encodings[name]
        return (
            0 if isinstance(encoding, Noised) else encoding.clamped(part)
        )  # a count would say more than the noise lets

    def _add_noise(self, name: str, whole: Integers, key: bytes, at: int) -> None:
        encoding = self.encodings[name]
        if not isinstance(encoding, Noised):
            return
        if len(key) != 32:
            raise Invalid("the plan asks for noise, and there is no key for it", "update the agent")
        drawn = integers(masks.segment_key(key, f"{name}/{at}"), whole.size, encoding.deviation)
        whole += drawn.astype(whole.dtype.str.replace("u", "i")).view(whole.dtype)

    def uncover(
        self,
        vectors: Sequence[chain.Source | chain.Vectors],
        layers: Iterable[tuple[bytes, int]],
        stamp: Mapping[str, str],
        out: IO[bytes],
    ) -> tuple[Digest, int]:
        """Sum masked vectors, take the masks off, and write the sums of the values; memory is one chunk.

        Args:    layers: key and sign of each mask that the sum still holds.   stamp: metadata of the file.
        """
        files, keys = [chain.vectors(one).arrays for one in vectors], list(layers)
        writer = Writer(out)
        writer.write(chain.header(self.shape, stamp))
        for name in self.names:
            kind, length = self.shape[name]
            streams = [(masks.segment_key(key, name), sign) for key, sign in keys]
            for start in range(0, length, PIECE):
                total = self._total(name, files, start)
                for key, sign in streams:
                    masks.add(total, key, sign, start)
                values = self.encodings[name].decode(total)
                writer.write(chain.raw(values.astype(chain.dtype(kind), copy=False)))
        return writer.digest(), writer.size

    def _total(self, name: str, files: Sequence[Mapping[str, Any]], start: int) -> Integers:
        size = min(PIECE, self.shape[name][1] - start)
        total = np.zeros(size, dtype=DTYPES[self.encodings[name].bits])
        for file in files:
            total += file[name][start : start + size]
        return total


def _encoding(study: Study, of: Sum, kind: str, sites: int) -> Encoding:
    """How a segment becomes integers. Raises: Invalid: the integers have too few bits for so many sites."""
    limit = study.privacy.clip * study.privacy.most_patients if of.limit is None else of.limit
    return Encoding(64 if of.lasting or not of.each else study.privacy.bits or _WIDTHS[kind], limit, sites)


def noised(study: Study, mechanism: Mechanism, length: int, sites: int) -> Noised:
    """How a sum of clipped gradients of so many values becomes integers, for a cohort of so many sites.

    Raises: Invalid: there is no room for it.
    """
    privacy, share = study.privacy, mechanism.shares(sites).of_one(mechanism.of_update)
    if mechanism.whole:
        return Noised(privacy.bits or 32, mechanism.bound, sites, length, mechanism.bound, share)
    # The penalty's part depends on no patient; it is held within `clip`, so that the whole never reaches the limit.
    limit = mechanism.bound * privacy.most_patients + privacy.clip * privacy.expected_batch
    return Noised(privacy.bits or 32, limit, sites, length, mechanism.bound, share)


def _per_patient(study: Study, name: str) -> float:
    """The largest that one patient adds to a sum."""
    given = study.contract.label.range
    largest = max(1.0, abs(given[0]), abs(given[1])) if given else UNKNOWN
    beyond = 4 * largest  # what a model predicts may lie outside the label's range
    known = {"logloss": 32.0, "sy": largest, "syy": largest**2, "sae": beyond, "sse": beyond**2}
    known["deviance"] = study.contract.label.most_deviance
    known |= {"logloss_squares": 32.0**2, "evidence_of_positives": 32.0, "evidence_expected": 32.0}
    known |= {
        "deviance_squares": known["deviance"] ** 2,
        "powers": APART**4 if given else APART**2,
        "likelihood": 1e3,
        "moved": 1e4,
    }
    return known.get(name.removeprefix("metrics/").removeprefix("groups/").removeprefix("common/"), 1.0)


def _parts(values: Any) -> Iterator[Any]:
    yield from (values[start : start + PIECE] for start in range(0, values.size, PIECE))

"""The sum of a round, update by update as they come: one sum is in memory, whatever the number of sites.

`plain`: values are added in sorted order of sites, as the coordinator folds them. `secure_sum`: each site's values
become integers as at the site, with its noise if the plan has some, and the integers are added; masks would only fall
away. For strategies that look at single updates these are kept on file, side by side.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from consilium.core import state as chain
from consilium.core.tensors import Array, Tensors
from consilium.privacy import recipe
from consilium.privacy.layout import CLAMPED, Layout
from consilium.privacy.opening import Opened
from consilium.simulation.executors import Sent

Stamp = dict[str, str]


class Sum(Protocol):
    """A sum that grows."""

    def add(self, sent: Sent) -> None:
        """Add what came of the next sites."""
        ...

    def total(self, stamp: Stamp) -> chain.Vectors:
        """The sum, as the coordinator has it. Raises: Invalid: nothing was added, or it is not finite."""
        ...


class Plain:
    """Values as they are."""

    def __init__(self) -> None:
        self._added: Tensors | None = None

    def add(self, sent: Sent) -> None:
        """Add each row; a segment that one site lacks is left out, as `state.fold` does."""
        added = {**{name: _over(rows) for name, rows in sent.rows.items()}, **sent.added}
        if self._added is None:
            self._added = {name: np.array(array) for name, array in added.items()}
            return
        self._added = {name: total for name, total in self._added.items() if name in added}
        for name, total in self._added.items():
            total += added[name]

    def total(self, stamp: Stamp) -> chain.Vectors:
        """What `state.fold` would write."""
        found = chain.Vectors(self._added or {}, stamp, b"")
        chain.demand_finite(found)
        return found


class Sealed:
    """Integers of a ring.

    Args:    coins: gives so many bytes by chance, for a site's noise.
    """

    def __init__(self, layout: Layout, coins: Callable[[int], bytes]) -> None:
        self._layout, self._coins = layout, coins
        self._total: Tensors = {
            name: np.zeros(length, chain.dtype(kind)) for name, (kind, length) in layout.masked.items()
        }

    def add(self, sent: Sent) -> None:
        """Add each row as the integers that its site would mask."""
        if sent.added:
            self._add_many(sent)
            return
        for index in range(len(sent.sites)):
            update, covered = io.BytesIO(), io.BytesIO()
            chain.write({name: rows[index] for name, rows in sent.rows.items()}, {}, update)
            self._layout.cover(update.getvalue(), (), covered, self._coins(32))
            for name, array in chain.read(covered.getvalue()).arrays.items():
                self._total[name] += array

    def _add_many(self, sent: Sent) -> None:
        """The same of all rows at once; what was added up before is rounded as a sum."""
        cut = 0
        for name, rows in sent.rows.items():
            whole, clamped = self._layout.encodings[name].encode(np.ravel(rows))
            self._total[name] += whole.reshape(rows.shape).sum(axis=0, dtype=whole.dtype)
            cut += clamped if name in self._layout.counted else 0
        for name, array in (*sent.added.items(), (CLAMPED, np.array([float(cut)]))):
            scaled = np.floor(array * self._layout.encodings[name].scale + 0.5)
            self._total[name] += scaled.astype(np.int64).astype(self._total[name].dtype)

    def total(self, stamp: Stamp) -> chain.Vectors:
        """As they are opened."""
        whole, out = io.BytesIO(), io.BytesIO()
        chain.write(self._total, {}, whole)
        recipe.recover(self._layout, [whole.getvalue()], Opened({}, {}), stamp, out)
        return chain.read(out.getvalue())


class Apart:
    """Files side by side in `folder`, for a strategy that combines them in its own way."""

    def __init__(self, folder: Path, single: chain.Combines) -> None:
        self._folder, self._single, self._paths = folder, single, list[Path]()

    def add(self, sent: Sent) -> None:
        """Write each row."""
        for index, site in enumerate(sent.sites):
            path = self._folder / f"update-{site}"
            with path.open("wb") as file:
                chain.write({name: rows[index] for name, rows in sent.rows.items()}, {}, file)
            self._paths.append(path)

    def total(self, stamp: Stamp) -> chain.Vectors:
        """By `state.fold`; the files are removed."""
        out = io.BytesIO()
        chain.fold(list(self._paths), stamp, out, self._single)
        for path in self._paths:
            path.unlink()
        return chain.read(out.getvalue())


def _over(rows: Array) -> Array:
    total: Array = rows[0] if len(rows) == 1 else rows.sum(axis=0)
    return total

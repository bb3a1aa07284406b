"""How the patients of a pool are divided among simulated hospitals. Pure: patients and chance are arguments.

natural      the hospitals as they are; asked for more sites, each is cut at random in proportion to its patients
even         at random and equally: no site differs from another but by chance
dirichlet:A  each label's patients in shares drawn from Dirichlet(A, ..., A): the smaller A, the more labels differ.
             Yurochkin et al., ICML 2019, https://arxiv.org/abs/1905.12022, section 4; over labels of one client each
             Hsu et al. 2019, https://arxiv.org/abs/1909.06335
label:K      each site has patients of at most K labels, of one label its owners share alike.
             Li et al., ICDE 2022, https://arxiv.org/abs/2102.02079, "quantity-based label imbalance"
quantity:B   sizes of sites from Dirichlet(B, ..., B), patients at random. Li et al. 2022, "quantity skew"
shift:S      patients in order of the first principal component of their features, cut into equal parts; S in (0, 1]
             mixes that order with chance: other features, and the same labels given features. Covariate shift as in
             Kairouz et al. 2021, https://arxiv.org/abs/1912.04977, section 3.1

Labels of more than ten values, such as lengths of stay, are divided by their tenths. Whatever the rule, no site has
fewer patients than asked for: a site that would have fewer gets some of the largest one, or under `label:K` of the
largest that has a label of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from consilium.core.errors import DataUnusable, Invalid

Rows = npt.NDArray[np.int64]
Chance = np.random.Generator
TENTHS = 10
DEFAULTS: Mapping[str, float | None] = MappingProxyType(
    {"natural": None, "even": None, "dirichlet": 0.5, "label": 1.0, "quantity": 0.5, "shift": 1.0}
)
"""The rules, and the number of each if none is given; None: it takes none."""
FITS: Mapping[str, str] = MappingProxyType(
    {
        "dirichlet": "a number above 0, up to a million",
        "label": "a whole number, 1 or more",
        "quantity": "a number above 0, up to a million",
        "shift": "a number above 0, up to 1",
    }
)
"""Which numbers a rule takes, in words."""


@dataclass(frozen=True)
class Pool:
    """Patients, one row each, as far as a partition looks at them.

    Args:    hospital: (n,) index into `names`.   label: (n,).   x: (n, p) encoded features.
    """

    hospital: Rows
    names: tuple[str, ...]
    label: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.label)


@dataclass(frozen=True)
class Rule:
    """A way to divide patients, and its number."""

    name: str
    number: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """`NAME` or `NAME:NUMBER`.

        Raises: Invalid: unknown, or a number that the rule cannot have.

        >>> Rule.parse("dirichlet:0.3")
        Rule(name='dirichlet', number=0.3)
        """
        name, colon, told = text.partition(":")
        if name not in DEFAULTS:
            raise Invalid(f"there is no partition {name!r}", f"choose one of {', '.join(DEFAULTS)}")
        if not colon:
            return cls(name, DEFAULTS[name])
        if DEFAULTS[name] is None:
            raise Invalid(f"the partition {name} takes no number", f"write --partition {name}")
        try:
            number = float(told)
        except ValueError:
            number = float("nan")
        fits = {
            "dirichlet": 0 < number <= 1e6, "quantity": 0 < number <= 1e6, "shift": 0 < number <= 1,
            "label": number >= 1 and number == number // 1,
        }  # fmt: skip
        if not fits[name]:
            raise Invalid(
                f"the partition {name} cannot be by {told!r}: it takes {FITS[name]}",
                f"write --partition {name}:{DEFAULTS[name]:g}, for instance",
            )
        return cls(name, number)

    def __str__(self) -> str:
        """As it is written."""
        return self.name if self.number is None else f"{self.name}:{self.number:g}"


def divide(rule: Rule, pool: Pool, sites: int | None, least: int, chance: Chance) -> dict[str, Rows]:
    """The rows of each site, ascending, by sorted name: every row in exactly one site.

    Args:    sites: how many; None: as many as the pool has hospitals.   least: fewest patients of a site, 0 or more.
    Raises:  Invalid: more hospitals than sites under `natural`; more sites than names have room for.
             DataUnusable: fewer than `least` patients for each site.
    """
    count = len(pool.names) if sites is None else sites
    if count < 1 or count > 1_000_000:
        raise Invalid(f"{count} sites cannot be simulated", "ask for 1 to 1,000,000")
    if len(pool) < count * least:
        raise DataUnusable(
            f"{len(pool)} patients cannot give {count} sites at least {least} each",
            "ask for fewer sites, or draw more patients with --patients",
        )
    if rule.name == "natural":
        return _natural(pool, count, least, chance)
    width = len(str(count))
    parts = _RULES[rule.name](pool, count, least, rule.number or 0.0, chance)
    return {f"site-{number:0{width}d}": np.sort(part) for number, part in enumerate(parts, 1)}


def classes(label: npt.NDArray[np.float64]) -> Rows:
    """Of each patient, to which group of labels it belongs: values, or tenths where there are more than ten."""
    values, found = np.unique(label, return_inverse=True)
    if len(values) <= TENTHS:
        return found.astype(np.int64)
    edges = np.quantile(label, np.arange(1, TENTHS) / TENTHS)
    return np.unique(np.searchsorted(edges, label, side="left"), return_inverse=True)[1].astype(np.int64)


def _natural(pool: Pool, count: int, least: int, chance: Chance) -> dict[str, Rows]:
    if count < len(pool.names):
        raise Invalid(f"{len(pool.names)} hospitals are no {count} sites", "ask for as many or more, or for `even`")
    sizes = np.bincount(pool.hospital, minlength=len(pool.names))
    cuts = _apportioned(sizes, count)
    found = {}
    for index, name in enumerate(pool.names):
        rows, parts = np.flatnonzero(pool.hospital == index), int(cuts[index])
        if parts == 1:
            found[name] = rows
            continue
        for number, part in enumerate(np.array_split(chance.permutation(rows), parts), 1):
            found[f"{name}-{number:0{len(str(parts))}d}"] = np.sort(part)
    name = min(found, key=lambda site: len(found[site]))
    if len(found[name]) < least:
        raise DataUnusable(
            f"{name} has {len(found[name])} patients, and a site has {least} at least",
            "ask for fewer sites, correct the hospital's table or mapping, or write --least 0",
        )
    if len(found) < count:
        raise Invalid("names of hospitals and of their parts are alike", "rename the hospital's folder")
    return dict(sorted(found.items()))


def _apportioned(sizes: Rows, count: int) -> Rows:
    """`count` in proportion to `sizes`, one at least each: seat by seat to who has most per seat (D'Hondt)."""
    seats = np.ones(len(sizes), dtype=np.int64)
    for _ in range(count - len(sizes)):
        seats[np.argmax(sizes / seats)] += 1
    return seats


Parts = list[Rows]


def _even(pool: Pool, count: int, least: int, number: float, chance: Chance) -> Parts:
    return np.array_split(chance.permutation(len(pool)), count)


def _dirichlet(pool: Pool, count: int, least: int, number: float, chance: Chance) -> Parts:
    groups, site_of = classes(pool.label), np.empty(len(pool), dtype=np.int64)
    for group in range(groups.max() + 1):
        rows = chance.permutation(np.flatnonzero(groups == group))
        site_of[rows] = _shared(len(rows), chance.dirichlet(np.full(count, number)))
    return _by_site(_filled(site_of, count, least, chance), count)


def _quantity(pool: Pool, count: int, least: int, number: float, chance: Chance) -> Parts:
    site_of = np.empty(len(pool), dtype=np.int64)
    site_of[chance.permutation(len(pool))] = _shared(len(pool), chance.dirichlet(np.full(count, number)))
    return _by_site(_filled(site_of, count, least, chance), count)


def _label(pool: Pool, count: int, least: int, number: float, chance: Chance) -> Parts:
    groups = classes(pool.label)
    sizes = np.bincount(groups)
    if len(sizes) > count * number:
        raise Invalid(
            f"{count} sites of {number:g} labels have no place for {len(sizes)}", "ask for more sites or labels"
        )
    owns = np.zeros((count, len(sizes)), dtype=bool)
    if count >= len(sizes):  # the paper draws all owners alike; by size, a rare label leaves no owner without patients
        owns[np.arange(count), chance.permutation(np.repeat(np.arange(len(sizes)), _apportioned(sizes, count)))] = True
    else:
        for group in range(len(sizes)):
            owns[group % count, group] = True
    for site in range(count):
        lacking = min(int(number), len(sizes)) - int(owns[site].sum())
        owns[site, chance.choice(np.flatnonzero(~owns[site]), size=max(lacking, 0), replace=False)] = True
    site_of = np.empty(len(pool), dtype=np.int64)
    for group in range(len(sizes)):
        rows, owners = (
            chance.permutation(np.flatnonzero(groups == group)),
            chance.permutation(np.flatnonzero(owns[:, group])),
        )
        site_of[rows] = owners[np.arange(len(rows)) % len(owners)]
    return _by_site(_filled(site_of, count, least, chance, groups, owns), count)


def _shift(pool: Pool, count: int, least: int, number: float, chance: Chance) -> Parts:
    rank = np.argsort(np.argsort(_component(pool.x), kind="stable"), kind="stable") / max(len(pool), 1)
    order = np.argsort(number * rank + (1 - number) * chance.permutation(len(pool)) / max(len(pool), 1), kind="stable")
    return np.array_split(order, count)


_RULES: Mapping[str, Callable[[Pool, int, int, float, Chance], Parts]] = MappingProxyType(
    {"even": _even, "dirichlet": _dirichlet, "label": _label, "quantity": _quantity, "shift": _shift}
)


def _component(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each patient's place on the first principal component of standardised features (n,)."""
    spread = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    direction = np.linalg.eigh(scaled.T @ scaled)[1][:, -1]
    return np.asarray(scaled @ direction * np.sign(direction[np.argmax(np.abs(direction))]))


def _shared(patients: int, shares: npt.NDArray[np.float64]) -> Rows:
    """The site of each of so many patients in a row, by shares that add up to 1."""
    ends = np.floor(np.cumsum(shares) * patients + 0.5).astype(np.int64)
    ends[-1] = patients
    return np.searchsorted(ends, np.arange(patients), side="right").astype(np.int64)


def _filled(
    site_of: Rows, count: int, least: int, chance: Chance, groups: Rows | None = None,
    owns: npt.NDArray[np.bool_] | None = None,
) -> Rows:  # fmt: skip
    """With patients of the largest sites moved to those with fewer than `least`; only of groups that they own.

    Raises: DataUnusable: no site could give any.
    """
    site_of = np.array(site_of)
    kinds = groups if groups is not None else np.zeros(len(site_of), dtype=np.int64)
    table = np.zeros((count, int(kinds.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(table, (site_of, kinds), 1)
    sizes = table.sum(axis=1)
    if sizes.min() >= least:
        return site_of
    held = _by_site(site_of, count)
    waiting = {site: list(chance.permutation(rows)) for site, rows in enumerate(held)}
    for site in np.flatnonzero(sizes < least):
        while sizes[site] < least:
            has = table > 0 if owns is None else (table > 0) & owns[site]
            can = np.where(has.any(axis=1) & (sizes > least), sizes, -1)
            giver = int(np.argmax(can))
            if can[giver] < 0:
                raise DataUnusable(f"no site can give patients to one with fewer than {least}", "ask for fewer sites")
            rows = waiting[giver]
            at = next(at for at in range(len(rows) - 1, -1, -1) if has[giver, kinds[rows[at]]])
            row = rows.pop(at)
            site_of[row] = site
            table[giver, kinds[row]] -= 1
            table[site, kinds[row]] += 1
            sizes[giver], sizes[site] = sizes[giver] - 1, sizes[site] + 1
    return site_of


def _by_site(site_of: Rows, count: int) -> Parts:
    order = np.argsort(site_of, kind="stable")
    return np.split(order, np.cumsum(np.bincount(site_of, minlength=count))[:-1])

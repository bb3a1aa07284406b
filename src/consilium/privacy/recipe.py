"""The front door of privacy: a recipe makes of an update, which stays, the contribution that may leave.

Only what stands here makes a `Contribution`, and nothing that sends accepts anything else. `plain` protects nothing; it
is for hospitals that each signed that they accept it. `secure_sum` leaves nothing readable but the sum over all.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import Digest, canonical
from consilium.core.update import Contribution
from consilium.privacy import opening, secagg
from consilium.privacy.layout import Blank, Layout
from consilium.privacy.masks import expand
from consilium.privacy.opening import Opened
from consilium.privacy.secagg import Seat


def protect(recipe: str, update: Path, digest: Digest, size: int) -> Contribution:
    """The contribution of an update on file (of `size` bytes), under a recipe that leaves it as it is.

    Raises: Refused: the recipe is another one.
    """
    if recipe != "plain":
        raise Refused(f"the recipe {recipe!r} does not send updates as they are", "update the agent", reason="recipe")
    return Contribution(update, digest, size, recipe)


def mask(
    seat: Seat, layout: Layout, update: Path, covered: Path, blank: Blank = lambda arrays: arrays,
    before: Digest | None = None,
) -> Contribution:  # fmt: skip
    """The contribution of `secure_sum`: integers with this seat's noise and under its masks, written to `covered`.

    The noise follows from the seat's coins, which are bound to the update, and from its OPEN: a retry has the same, and
    a new attempt another. `blank`: see `Layout.cover`; it hangs on the roll-call, as masks do.

    Args:    before: what these masks were laid over before: over anything else they would fall away in the difference,
             and nothing else stands under the name of what may be sending now.
    Raises:  Refused: the seat's round has other segments; or it is not what was masked `before` (`replayed`).
             Invalid: the update has.
    """
    if seat.open.segments != layout.segments or not seat.active:
        raise Refused("the round has other segments than the plan", "compare both audit logs", reason="segments")
    fresh = covered.with_suffix(".new")
    with fresh.open("wb", buffering=1 << 20) as out:
        digest, size = layout.cover(update, secagg.layers(seat), out, noise_key(seat.coins, seat.ctx), blank)
    if before not in (None, digest):
        fresh.unlink()
        raise Refused(
            f"attempt {seat.open.attempt} of round {seat.open.round} was masked here before, over other values",
            "compare both audit logs", reason="replayed",
        )  # fmt: skip
    fresh.replace(covered)
    return Contribution(covered, digest, size, "secure_sum")


def bound(coins: bytes, *of: str) -> bytes:
    """Chance from 32 bytes of coins and from what it hides, by digests: of anything else it is other chance.

    Coins that come back, as in a journal that was set back, so serve one value alone: of that they give the same bytes.
    """
    return expand(coins, canonical(["flsa/1 bound", *of]))


def noise_key(coins: bytes, ctx: bytes) -> bytes:
    """The key of a site's share of noise in the attempt that has these coins and this context."""
    return expand(coins, canonical(["flsa/1 noise", ctx.hex()]))


def sample_key(coins: bytes) -> bytes:
    """The key by which a site draws the patients of the attempt that has these coins, once it is `bound` to a table."""
    return expand(coins, canonical(["flsa/1 sample"]))


def recover(
    layout: Layout,
    vectors: Sequence[chain.Source | chain.Vectors],
    opened: Opened,
    stamp: Mapping[str, str],
    out: IO[bytes],
) -> tuple[Digest, int]:
    """The sums of masked vectors, in sorted order of sites, once their masks are known; see `Layout.uncover`."""
    return layout.uncover(vectors, opening.streams(opened), stamp, out)

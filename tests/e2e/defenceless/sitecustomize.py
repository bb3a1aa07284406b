"""Agents without some of their defences, to show what these are for: loaded when this folder is on PYTHONPATH.

The file that $WITHOUT names says at any moment which are off:

`difference`  what was told before does not matter             `sum`    a named sum is believed
`twice`       a round may be opened again, in a new attempt    `state`  a named state is believed, and binds no mask
`lists`       lists of survivors are believed, at any time     `floor`  one hospital is enough for a sum
`fresh`       the bytes that should be fresh are always zero   `cut`    values are not held within their limit
`quorum`      the quorum of an approved plan does not matter
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NOWHERE = "sha256:" + "0" * 64


def off(name: str) -> bool:
    """Whether a defence is off now."""
    return name in Path(os.environ["WITHOUT"]).read_text().split()


def opened_again() -> None:
    """`difference`, `sum` and `twice`."""
    from consilium.privacy import disclosure
    from consilium.site import told
    from consilium.site.checking import Checking
    from consilium.site.seats import Seats

    apart, right, follows, alone = disclosure.check, Checking.check, Seats._expected, told.alone

    def expected(self: Any, *given: Any) -> Any:
        found = follows(self, *given)
        return replace(found, last=(0, 0), opened_round=0) if off("twice") else found

    disclosure.check = lambda *given: None if off("difference") else apart(*given)
    told.alone = lambda *given: not off("difference") and alone(*given)
    Checking.check = lambda self, *given: None if off("sum") else right(self, *given)  # type: ignore[method-assign]
    Seats._expected = expected  # type: ignore[method-assign]


def other_models() -> None:
    """`state`."""
    from consilium.privacy.secagg import Open
    from consilium.site.states import States

    ensure = States.ensure

    def believed(self: Any, task: Any, plan: Any, now: Any) -> Any:
        return self._adopted(task)[1] if off("state") else ensure(self, task, plan, now)

    States.ensure = believed  # type: ignore[method-assign]
    stateless(Open, lambda: off("state"))


def stateless(kind: Any, when: Any) -> Any:
    """Let the hash of an OPEN leave out the state; what it was before, to set it back."""
    before = vars(kind).get("sha256")
    hashed = kind.sha256.func

    def sha256(self: Any) -> bytes:
        found: bytes = hashed(self.model_copy(update={"state": NOWHERE}) if when() else self)
        return found

    kind.sha256 = property(sha256)
    return before


def one_by_one() -> None:
    """`lists`, `floor`, `quorum` and `fresh`."""
    from consilium.privacy import recipe, secagg
    from consilium.privacy.secagg import Confirm, Open
    from consilium.site import guard, seats
    from consilium.site.steps import Steps

    unmask, needed, threshold = secagg.unmask, Open.needed.fget, secagg.threshold
    again, heard, quorate, bound = Steps.again, Steps.heard, guard.quorate, recipe.bound

    def trusting(seat: Any, survivors: Any, proofs: Any) -> Any:
        if not off("lists"):
            return unmask(seat, survivors, proofs)
        seen = secagg.survivors_hash(survivors)
        made_up = [Confirm(ctx2=seat.ctx2, site=site, survivors=seen) for site in survivors]
        return unmask(replace(seat, survivors=seen), survivors, made_up)

    def anew(self: Any, *given: Any, **named: Any) -> Any:
        if off("lists"):
            for known in (self._heard, getattr(self, "_read", {})):
                known.clear()
            self._offered = {}
        return heard(self, *given, **named)

    def repeated(self: Any, seq: int, task: Any, now: Any) -> bool:
        return not (off("lists") and task.phase == "UNMASK") and again(self, seq, task, now)

    secagg.unmask, Steps.heard, Steps.again = trusting, anew, repeated  # type: ignore[method-assign]
    guard.quorate = seats.quorate = lambda *given: None if off("quorum") else quorate(*given)
    secagg.threshold = lambda count: 1 if off("floor") else threshold(count)
    Open.needed = property(lambda self: 1 if off("floor") else needed(self))  # type: ignore[assignment, misc]
    seats.os = SimpleNamespace(urandom=lambda n: bytes(n) if off("fresh") else os.urandom(n))  # type: ignore[assignment]
    recipe.bound = lambda coins, *of: coins if off("fresh") else bound(coins, *of)


def around() -> None:
    """`cut`."""
    import numpy as np

    from consilium.privacy.quantize import DTYPES, Encoding

    encode, clamped = Encoding.encode, Encoding.clamped

    def uncut(self: Any, values: Any, chance: Any = 0.5) -> Any:
        if not off("cut"):
            return encode(self, values, chance)
        whole = np.floor(values.astype(np.float64) * self.scale + chance).astype(np.int64)
        return whole.astype(f"<i{self.bits // 8}").view(DTYPES[self.bits]), 0

    Encoding.encode = uncut  # type: ignore[method-assign]
    Encoding.clamped = lambda self, values: 0 if off("cut") else clamped(self, values)  # type: ignore[method-assign]


if "run" in sys.orig_argv and "site" in sys.orig_argv and "WITHOUT" in os.environ:
    opened_again()
    other_models()
    one_by_one()
    around()

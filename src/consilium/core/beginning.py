"""Where training begins: whether a study can ask for first weights that are drawn where they would else be zero."""

from typing import TYPE_CHECKING

from consilium.core.timed import COMMON, COX

if TYPE_CHECKING:
    from consilium.core.study import Study

LINEAR = ("linear", "logistic", "poisson", COX)
"""Kinds of model that begin at zero where nothing else is asked for."""
DRAWN = "drawn"
"""What `model.start` says where weights of these are drawn from the plan's seed."""


def unfit(study: "Study") -> str | None:
    """Why a study cannot begin at weights that are drawn; None: it can, or does not ask for it. Begins with the key."""
    kind, strategy = study.model.kind, study.strategy.name
    if study.model.start != DRAWN:
        return None
    if kind not in LINEAR:
        return (
            f"`model.start` {DRAWN} is for `model.kind` {', '.join(LINEAR)}, which else begin at zero; leave it out: "
            f"where {kind} begins, `training.seed` says anyway"
        )
    if study.prepare is not None:
        return (
            f"`model.start` {DRAWN} does not help beside `prepare`, whose sums are one question with those at zero: "
            "leave out one of both"
        )
    if not study.exact:
        return None
    if strategy == COMMON or kind in ("linear", "poisson"):
        return (
            f"`model.start` {DRAWN} does not help: `strategy.name` {strategy} with `model.kind` {kind} adds up what is "
            "the same at every first model; leave it out, and ask the same hospitals as before, or about other patients"
        )
    return (
        f"`model.start` {DRAWN} is for training by steps: `strategy.name` {strategy} adds up second derivatives, which "
        "are nearly a multiple of those at zero, so that sums over other hospitals would nearly show one of them; "
        "leave it out, and ask the same hospitals as before, or write `given`, which each hospital must accept by name"
    )

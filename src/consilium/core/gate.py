"""The gate: what a hospital's data must have passed before it is asked to train; the study says what blocks.

A study that says nothing of it has one all the same, and one that wants none writes `gate: none`.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Kind = Literal[
    "few-patients", "label-codes", "unmapped-codes", "not-a-number", "out-of-range", "unit", "code-for-missing",
    "no-values", "sparse", "constant", "one-class", "empty-category", "bound",
    "unread", "other-unit", "named-unit", "swapped-codes", "text-order", "of-nobody",
    "window",
]  # fmt: skip
"""What a check can find, as stable codes."""
FIRST: tuple[Kind, ...] = (
    "few-patients", "label-codes", "unmapped-codes", "not-a-number", "out-of-range", "unit", "code-for-missing",
    "no-values", "sparse", "constant", "one-class",
)  # fmt: skip
"""What block in any plan that does not say otherwise; a kind that came later blocks where a plan names it."""
LATER: tuple[Kind, ...] = ("bound", "unread")
"""What else blocks in studies that do not say otherwise, and is named in their plans."""
UNREADABLE: tuple[Kind, ...] = ("not-a-number", *LATER)
"""What blocks beyond the share of `not_a_number_max`."""
TOLD: tuple[Kind, ...] = ("no-values", "sparse", "constant", "one-class")
"""What is told, and stands in nobody's way, unless a study says otherwise."""


class Gate(BaseModel):
    """A check that each hospital passes, signed, before a round: of exactly this contract, with rounded counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    advisory: tuple[Kind, ...] = Field(
        TOLD,
        description="findings that are told and block nothing; of the others, those of ten patients or more block that "
        "were there from the first, and those of `blocking`",
    )
    blocking: tuple[Kind, ...] = Field(
        LATER,
        description="findings that block, too, of those that came later: a plan is stopped by no finding that was not "
        "known when it was made",
    )
    unmapped_max: float = Field(0.05, ge=0, le=1, description="share of codes without meaning that does not block yet")
    not_a_number_max: float = Field(0.05, ge=0, le=1, description="the same, of values that are no numbers")
    out_of_range_max: float = Field(0.2, ge=0, le=1, description="the same, of values outside the contract's range")

    def blocks(self, kind: Kind) -> bool:
        """Whether findings of a kind block, where there are enough of them."""
        return kind not in self.advisory and (kind in FIRST or kind in self.blocking)

    @property
    def softened(self) -> tuple[Kind, ...]:
        """Kinds that are only told here, and block in a study that says nothing of a gate."""
        usual = Gate()
        return tuple(kind for kind in get_args(Kind) if usual.blocks(kind) and not self.blocks(kind))

    @property
    def idle(self) -> bool:
        """Whether no finding about values can block; that there are enough patients says nothing of them."""
        limits = {"out-of-range": self.out_of_range_max, **dict.fromkeys(UNREADABLE, self.not_a_number_max)}
        return not any(
            self.blocks(kind) and limits.get(kind, 0.0) < 1 for kind in get_args(Kind) if kind != "few-patients"
        )


NONE = "none"


def _none(value: Any) -> Any:
    """The word for no gate, which in a plan is null."""
    if isinstance(value, str | bool) and value != NONE:
        raise ValueError(f"must be {NONE!r}, or hold `key: value` lines here")
    return None if value == NONE else value


Asked = Annotated[Gate | None, BeforeValidator(_none, json_schema_input_type=Gate | Literal["none"])]
"""The gate that a study asks for; None: none, which stands in a plan as null, and in a study file as a word."""


def of_plan(told: dict[str, Any]) -> dict[str, Any]:
    """What a plan says, as it was meant when it was made.

    One without the key asked for no check, and one that names nothing that came later is not stopped by it.
    """
    gate = told.get("gate")
    return {**told, "gate": {"blocking": [], **gate} if isinstance(gate, dict) else gate}

"""The gate: what a hospital's data must have passed before it is asked to train; the study says what blocks."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "few-patients", "label-codes", "unmapped-codes", "not-a-number", "out-of-range", "unit", "code-for-missing",
    "no-values", "sparse", "constant", "one-class", "empty-category", "bound",
    "unread",
]  # fmt: skip
"""What a check can find, as stable codes."""
TOLD: tuple[Kind, ...] = ("no-values", "sparse", "constant", "one-class", "empty-category")
"""What is told, and stands in nobody's way, unless a study says otherwise."""


class Gate(BaseModel):
    """A check that each hospital passes, signed, before a round: of exactly this contract, with rounded counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    advisory: tuple[Kind, ...] = Field(
        TOLD, description="findings that are told and block nothing; any other of ten patients or more blocks"
    )
    unmapped_max: float = Field(0.05, ge=0, le=1, description="share of codes without meaning that does not block yet")
    not_a_number_max: float = Field(0.05, ge=0, le=1, description="the same, of values that are no numbers")
    out_of_range_max: float = Field(0.2, ge=0, le=1, description="the same, of values outside the contract's range")

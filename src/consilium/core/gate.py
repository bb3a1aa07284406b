"""The gate: what a hospital's data must have passed before it is asked to train; the study says what blocks.

A study that says nothing of it has one all the same, and one that wants none writes `gate: none`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Kind = Literal[
    "few-patients", "label-codes", "unmapped-codes", "not-a-number", "out-of-range", "unit", "code-for-missing",
    "no-values", "sparse", "constant", "one-class", "empty-category", "bound",
    "unread", "other-unit", "named-unit", "swapped-codes",
]  # fmt: skip
"""What a check can find, as stable codes."""
TOLD: tuple[Kind, ...] = (
    "no-values", "sparse", "constant", "one-class", "empty-category", "other-unit", "named-unit", "swapped-codes",
)  # fmt: skip
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


NONE = "none"


def _none(value: Any) -> Any:
    """The word for no gate, which in a plan is null."""
    if isinstance(value, str | bool) and value != NONE:
        raise ValueError(f"must be {NONE!r}, or hold `key: value` lines here")
    return None if value == NONE else value


Asked = Annotated[Gate | None, BeforeValidator(_none, json_schema_input_type=Gate | Literal["none"])]
"""The gate that a study asks for; None: none, which stands in a plan as null, and in a study file as a word."""


def of_plan(told: dict[str, Any]) -> dict[str, Any]:
    """What a plan says, as it was meant when it was made: one without the key asked for no check."""
    return {"gate": None, **told}

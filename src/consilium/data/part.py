"""What every part of a mapping is."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of the mapping: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

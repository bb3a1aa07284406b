"""What the parts of a study file are made of: frozen models, names, and words that are shown to people."""

from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from consilium.core.ids import SLUG

Slug = Annotated[str, StringConstraints(pattern=SLUG)]
IDENTIFIER = r"^[A-Za-z][A-Za-z0-9_]{0,62}$"
Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
STUDY_NAME = r"^[a-z0-9][a-z0-9-]{0,49}$"
StudyName = Annotated[str, StringConstraints(pattern=STUDY_NAME)]
"""A slug that leaves room for the number of a run: `NAME-1` is a name, too."""
SHOWN = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$"
"""What is shown to people who decide: no control characters, which would move the cursor or the order of words."""
Shown = Annotated[str, StringConstraints(pattern=SHOWN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True, pattern=SHOWN)]


def _finite(value: Any, where: str = "") -> Any:
    """Raises: ValueError: a number in it is none that JSON has, so that the plan would say something else."""
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            _finite(inner, f"{where}.{name}".removeprefix("."))
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{where} is no finite number")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{where} is too large a number")
    return value


Json = Annotated[dict[str, Any], AfterValidator(_finite)]


class Part(BaseModel):
    """A part of the study file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

"""Rows of plain values as pandas data frames, for who has pandas."""

from typing import TYPE_CHECKING, Any

from consilium.core.errors import EXTRA, Refused

if TYPE_CHECKING:  # an extra, and only for who wants frames
    import pandas as pd


def frame(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    """One line for each row. Raises: Refused: pandas is not installed."""
    try:
        import pandas as pd
    except ImportError as error:
        raise Refused("data frames need pandas", EXTRA.format("notebook"), reason="extra") from error
    return pd.DataFrame(rows)

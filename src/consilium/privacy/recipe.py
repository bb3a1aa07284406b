"""The front door of privacy: a recipe makes of an update, which stays, the contribution that may leave.

Only what stands here makes a `Contribution`, and nothing that sends accepts anything else. `plain` protects nothing; it
is for hospitals that each signed that they accept it.
"""

from pathlib import Path

from consilium.core.errors import Refused
from consilium.core.ids import Digest
from consilium.core.update import Contribution


def protect(recipe: str, update: Path, digest: Digest, size: int) -> Contribution:
    """The contribution of an update on file (of `size` bytes), under the plan's recipe.

    Raises: Refused: the recipe is unknown here.
    """
    match recipe:
        case "plain":
            return Contribution(update, digest, size, recipe)
        case _:
            raise Refused(f"the recipe {recipe!r} is not known here", "update the agent", reason="recipe")

"""A number that a command takes. Click's own lets `nan` through any bounds, and `inf` where there is no upper one."""

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A finite number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises: click.BadParameter: it is none, or out of bounds."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value!r} is no number that can be meant; {self._describe_range()}.", param, ctx)
        return found

"""A coordinator that lies, for tests: with this folder on PYTHONPATH it steers one value of each opened sum by LIE."""

import os
from typing import Any

from consilium.privacy.layout import Layout
from consilium.privacy.quantize import Encoding


def _steered() -> None:
    true, decode = Layout.uncover, Encoding.decode

    def uncover(self: Layout, *values: Any) -> Any:
        steered = self.encodings.get("update")

        def lies(encoding: Encoding, total: Any) -> Any:
            found = decode(encoding, total)
            if encoding == steered:
                found[0] += float(os.environ["LIE"])
            return found

        Encoding.decode = lies  # type: ignore[method-assign]
        try:
            return true(self, *values)
        finally:
            Encoding.decode = decode  # type: ignore[method-assign]

    Layout.uncover = uncover  # type: ignore[method-assign]


if "LIE" in os.environ:
    _steered()

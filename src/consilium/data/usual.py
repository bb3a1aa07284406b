"""Units that tables of hospitals have, and what each is in each other: read from units.json, which stands beside this.

The file says what `units` computes by ucumvert and pint, to the last bit; a test compares them. To know their language,
a process needs two seconds, and a site begins many. After a change: `python -m consilium.data.usual`.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

TABLE = Path(__file__).with_name("units.json")
UNITS = (
    "mg/dL", "mmol/L", "umol/L", "g/dL", "g/L", "nmol/L", "ug/L", "ng/mL", "ug/dL", "mg/L", "meq/L", "Cel", "[degF]",
    "mm[Hg]", "kPa", "kg", "g", "[lb_av]", "m", "cm", "mm", "um", "[in_i]", "a", "mo", "wk", "d", "h", "min", "s",
    "/min", "/s", "1", "%", "mmol/mol", "10*3/uL", "10*9/L", "/uL", "L", "mL", "m2", "cm2", "mm2", "um2",
)  # fmt: skip
"""The usual ones first, for where several would fit."""
Line = tuple[float, float]
"""Factor and offset: value in the other unit = factor * value + offset."""
Lines = Mapping[str, Line]
"""By the analyte whose molar mass is needed; by "" where none is."""


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Lines]]:
    found: dict[str, dict[str, dict[str, list[float]]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return {
        unit: {
            other: {analyte: (factor, offset) for analyte, (factor, offset) in lines.items()}
            for other, lines in row.items()
        }
        for unit, row in found.items()
    }


def lines(unit: str, wanted: str) -> Lines | None:
    """What `unit` is in `wanted`: empty where neither can be converted into the other, None where one is not usual.

    >>> lines("mm", "cm"), lines("mm", "Cel"), lines("mm", "furlong")
    ({'': (0.1, 0.0)}, {}, None)
    """
    table = _table()
    return table[unit].get(wanted, {}) if unit in table and wanted in table else None


def main() -> None:
    """Write the file."""
    from consilium.data.units import computed

    rows = {unit: {other: found for other in UNITS if (found := computed(unit, other))} for unit in UNITS}
    told = ",\n".join(f"{json.dumps(unit)}: {json.dumps(row)}" for unit, row in rows.items())
    TABLE.write_text(f"{{\n{told}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

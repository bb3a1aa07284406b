"""The table of hospitals: every figure is there, notes stand once, and 80 columns are enough."""

import io
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from consilium.simulation import report
from consilium.simulation.demo import COLUMNS

NOTE = "fewer than ten of a class: read with care"
shares = st.floats(0, 1)
figures = st.one_of(
    st.builds(
        lambda v, n: {"value": v, "low": v / 2, "high": (1 + v) / 2, "note": n}, shares, st.sampled_from(["", NOTE])
    ),
    st.just({"value": None, "low": None, "high": None, "note": "one class only"}),
)
models = st.fixed_dictionaries({"auroc": figures, "accuracy": figures})
hospitals = st.fixed_dictionaries(
    {
        "hospital": st.text("abcdefgh-", min_size=1, max_size=15), "training": st.integers(10, 599),
        "test": st.integers(1, 399), "rounds": st.integers(1, 99), "bytes": st.integers(0, 10**9),
        **dict.fromkeys(COLUMNS, models),
    }
)  # fmt: skip


def printed(rows: list[dict[str, object]], width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(report.drawn(rows, COLUMNS, width)[0])
    return out.getvalue().splitlines()


@settings(max_examples=60, deadline=None)
@given(st.lists(hospitals, min_size=1, max_size=4), st.sampled_from([80, report.WIDE, 120]))
def test_no_figure_is_cut_off(rows: list[dict[str, object]], width: int) -> None:
    lines = printed(rows, width)
    notes: list[str] = []
    for line in lines:
        assert len(line) <= width and "…" not in line
    words = re.split(r"\s{2,}", "  ".join(lines)) if width > 80 else ["\n".join(lines)]
    for row in rows:
        for key in COLUMNS:
            for figure in row[key].values():  # type: ignore[attr-defined]
                shown = report.cell(figure, width >= report.WIDE, notes)
                assert any(shown in word for word in words)


@given(figures)
def test_a_figure_without_a_value_says_why(figure: dict[str, object]) -> None:
    said = report.cell(figure, True, [])
    assert said == "one class only" if figure["value"] is None else said.startswith(f"{figure['value']:.3f} (")


def test_a_note_stands_once_and_its_mark_wherever_it_holds() -> None:
    noted = {"value": 0.9, "low": 0.8, "high": 1.0, "note": NOTE}
    notes: list[str] = []
    assert report.cell(noted, True, notes) == report.cell(noted, True, notes) == "0.900 (0.800–1.000)*"
    assert notes == [NOTE]
    assert report.cell({**noted, "note": "another"}, False, notes) == ".90 .80–1.00**"

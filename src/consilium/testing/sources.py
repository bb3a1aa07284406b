"""Laws of a Source. `Make` opens the source anew on the same table, which holds at least one row."""

from collections.abc import Callable

from consilium.data.base import Source

Make = Callable[[], Source]


def counts_its_rows(make: Make) -> None:
    """`count` is the number of rows that `rows` gives."""
    assert make().count() == len(make().rows()) > 0


def gives_columns_of_one_length(make: Make) -> None:
    """Every column has a name and one entry per row."""
    rows = make().rows()
    assert rows.columns and all(isinstance(name, str) and name for name in rows.columns)
    assert {len(column) for column in rows.columns.values()} == {len(rows)}


def gives_text_or_nothing(make: Make) -> None:
    """A cell is text, or None where there is nothing: what it means is the mapping's to say."""
    for column in make().rows().columns.values():
        assert all(cell is None or type(cell) is str for cell in column)


def gives_the_same_rows_again(make: Make) -> None:
    """Reading twice, from one source or from two, gives the same rows in the same order."""
    source = make()
    assert source.rows() == source.rows() == make().rows()
    assert source.count() == source.count()


LAWS: tuple[Callable[[Make], None], ...] = (
    counts_its_rows, gives_columns_of_one_length, gives_text_or_nothing, gives_the_same_rows_again,
)  # fmt: skip

"""An expression of a query, followed to the tables or parts of FROM of which its columns are."""

from dataclasses import dataclass

from consilium.data.catalogue import Column
from consilium.data.scopes import Relation, Scope
from consilium.data.tree import Node, signed


@dataclass(frozen=True)
class Origin:
    """An expression, where its columns are those of tables, or of several parts of one FROM.

    relations: those it has columns of.   columns: of tables, those of which its values are before those on which it
    only hangs.   held: conditions of SELECTs above, as they are here.
    """

    value: Node
    scope: Scope
    relations: tuple[Relation, ...]
    columns: tuple[Column, ...]
    held: tuple[Node, ...] = ()

    @property
    def column(self) -> Column | None:
        """The column that it is, unchanged."""
        plain = self.value.get("class") == "COLUMN_REF" and len(self.columns) == 1
        return self.columns[0] if plain and self.relations[0].table else None

    @property
    def followed(self) -> bool:
        """Whether it was followed to tables, or to a join."""
        return len(self.relations) > 1 or self.relations[0].table is not None

    @property
    def sign(self) -> str:
        """The same for what is written alike and comes from the same place."""
        return signed([self.value, [one.node for one in self.relations]])

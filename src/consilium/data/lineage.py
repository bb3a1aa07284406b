"""Where the values of an expression of a query come from: it is followed through WITH and subqueries to the tables.

`nr` of `WITH k AS (SELECT trim(pat_nr) AS nr FROM pat WHERE ...)` is `trim(pat_nr)` of `pat`. So it can be asked there,
by the same database, without what the query joins and leaves out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from consilium.data.catalogue import Catalogue, Column
from consilium.data.origins import Origin
from consilium.data.scopes import (
    APART,
    NUMBERS,
    OF_FIRST,
    OF_MANY,
    Made,
    Relation,
    Scope,
    conditions,
    every_select,
    joints,
    leaves,
    needed_of,
    references,
    related,
    relaxed,
)
from consilium.data.tree import (
    Node,
    Undecided,
    column_of,
    in_words_of,
    instead,
    last_of,
    name_of,
    parsed,
    parts,
    tried,
    written,
)
from consilium.data.unbracketed import unbracketed

SUMS = OF_FIRST | NUMBERS | OF_MANY
DEEP = 40
MOST = 5_000
"""Expressions and columns that are followed of one query: a large mapping has a hundred. Each takes up to 0.2 ms."""


class Lineage:
    """Of one query, and the tables it may read. parser: a connection of DuckDB."""

    def __init__(self, parser: Any, query: str, catalogue: Catalogue) -> None:
        self._parser, self._known, self._left = parser, catalogue, MOST
        (statement,) = parsed(parser, query)["statements"]
        self.answer = Made(statement["node"], {})
        self._pattern = parsed(parser, "SELECT DISTINCT 1 FROM t")["statements"][0]["node"]
        self._check = parsed(parser, "SELECT CASE WHEN 1 THEN 2 END")["statements"][0]["node"]["select_list"][0]
        self._sub = parsed(parser, "SELECT 1 FROM (SELECT 1) AS s")["statements"][0]["node"]["from_table"]

    def scopes(self) -> Iterator[Scope]:
        """All SELECTs of the query."""
        yield from every_select(self.answer.query, {}, None)

    def of_answer(self, name: str) -> list[Origin]:
        """Where a column of the answer comes from; of a UNION, of each of its parts. Raises: Undecided."""
        return [one for value, scope in self.defined(self.answer, name.casefold())
                for one in self.origins(value, scope)]  # fmt: skip

    def origins(self, value: Node, scope: Scope, deep: int = 0, held: Sequence[Node] = ()) -> list[Origin]:
        """Where an expression comes from; nowhere, where it is made of no column, or is a number. Raises: Undecided."""
        if deep > DEEP:
            raise Undecided
        self._spent(1)
        if value.get("class") == "SUBQUERY" and value["subquery_type"] == "SCALAR":
            made = Made(value["subquery"]["node"], scope.within)
            return [
                one
                for inner, at in self.nth(made, value.get("place", 0), scope)
                for one in self.origins(inner, at, deep + 1)
            ]
        value = self._one(value)
        if value.get("class") in ("FUNCTION", "WINDOW") and value["function_name"] in NUMBERS:
            return []
        refs = list(references(value))
        self._spent(len(refs))
        found = [(ref, *self._found(ref, scope)) for ref in refs]
        for ref, at, relation, meant in found:
            if relation is None:  # another expression of the same SELECT, by its name
                assert meant is not None
                return self.origins(instead(value, {id(ref): meant}), at, deep + 1, held)
        if not found:
            return []
        at = found[0][1]
        held = held if at.select is scope.select else ()
        relations = {relation.alias: relation for _, _, relation, _ in found if relation is not None}
        if any(one[1].select is not at.select for one in found):
            raise Undecided
        (first, *more) = relations.values()
        if first.made is not None and not more:
            try:
                whole = [*held, *(one for one, names in conditions(at.select, at.within) if first.alias in names)]
                below_it = list(self._within(first.made, value, refs))
                return [
                    one
                    for place, (inner, below) in enumerate(below_it)
                    for one in self.origins(inner, below, deep + 1, self._lower(whole, at, first, place))
                ]
            except Undecided:
                self._spent(0)  # else as it is made by the query: of VALUES, by recursion, or of several as a list
        order = [one.alias for one in related(at.select["from_table"], at.within)]
        used = [(of, ref) for ref, _, of, _ in found if of is not None]
        hung = {id(ref) for one in parts(value) if "when_expr" in one for ref in references(one["when_expr"])}
        used.sort(key=lambda one: (id(one[1]) in hung, order.index(one[0].alias)))
        columns = tuple(dict.fromkeys(one for of, ref in used for one in self._columns(of, ref, deep)))
        if first.table is not None and not more:
            called = self._known.columns
            value = instead(value, {id(ref): {**ref, "column_names": [called[first.table, last_of(ref)][1]]}
                                     for ref in refs})  # fmt: skip
        return [Origin(value, at, tuple(relations.values()), columns, tuple(held))]

    def _spent(self, steps: int) -> None:
        """Raises: Undecided: more than `MOST` in all; the query grows as it is followed."""
        self._left -= steps
        if self._left < 0:
            raise Undecided

    def _columns(self, relation: Relation, ref: Node, deep: int) -> Iterator[Column]:
        """Of tables, from which a column of a part of FROM comes; none where that was not followed."""
        if relation.table is not None:
            yield self._known.columns[relation.table, last_of(ref)]
        elif relation.made is not None:
            try:
                for value, scope in self.defined(relation.made, last_of(ref)):
                    yield from (column for one in self.origins(value, scope, deep + 1) for column in one.columns)
            except Undecided:
                return

    def _lower(self, held: list[Node], at: Scope, of: Relation, place: int) -> list[Node]:
        """Conditions on a query within, as they are in one of the SELECTs of which it is made; those that are some.

        None of a recursion's rows: what holds of those of one turn does not of those before, which they are made of.
        """
        assert of.made is not None
        found = list[Node]()
        for condition in () if of.made.again else held:
            by = dict[int, Node]()
            try:
                for ref in references(condition):
                    where, relation, _ = self._found(ref, at)
                    if where.select is not at.select or relation is None or relation.alias != of.alias:
                        raise Undecided
                    by[id(ref)], below = self.defined(of.made, last_of(ref))[place]
                    if below.select["group_expressions"]:
                        raise Undecided
            except (Undecided, IndexError):
                continue
            lower = instead(condition, by)
            each = list(parts(lower))
            if by and not any(one.get("class") in APART or one.get("function_name") in SUMS for one in each):
                found.append(lower)
        return found

    def kept(self, origin: Origin) -> list[Node]:
        """Conditions of the SELECT which its columns are of, that hang on these parts of FROM alone."""
        found, aliases = list[Node](), {one.alias for one in origin.relations}
        above = [(one, aliases) for one in origin.held]
        for condition, names in [*above, *conditions(origin.scope.select, origin.scope.within)]:
            refs, by = list(references(condition)), dict[int, Node]()
            try:
                for ref in refs:
                    at, relation, _ = self._found(ref, origin.scope)
                    if at.select is not origin.scope.select or getattr(relation, "alias", None) not in names & aliases:
                        break
                    if origin.relations[0].table is not None and len(aliases) == 1:
                        called = self._known.columns[origin.relations[0].table, last_of(ref)][1]
                        by[id(ref)] = {**ref, "column_names": [called]}
                else:
                    found += [instead(condition, by)] if refs else []
            except (Undecided, KeyError):
                continue
        return found

    def asked(self, origin: Origin, every: bool = False, where: Sequence[Node] = ()) -> str:
        """A query for its values as `v`, each once.

        Args:    every: of who is left out by a condition or a join, too.   where: of rows for which these hold alone.
        Raises:  Undecided: what it is made of is joined by conditions that stand elsewhere.
        """
        self._spent(0)
        source = self._from(origin, every)
        node = {**self._pattern, "select_list": [{**self._tried(origin.value), "alias": "v"}], "from_table": source}
        if where:
            node["where_clause"] = {"class": "CONJUNCTION", "type": "CONJUNCTION_AND", "alias": "",
                                    "children": [self._tried(one) for one in where]}  # fmt: skip
        if not (len(origin.relations) == 1 and origin.relations[0].table):
            made = origin.scope.within
            entries = [{"key": name, "value": one.entry} for name, one in made.items() if one.entry is not None]
            node["cte_map"] = {"map": entries}
        return self.written(node)

    def written(self, node: Node) -> str:
        """A SELECT as SQL, as other databases take it, too."""
        said = node if self._known.database == "duckdb" else in_words_of(self._known.database, node)
        query = written(self._parser, {"error": False, "statements": [{"node": said, "named_param_map": []}]})
        return unbracketed(query) if self._known.database == "sqlite" else query

    def _tried(self, value: Node) -> Node:
        """The expression, of which nothing fails: a row that a condition had left out may have any text."""
        return tried(value) if self._known.database == "duckdb" else value

    def _one(self, value: Node) -> Node:
        """The expression without what takes one of several values; a FILTER is a CASE then."""
        if value.get("class") in ("FUNCTION", "WINDOW"):
            name = value["function_name"]
            if (
                name in OF_FIRST
                and value.get("children")
                and (len(value["children"]) == 1 or name not in ("min", "max"))
            ):
                inner = self._one(value["children"][0])
                when = value.get("filter") or value.get("filter_expr")
                if when is None:
                    return inner
                (check,) = self._check["case_checks"]
                checks = [{**check, "when_expr": when, "then_expr": inner}]
                return {**self._check, "alias": value.get("alias", ""), "case_checks": checks}
            if name in OF_MANY or (value["class"] == "WINDOW" and name not in NUMBERS):
                raise Undecided
        if value.get("class") == "SUBQUERY":
            raise Undecided

        def of(one: Any) -> Any:
            if isinstance(one, list):
                return [of(inner) for inner in one]
            if not isinstance(one, dict):
                return one
            if one.get("class") in ("FUNCTION", "WINDOW", "SUBQUERY", "STAR", "LAMBDA"):
                if one["class"] in ("STAR", "LAMBDA"):
                    raise Undecided
                return self._one(one)
            return {key: of(inner) for key, inner in one.items()}

        made: Node = {key: of(inner) for key, inner in value.items()}
        return made

    def _found(self, ref: Node, scope: Scope) -> tuple[Scope, Relation | None, Node | None]:
        """In which SELECT a column is looked up, and of what; or which expression is called so. Raises: Undecided."""
        names = [one.casefold() for one in ref["column_names"]]
        at: Scope | None = scope
        while at is not None:
            relations = list(related(at.select["from_table"], at.within))
            if len(names) > 1:
                for one in relations:
                    if one.alias == names[-2]:
                        return at, one, None
            else:
                for one in relations:
                    if self._has(one, names[0]):
                        return at, one, None
                for said in at.select["select_list"]:
                    if said.get("alias", "").casefold() == names[0] and said is not ref and ref not in references(said):
                        return at, None, {**said, "alias": ""}
                opaque = [one for one in relations if one.table is None and one.made is None]
                if len(opaque) == 1:
                    return at, opaque[0], None
            at = at.outer
        raise Undecided

    def place(self, ref: Node, scope: Scope) -> tuple[int, str]:
        """Of which part of which FROM a column is. Raises: Undecided."""
        at, relation, _ = self._found(ref, scope)
        return id(at.select), relation.alias if relation is not None else ""

    def holding(self, node: Node, scope: Scope, name: str) -> Node | None:
        """A column of this name, of the first of what is joined that has it."""
        for one in related(node, scope.within):
            if self._has(one, name.casefold()):
                return column_of(one.alias, name)
        return None

    def names(self) -> set[str]:
        """What columns may be called in the query, in small letters."""
        return {name for _, name in self._known.columns} | {
            one["alias"].casefold() for one in parts(self.answer.query) if one.get("alias")}  # fmt: skip

    def behind(self, ref: Node, scope: Scope) -> list[tuple[Node, Scope | Column]]:
        """What a column is one step further down: an expression and where it stands; or a column of a table.

        Raises:  Undecided: it is neither.
        """
        at, relation, meant = self._found(ref, scope)
        if relation is None:
            assert meant is not None
            return [(meant, at)]
        if relation.table is not None:
            return [(ref, self._known.columns[relation.table, last_of(ref)])]
        if relation.made is None:
            raise Undecided
        return list(self.defined(relation.made, last_of(ref)))

    def _has(self, relation: Relation, name: str) -> bool:
        if relation.table is not None:
            return (relation.table, name) in self._known.columns
        try:
            return relation.made is not None and bool(self.defined(relation.made, name))
        except Undecided:
            return False

    def _within(self, made: Made, value: Node, refs: list[Node]) -> Iterator[tuple[Node, Scope]]:
        """The same expression over what a query within is made of."""
        meant = [self.defined(made, last_of(ref)) for ref in refs]
        for branch in zip(*meant, strict=True):
            if any(one[1].select is not branch[0][1].select for one in branch):
                raise Undecided
            yield instead(value, {id(ref): one for ref, (one, _) in zip(refs, branch, strict=True)}), branch[0][1]

    def defined(self, made: Made, name: str) -> list[tuple[Node, Scope]]:
        """What a column of a query within is, in each SELECT that it is made of. Raises: Undecided."""
        self._spent(1)
        if made.names:
            places = [one.casefold() for one in made.names]
            if name not in places:
                raise Undecided
            return self.nth(made, places.index(name), None)
        leading = leaves(made, None)[0]
        for place, one in enumerate(leading.select["select_list"]):
            if one.get("class") == "STAR":
                break
            if (one.get("alias") or name_of(one)).casefold() == name:
                return self.nth(made, place, None)
        return [(self._item(scope, name), scope) for scope in leaves(made, None)]

    def _item(self, scope: Scope, name: str) -> Node:
        """The column of one SELECT that is called so, maybe one of its `*`."""
        stars = []
        for one in scope.select["select_list"]:
            if one.get("class") == "STAR":
                stars.append(one)
            elif (one.get("alias") or name_of(one)).casefold() == name:
                return {**one, "alias": ""}
        for star in stars:
            for of in star.get("replace_list") or ():
                if of["key"].casefold() == name:
                    return {**of["value"], "alias": ""}
            if star.get("rename_list") or star.get("expr"):
                raise Undecided
            for relation in related(scope.select["from_table"], scope.within):
                if star.get("relation_name") and star["relation_name"].casefold() != relation.alias:
                    continue
                if self._has(relation, name):
                    return column_of(relation.alias, name)
        raise Undecided

    def nth(self, made: Made, place: int, outer: Scope | None) -> list[tuple[Node, Scope]]:
        """What a column of a query within is, by its place, in each SELECT of which it is made. Raises: Undecided."""
        found = []
        for scope in leaves(made, outer):
            said = scope.select["select_list"]
            if any(one.get("class") == "STAR" for one in said[: place + 1]) or place >= len(said):
                raise Undecided
            found.append(({**said[place], "alias": ""}, scope))
        return found

    def _from(self, origin: Origin, every: bool) -> Node:
        """FROM, as little of it as the expression needs."""
        if len(origin.relations) == 1 and (table := origin.relations[0].table):
            node = origin.relations[0].node
            called = next(one[0] for (of, _), one in self._known.columns.items() if of == table)
            return {**node, "alias": "", "table_name": called, "sample": None}
        node = origin.scope.select["from_table"]
        needed = {one.alias for one in origin.relations}
        if any(one.get("ref_type") not in (None, "REGULAR") for one in joints(node)):
            raise Undecided  # joined by conditions that stand elsewhere
        while True:
            pruned = needed_of(node, needed, origin.scope.within)
            more = {one.alias for one in related(pruned, origin.scope.within)}
            used = (ref["column_names"] for join in joints(pruned) for ref in references(join["condition"]))
            named = {names[-2].casefold() for names in used if len(names) > 1}
            if named <= more:
                return relaxed(pruned, origin.scope.within, self._sub) if every else pruned
            needed |= named

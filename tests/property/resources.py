"""Resources and paths of FHIR by chance, for the tests of this folder."""

from typing import Any

from hypothesis import strategies as st

WORDS = st.sampled_from(["a", "b", "official", "usual", "2018-03-01", "10", ""])
NUMBERS = st.integers(-3, 12) | st.sampled_from([0.5, 1.0, 1.8, 120.25])


def _some(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def _many(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(one, min_size=1, max_size=3)


USE = st.sampled_from(["official", "usual"])
NAME = _some({"use": USE, "family": WORDS.filter(bool), "given": _many(WORDS.filter(bool))})
TELECOM = _some({"system": st.sampled_from(["phone", "email"]), "value": WORDS.filter(bool), "rank": st.integers(1, 4)})
PATIENT = st.builds(
    lambda rest: {"resourceType": "Patient", "id": "p", **rest},
    _some({
        "active": st.booleans(), "name": _many(NAME), "telecom": _many(TELECOM), "gender": USE,
        "contact": _many(_some({"name": NAME, "telecom": _many(TELECOM)})), "multipleBirthInteger": st.integers(1, 3),
    }),
)  # fmt: skip
"""Conformant patients."""
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b", "value", "valueString", "valueQuantity", "given"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
"""JSON of any shape, with nulls and empty lists, which no resource should have."""

COLLECTIONS = st.recursive(
    st.sampled_from(["name", "name.given", "name.family", "telecom", "telecom.rank", "contact.telecom", "contact.name",
                     "active", "multipleBirth.ofType(integer)", "gender", "link", "telecom.value"]),
    lambda inner: st.builds("{}.{}".format, inner, st.sampled_from(
        ["first()", "last()", "tail()", "skip(1)", "take(2)", "distinct()", "where(use = 'usual')", "where(rank > 1)",
         "where(system = 'phone' and rank <= 2)", "select(given)", "where(given contains 'a')", "given", "value"]))
    | st.builds("{}[{}]".format, inner, st.integers(0, 2))
    | st.builds("({} | {})".format, inner, inner),
    max_leaves=4,
)  # fmt: skip
SINGLES = st.builds("{}.{}".format, COLLECTIONS, st.sampled_from(["count()", "exists()", "empty()", "empty().not()"]))
CONDITIONS = st.recursive(
    st.builds("({}.exists())".format, COLLECTIONS) | st.builds("({} = {})".format, COLLECTIONS, COLLECTIONS)
    | st.builds("({} != {})".format, COLLECTIONS, COLLECTIONS) | st.sampled_from(["active", "true", "false", "{}"])
    | st.builds("({}.count() {} {})".format, COLLECTIONS, st.sampled_from(["<", ">=", "=", "!="]), st.integers(0, 3)),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or", "xor", "implies"]), inner),
    max_leaves=3,
)  # fmt: skip
SUMS = st.recursive(
    st.sampled_from(["1", "2", "0.5", "1.8", "1.2", "telecom.rank.first()", "multipleBirth.ofType(integer)", "{}"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "div", "mod"]), inner),
    max_leaves=4,
)
PATHS = COLLECTIONS | SINGLES | CONDITIONS | SUMS
"""Paths within the subset."""

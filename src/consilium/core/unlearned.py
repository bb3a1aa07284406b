"""Of what nobody learned anything, because too few hospitals have some: in words, for who asked the study.

The names are those that hospitals say in READY, and that a round of preparation tells (`not_learned`).
"""

from collections.abc import Iterable

HARMONISED = "to-harmonise"
"""All that is harmonised; with `-ID` one feature of it. Ids of features have no hyphen."""
SHOWN = 20
"""So many features are named."""


def sentences(names: Iterable[str]) -> list[str]:
    """What became of the study without these, and what helps; nothing, where nothing is lacking.

    >>> [one.partition(":")[0] for one in sentences(["to-harmonise-sex", "bmi", "age"])]
    ['Nothing is learned of age, bmi', 'Numbers are harmonised without sex']
    """
    asked = set(names)
    features = sorted(name for name in asked if "-" not in name)
    single = sorted(name.removeprefix(f"{HARMONISED}-") for name in asked if name.startswith(f"{HARMONISED}-"))
    found = []
    if features:
        found.append(
            f"Nothing is learned of {_listed(features)}: so few hospitals have values of it that one could read "
            "another's. A number is scaled by the contract's range, codes count as the reference where `rare_below` is "
            "set, and a value that is filled in is the middle of the range, or the first code. Leave it out of the "
            "contract, or ask more hospitals."
        )
    if HARMONISED in asked:
        found.append(
            "Numbers are not harmonised: so few hospitals have enough patients, and of each code that is kept, that "
            "one could read another's numbers. They stay as each hospital measures them. Keep fewer features "
            "(`prepare.harmonise.keep`), or ask more hospitals."
        )
    elif single:
        found.append(
            f"Numbers are harmonised without {_listed(single)}: at so few hospitals it differs between patients that "
            "one could read another's. A number stays as each hospital measures it; of what is kept, all that goes "
            "with it is taken out where hospitals differ in it. Leave it out of `prepare.harmonise`, or ask more "
            "hospitals."
        )
    return found


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

"""Plug-ins by name, through Python's entry points. Built-ins register by the same door as those of outsiders."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from consilium.core.errors import NotFound, StudyInvalid

if TYPE_CHECKING:
    from consilium.core.study import Study
    from consilium.core.update import Sum

GROUPS = {
    "consilium.strategies": "federated algorithms",
    "consilium.trainers": "kinds of models",
    "consilium.sources": "kinds of data sources",
    "consilium.commands": "command groups",
}


@cache  # looking through all that is installed takes a while, and one process asks for the same few again and again
def names(group: str) -> Mapping[str, EntryPoint]:
    """The plug-ins of a group by name, sorted."""
    return {point.name: point for point in sorted(_installed().select(group=group), key=lambda point: point.name)}


@cache
def _installed() -> Any:
    return entry_points()  # of which Python 3.11 has another class than later ones


def load(group: str, name: str) -> Any:
    """The object behind a name.

    Raises: NotFound: no plug-in of this name is installed.
    """
    try:
        return _loaded(group, name)
    except KeyError:
        known = ", ".join(names(group))
    raise NotFound(f"there is no {name!r} among the {GROUPS.get(group, group)}", f"known are: {known}")


def strategy(name: str, options: Mapping[str, Any]) -> Any:
    """A strategy with a study's options. Raises: StudyInvalid: it is not installed here, or has no such options."""
    try:
        kind = load("consilium.strategies", name)
    except NotFound as error:
        raise StudyInvalid(error.message, error.remedy) from error
    return kind(options)


def strategy_of(study: "Study") -> Any:
    """The strategy of a study, with what its privacy adds to it. Raises: StudyInvalid: as `strategy`."""
    found = strategy(study.strategy.name, study.strategy.options)
    if study.evaluation.folds:
        from consilium.algorithms.crossed import crossed

        return crossed(found, study.evaluation.folds)
    if not study.privacy.whole:
        return found
    from consilium.algorithms.clipping import Clipped  # few studies need it

    return Clipped(found, study.privacy.clip_norm, study.privacy.clip_quantile)


def sums_of(study: "Study", kind: str, length: int) -> Mapping[str, "Sum"]:
    """What is summed in a round of a kind, for a model of so many parameters. Raises: StudyInvalid: as `strategy`."""
    if kind != "PREPARE":
        found: Mapping[str, Sum] = strategy_of(study).sums(study, length)
        return found
    from consilium.algorithms import preparation  # with numpy

    return preparation.sums(study)


@cache
def _loaded(group: str, name: str) -> Any:
    return names(group)[name].load()

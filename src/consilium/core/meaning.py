"""What the numbers mean that go into a model and come out of it: by this a model's file is tied to a study.

Two studies mean the same where the same patient becomes the same inputs in the same order, and where a prediction is of
the same label. How hospitals find the values (codes of records, who is excluded), and words for people on what a
feature means, may differ: that is what an evaluation elsewhere is for.
"""

import re
from collections.abc import Mapping
from typing import Any

from consilium.core.ids import Digest, canonical, digest
from consilium.core.preparing import Prepare
from consilium.core.study import Study

OF_A_FEATURE = ("type", "unit", "range", "typical", "missing", "window", "aggregate", "recorded")
OF_A_RAW_FEATURE = ("type", "unit", "window", "aggregate", "recorded")
OF_AN_IMAGE = ("rows", "columns", "resize", "values", "unit", "range", "orientation")
OF_A_LABEL = ("type", "unit", "range")
OF_PREPARATION = ("numbers", "missing", "bins", "rare_below", "harmonise")
OF_A_NETWORK = ("architecture", "options", "wheel")
MOST_TOLD, MOST_CHARACTERS = 6, 80
NONE = "none"
NOTHING = Prepare.model_validate({})


def meaning(study: Study) -> dict[str, Any]:
    """By what it is of, such as `age: range`, each value on which it hangs what a model's inputs and output mean."""
    contract, told = study.contract, dict[str, Any]()
    told["model.kind"] = study.model.kind
    if study.model.architecture is not None:
        told |= _of("model.", study.model, OF_A_NETWORK)
    for place, feature in enumerate(contract.inputs, 1):
        told[f"input {place}"] = feature.id
    for feature in contract.features:
        told |= _of(f"{feature.id}: ", feature, OF_A_FEATURE)
        told |= {f"{feature.id}={code}": str(words) for code, words in (feature.categories or {}).items()}
    if contract.image is not None:
        told |= _of(f"{contract.image.id}: ", contract.image, OF_AN_IMAGE)
    told["label"] = contract.label.id
    told |= _of("label: ", contract.label, OF_A_LABEL)
    asked, usual = (_of("prepare.", one, OF_PREPARATION) for one in (study.prepare or NOTHING, NOTHING))
    return told | {key: value for key, value in asked.items() if usual.get(key) != value}


def raw_meaning(study: Study) -> dict[str, Any]:
    """The same of a model that takes raw rows by name and prepares them itself: order and scales are its own."""
    told = meaning(study)
    names = [f"{one.id}: {key}" for one in study.contract.features for key in OF_A_RAW_FEATURE]
    names += [f"{one.id}={code}" for one in study.contract.features for code in one.categories or ()]
    image = study.contract.image
    names += ["label"] + [f"label: {key}" for key in ("type", "unit")]
    names += [f"{image.id}: {key}" for key in ("rows", "columns", "resize", "values", "unit")] if image else []
    return {name: told[name] for name in names if name in told}


def meaning_digest(study: Study) -> Digest:
    """The hash of it, which a model's file names as `inputs`."""
    return digest(canonical(meaning(study)))


def differences(model: Study, study: Study) -> str:
    """What a model's own study says otherwise than another one; empty where both mean the same.

    Args:    model: by which it was trained.   study: in which it is to be used.
    """
    return _told(meaning(model), meaning(study))


def raw_differences(model: Study, study: Study) -> str:
    """The same of a model that takes raw rows by name; what of the study it does not take may be as it is."""
    one, other = raw_meaning(model), raw_meaning(study)
    taken = {feature.id for feature in model.contract.features} | {"label"}
    taken |= {model.contract.image.id} if model.contract.image else set()
    return _told(one, {key: value for key, value in other.items() if re.split("[:=]", key)[0] in taken})


def _told(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    apart = [key for key in dict.fromkeys((*one, *other)) if one.get(key) != other.get(key)]
    told = [
        f"{key} is {_said(one.get(key))} in the model and {_said(other.get(key))} in the study"
        for key in apart[:MOST_TOLD]
    ]
    more = [f"and {len(apart) - MOST_TOLD} more"] if len(apart) > MOST_TOLD else []
    return "; ".join((*told, *more))


def _of(before: str, part: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Without what is not there, or empty: a key that a later release adds changes no digest of before."""
    values = part.model_dump(mode="json", include=set(names))
    return {f"{before}{name}": values[name] for name in names if values.get(name) not in (None, {}, [], 0)}


def _said(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, list):
        told = f"[{', '.join(map(_said, value))}]"
    elif isinstance(value, float):
        told = f"{value:.12g}"
    else:
        told = str(value)
    return told if len(told) <= MOST_CHARACTERS else f"{told[:MOST_CHARACTERS]}…"

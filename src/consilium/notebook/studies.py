"""A study, from its file or from values."""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consilium import studyfile
from consilium.core.errors import StudyInvalid
from consilium.core.gate import NONE
from consilium.core.study import Study

NAME = "study"


def load(source: str | Path | Mapping[str, Any]) -> Study:
    """A study from its file, or from a dict with the keys of the file; checked as `consilium study validate` does.

    Raises: StudyInvalid: names every problem; of a file with its line.
    """
    if not isinstance(source, Mapping):
        return studyfile.read(Path(source))
    with tempfile.TemporaryDirectory(prefix="consilium-study-") as folder:
        path = Path(folder) / NAME
        path.write_text(json.dumps(source, indent=1, default=str), encoding="utf-8")  # JSON is YAML
        try:
            return studyfile.read(path)
        except StudyInvalid as error:  # nobody has seen the lines of this file
            told = re.sub(rf"^{NAME}:\d+: ", "", error.message, flags=re.MULTILINE)
            raise StudyInvalid(told, error.remedy) from None


def changed(study: Study, changes: str | Mapping[str, Any]) -> Study:
    """The study with another strategy, by its name, or with other values of keys of the study file.

    What stands under a key is changed key by key, but for a strategy, whose options belong to its name.

    Raises: StudyInvalid: what the study file would be refused for.
    """
    asked: Mapping[str, Any] = {"strategy": {"name": changes}} if isinstance(changes, str) else changes
    told = study.model_dump(mode="json", exclude_defaults=True)
    if study.gate is None:
        told["gate"] = NONE
    for key, value in asked.items():
        apart = key == "strategy" or not isinstance(value, Mapping) or not isinstance(told.get(key), dict)
        told[key] = value if apart else {**told[key], **value}
    return load({**told, "consilium": study.consilium})

"""The study file: read it with errors that name line, value and remedy; its JSON Schema; a template to start from."""

import re
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from consilium import plugins, yamlfile
from consilium.core.errors import NotFound, StudyInvalid
from consilium.core.gate import NONE
from consilium.core.study import Study
from consilium.data import units

SCHEMAS: dict[str, str] = {
    "study": "consilium.core.study:Study",
    "mapping": "consilium.data.mapping:Mapping",
    "policy": "consilium.governance.policy:Policy",
}
"""Files that people write, and the model each is checked by."""


def read(path: Path) -> Study:
    """Read a study file.

    Raises: StudyInvalid: names the line, the value and the remedy of every problem.
    """
    study = yamlfile.load(path, Study, StudyInvalid)
    named = {
        ("model", "kind"): (study.model.kind, "consilium.trainers"),
        ("strategy", "name"): (study.strategy.name, "consilium.strategies"),
    }
    for where, (name, group) in named.items():
        if name not in (known := plugins.names(group)):
            line = yamlfile.line(path.read_text(encoding="utf-8"), where)
            at = f"{path.name}:{line}: {'.'.join(where)}: {name!r}"
            if name in yamlfile.ELSEWHERE:
                raise StudyInvalid(f"{at}: {yamlfile.ELSEWHERE[name]}", f"name one of {', '.join(known)} here")
            what = f"{at}: must be one of {', '.join(known)}"
            net = "write a network as `kind: torch` with `architecture: mlp`, or another one of the catalogue; "
            plug = f"or install the plug-in that adds it to the {plugins.GROUPS[group]}"
            raise StudyInvalid(what, net + plug if where == ("model", "kind") else plug)
    _check_gate(study, path)
    _check_options(study, path)
    _check_units(study, path)
    return study


def _check_gate(study: Study, path: Path) -> None:
    """That who wants no check says so: a key that was left empty is null, too, as in a plan without one."""
    if study.gate is not None:
        return
    text, where = path.read_text(encoding="utf-8"), ("gate",)
    if (found := yamlfile.word(text, where)) != NONE:
        told = f": {found!r}" if found else ""
        what = f"is empty, which asks for no check of the data: write `{NONE}` if that is meant; else remove the key"
        raise yamlfile.complaint(StudyInvalid, [f"{path.name}:{yamlfile.line(text, where)}: gate{told}: {what}"])


def _check_options(study: Study, path: Path) -> None:
    """That the strategy, and an architecture of the catalogue, know their options: a run would fail of it later.

    A strategy whose options are about the model, such as names of its parts, is shown the one that it would begin at.
    """
    try:
        from consilium import feasible  # with numpy: most commands read no study file

        feasible.starts(study, None)
        if study.model.kind == "torch" and study.model.wheel is None:
            from consilium.training import catalogue  # torch, an extra

            catalogue.check(study)
        if study.model.wheel is None and not study.judged_only:
            from consilium.training.initial import from_seed

            feasible.starts(study, from_seed(study))
    except ModuleNotFoundError:
        return  # who has no torch cannot submit the study, and is told so then
    except StudyInvalid as error:
        where = re.match(r"[a-z_]+(\.\w+)*", error.message)
        at = tuple(where[0].split(".")) if where else ()
        line = yamlfile.line(path.read_text(encoding="utf-8"), at)
        raise StudyInvalid(f"{path.name}:{line}: {error.message}", error.remedy) from error


def _check_units(study: Study, path: Path) -> None:
    """That every unit of the contract is UCUM: each hospital converts its own units to it."""
    contract = study.contract
    places: list[tuple[tuple[str | int, ...], str | None]] = [
        (("contract", "features", number, "unit"), feature.unit) for number, feature in enumerate(contract.features)
    ]
    places.append((("contract", "label", "unit"), contract.label.unit))
    places += [] if contract.image is None else [(("contract", "image", "unit"), contract.image.unit)]
    wrong = [(where, unit, fault) for where, unit in places if unit is not None and (fault := units.fault(unit))]
    if wrong:
        text = path.read_text(encoding="utf-8")
        told = [
            f"{path.name}:{yamlfile.line(text, where)}: {'.'.join(map(str, where))}: {unit[:60]!r}: {fault}"
            for where, unit, fault in wrong
        ]
        raise yamlfile.complaint(StudyInvalid, told)


def current(study: Study, today: date) -> Study:
    """The study, which may still run. Raises: StudyInvalid: its last day is past."""
    last = study.purpose.expires
    if last is not None and last < today:
        raise StudyInvalid(f"purpose.expires: {last} is past, and no hospital would train", "name a later last day")
    return study


def template(name: str = "my-study") -> str:
    """A commented study file that is valid as it stands."""
    return TEMPLATE.replace("NAME", name)


TEMPLATE = """\
# A study: what is trained, on what meaning of the data, for what purpose. Check it: consilium study validate FILE
consilium: 1                        # version of this format
name: NAME
title: Coronary disease from routine findings
purpose:                            # hospitals decide by this, and their policy by `code`
  code: research                    # research | quality | public-health | education
  text: Learn whether routine findings predict coronary disease in several hospitals alike.
  requester: "Name, Institution"
  # expires: 2030-12-31             # last day on which the study may run

contract:                           # what the data must mean; each hospital maps its own tables to it
  id: NAME
  version: 1
  features:
    - id: age
      meaning: age at examination
      type: number
      unit: a                       # UCUM: a = years, mg/dL, mm[Hg], Cel, 1 = pure number
      range: [18, 110]              # outside of it a value counts as missing, and is reported
      missing: forbidden            # allowed | forbidden
    - id: sex
      meaning: administrative sex
      type: category
      categories: {female: female, male: male}
    - id: chol
      meaning: serum cholesterol
      type: number
      unit: mg/dL
      range: [50, 700]
  label: {id: disease, meaning: any narrowing above half of a vessel, type: binary}   # binary | number | count

model: {kind: logistic, l2: 0.001}  # linear | logistic | poisson | torch with `architecture: mlp`
# prepare: {numbers: standardise, missing: impute}  # by sums over all hospitals; none: numbers by their ranges above,
                                    # and what is missing is 0, with a column that says so
strategy: {name: fedavg}            # or another; `consilium plugins` lists them
training: {epochs: 1, batch_size: 0, learning_rate: 0.5, seed: 1}   # batch_size 0: all patients at once
privacy:
  recipe: secure_sum                # the coordinator learns sums over the hospitals of a round, and nothing of one;
                                    # plain: it sees each hospital's update, and each must sign that it accepts this
  # min_sites: 3                    # fewest hospitals in a sum that is opened; a hospital may ask for more
  # clip: 8.0                       # largest change of one parameter in a round; what is beyond is cut, and counted
  # most_patients: 100000           # most training patients of one hospital; the closer, the finer the numbers sent
  # epsilon: 3                      # most that all rounds may say of one patient (differential privacy); then also:
  # delta: 1.0e-5                   # chance that they say more; below 1 over all patients
  # noise: shared                   # hospitals add it in shares, within the secure sum, and a round is one step;
                                    # at_each_hospital: each adds all of it, with any recipe, strategy and more steps
  # unit: patient                   # hospital: of each one as a whole at most epsilon is said; for fifty and more
  # clip_norm: 1.0                  # largest norm of one patient's gradient; a longer one is shortened
  # sampling: 1.0                   # chance with which each patient is drawn in each step
  # expected_patients: 500          # training patients of an average hospital: an estimate that anybody may know
rounds: 20
quorum: 3                           # answers that let a round close at its deadline; with fewer the run pauses.
                                    # Of three hospitals nobody may be missing under secure_sum, of four one
min_patients: 10                    # a hospital's own policy may ask for more, never for less
deadlines:                          # in seconds
  round_s: 3600                     # each phase of each round
  compare_s: 604800                 # under secure_sum, once in a run: people compare the words of the roster; 7 days
evaluation: {test_fraction: 0.3, split_seed: 1, confidence: 0.95}
                                    # threshold: 0.5           from which score on the model says yes
                                    # groups: [{feature: sex}]  who is judged apart; without: sex and age, if there
gate: {}                            # each hospital's data pass a check of this contract, signed, before a round, also
                                    # without this line; none: no check is asked for, and each review says so
sites: []                           # invited hospitals by name; empty: all
"""


def json_schema(what: str = "study") -> dict[str, Any]:
    """JSON Schema of a file that people write: `study`, `mapping` or `policy`.

    Raises: NotFound: of another name.
    """
    if what not in SCHEMAS:
        raise NotFound(f"there is no schema named {what}", f"choose one of: {', '.join(SCHEMAS)}")
    module, _, name = SCHEMAS[what].partition(":")
    model: type[BaseModel] = getattr(import_module(module), name)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:consilium:{what}:1",
        **model.model_json_schema(),
    }

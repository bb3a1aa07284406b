"""`study new|validate|schema`: errors name line, value and remedy; the template is valid as it stands."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, Field

from consilium import plugins, studyfile, yamlfile
from consilium.api import freeze
from consilium.console.cli import app
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.gate import Gate, Kind
from consilium.core.ids import canonical, digest
from consilium.core.study import EXACT, Plan, Study
from consilium.studyfile import SCHEMAS

GOOD = studyfile.template("heart")


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_study_of_a_regression_is_told_with_which_categories_others_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their codes: no order of lines is in a plan, so that the file has no other meaning with another one."""
    codes = ("{female: female, male: male}", "{male: male, female: female}")
    assert codes[0] in GOOD
    for written in codes:
        text = GOOD.replace(codes[0], written)
        assert app.run(["study", "validate", str(write(tmp_path, text))]) == 0
        assert "compared with" not in capsys.readouterr().out
        path = str(write(tmp_path, text.replace("{name: fedavg}", "{name: newton}")))
        assert app.run(["study", "validate", path]) == 0
        assert "compared with those whose codes sort first: sex female" in " ".join(capsys.readouterr().out.split())
        assert app.run(["study", "validate", path, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["references"]["sex"] == "female"


def test_the_template_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.yaml"
    assert app.run(["study", "new", str(path), "--name", "heart"]) == 0
    assert app.run(["study", "validate", str(path), "--json"]) == 0
    said = capsys.readouterr().out
    assert '"valid": true' in said and '"study": "heart"' in said


@pytest.mark.parametrize("given", ["no", "on", "01", "yes", "0x1F", "1:30"])
def test_a_code_that_looks_like_something_else_stays_a_code(given: str) -> None:
    class Told(BaseModel):
        codes: dict[str, int]

    assert yamlfile.parse(f"codes: {{{given}: 1}}", Told, Invalid, "f").codes == {given: 1}


def test_an_empty_list_is_told_how_many_entries_it_must_have() -> None:
    class Told(BaseModel):
        edges: Annotated[tuple[float, ...], Field(min_length=1)]

    with pytest.raises(Invalid, match=r"^f:1: edges: must have 1 or more entries, and has 0$"):
        yamlfile.parse("edges: []", Told, Invalid, "f")


def test_a_number_may_be_written_as_one_writes_it() -> None:
    class Told(BaseModel):
        value: float

    for text in ("1e-5", "1.0e-5", "-3", ".5", "+2", "3.", "1E5"):
        assert yamlfile.parse(f"value: {text}", Told, Invalid, "f").value == float(text)


def test_a_study_whose_last_day_is_past_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD.replace("# expires: 2030-12-31", "expires: 2020-12-31"))
    assert app.run(["study", "validate", str(path)]) == 5
    assert "2020-12-31 is past" in capsys.readouterr().err


def test_a_study_that_says_nothing_of_a_gate_has_one_and_one_that_wants_none_says_so(tmp_path: Path) -> None:
    asked, silent, none = (
        Plan.of(studyfile.read(write(tmp_path, GOOD.replace("gate: {}", text))))
        for text in ("gate: {}", "# nothing of it", "gate: none")
    )
    assert silent == asked and silent.study.gate == Gate()
    assert none.study.gate is None and Plan.load(none.payload) == none and none.digest != asked.digest
    assert json.loads(none.payload)["gate"] is None, "as in plans that were made before there was a word for it"


def test_a_plan_that_was_made_before_there_was_a_gate_asks_for_none_as_it_did(tmp_path: Path) -> None:
    told = json.loads(Plan.of(studyfile.read(write(tmp_path, GOOD))).payload)
    del told["gate"]
    plan = Plan.load(canonical(told))
    assert plan.study.gate is None and plan.payload == canonical(told)


@pytest.mark.parametrize("days", [None, 2])
def test_people_have_the_days_of_the_plan_and_in_one_of_before_those_of_a_round(
    tmp_path: Path, days: int | None
) -> None:
    line = "  compare_s: 604800"
    assert line in GOOD
    asked = GOOD.replace("round_s: 3600", "round_s: 60").replace(line, f"  compare_s: {days * 86400}" if days else "")
    plan = Plan.of(studyfile.read(write(tmp_path, asked)))
    told = json.loads(plan.payload)
    assert told["deadlines"].pop("compare_s") == (days or 7) * 86400 and plan == Plan.load(plan.payload)
    before = Plan.load(canonical(told))
    assert before.study.deadlines.compare_s == 60 and before.payload == canonical(told)
    assert before.digest == digest(canonical(told))


@pytest.mark.parametrize("wrong", ["0", "7776001", "a week", ".inf"])
def test_days_for_the_words_have_bounds(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(StudyInvalid, match=r"study.yaml:\d+: deadlines.compare_s"):
        studyfile.read(write(tmp_path, GOOD.replace("compare_s: 604800", f"compare_s: {wrong}")))


def test_a_finding_that_came_after_a_plan_does_not_stop_it(tmp_path: Path) -> None:
    told = json.loads(Plan.of(studyfile.read(write(tmp_path, GOOD))).payload)
    now, later = Plan.load(canonical(told)).study.gate, ["bound", "unread"]
    assert now == Gate() and told["gate"].pop("blocking") == later
    before = Plan.load(canonical(told)).study.gate
    assert before is not None and now is not None
    blocks = [{kind for kind in get_args(Kind) if gate.blocks(kind)} for gate in (before, now)]
    assert blocks[1] - blocks[0] == set(later) and "label-codes" in blocks[0] and "sparse" not in blocks[0]
    told["gate"] |= {"advisory": ["unit", "bound"], "blocking": ["bound", "swapped-codes"]}
    named = Plan.load(canonical(told)).study.gate
    assert named is not None
    wanted = {"swapped-codes": True, "sparse": True, "other-unit": False, "unit": False, "bound": False}
    assert {kind: named.blocks(kind) for kind in get_args(Kind) if kind in wanted} == wanted


@pytest.mark.parametrize("name", ["Bad Name", "-a", "a" * 51, ""])
def test_new_writes_no_study_of_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    assert app.run(["study", "new", str(tmp_path / "s.yaml"), "--name", name]) == 5
    assert not (tmp_path / "s.yaml").exists()


def test_new_never_overwrites(tmp_path: Path) -> None:
    path = write(tmp_path, "mine")
    assert app.run(["study", "new", str(path)]) == 5
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("rounds: 20", "rounds: 0", ["rounds", "0"]),
        ("rounds: 20", "ensemble: true", ["ensemble: 'true'", "consilium baseline STUDY --ensemble"]),
        ("{name: fedavg}", "{name: ensemble}", ["strategy.name: 'ensemble'", "baseline STUDY --ensemble"]),
        ("rounds: 20", "rounds: many", ["rounds", "many"]),
        ("quorum: 3 ", "quorom: 3 ", ["quorom", "unknown key", "quorum", "is missing"]),
        ("range: [50, 700]", "range: [700, 50]", ["range"]),
        ("code: research ", "code: profit ", ["code", "profit", "research"]),
        ("kind: logistic", "kind: linear", ["linear", "binary"]),
        ("recipe: secure_sum", "recipe: none", ["recipe", "none", "plain", "secure_sum"]),
        ("quorum: 3 ", "quorum: 2 ", ["quorum: '2'", "less than the 3 sites that a secure sum needs", "recipe: plain"]),
        ("sites: []", "sites: [a, b, c, d, e]", ["quorum: '3'", "the 4 sites that a secure sum needs", "raise it"]),
        ("# min_sites: 3 ", "min_sites: 4 ", ["quorum: '3'", "the 4 sites that a secure sum needs"]),
        ("# min_sites: 3 ", "min_sites: 2 ", ["min_sites", "'2'", "3"]),
        ("# clip: 8.0 ", "clip: 0 ", ["clip", "'0'", "greater than 0"]),
        ("# most_patients: 100000 ", "bits: 24 ", ["bits", "24", "32"]),
        ("label: {id: disease", "label: {id: age", ["age"]),
        ("rounds: 20", "rounds: true", ["rounds: 'true'", "write a number"]),
        ("rounds: 20", "rounds: '20'", ["rounds: '20'", "without quotes"]),
        ("quorum: 3 ", "quorum: yes ", ["quorum: 'yes'", "integer"]),
        ("# epsilon: 3 ", "epsilon: yes ", ["epsilon: 'yes'", "number"]),
        ("range: [50, 700]", "range: [false, 700]", ["range.0: 'false'", "write a number"]),
        ("type: category", "type: binary", ["type: 'binary'", "two values is a category with two `categories`"]),
        ("gate: {}", "gate:  ", ["gate: is empty, which asks for no check", "write `none`"]),
        ("gate: {}", "gate: ~", ["gate: '~': is empty", "write `none`"]),
        ("gate: {}", "gate: null", ["gate: 'null': is empty", "write `none`"]),
        ("gate: {}", "gate: nome", ["gate: 'nome'", "must be 'none'"]),
        ("gate: {}", "gate: no", ["gate: 'no'", "must be 'none'"]),
        ("{female: female", "{true: female", ["categories.true", "quote it"]),
        ("{female: female", "{1: female", ["categories.1", "is a number, and no word", 'quote it: "1"']),
        ("{female: female", '{"1": female', ["categories.1", "must begin with a letter"]),
        ("{female: female, male: male}", "[female, male]", ["categories: must hold `key: value` lines"]),
        ("range: [50, 700]", "range: 50", ["range: '50': must be two numbers, in brackets, as [18, 100]"]),
        ("consilium: 1", "consilium: 2", ["consilium: '2': must be 1"]),
        ("name: heart", "name: My heart", ["name: 'My heart': must hold small letters"]),
        (
            "label: {id: disease",
            "label: {id: the disease",
            ["'the disease': must begin with a letter, and hold nothing"],
        ),
        ("{kind: logistic,", "{kind: torch, architecture: mpl,", ["model.architecture", "no 'mpl'"]),
        ("{kind: logistic,", "{kind: mlp,", ["must be one of", "architecture: mlp"]),
        ("{kind: logistic,", "{kind: torch, architecture: mlp, hidden: [3],", ["write it in `options` of `model`"]),
        ("{kind: logistic,", "{kind: torch, architecture: mlp, options: {hidden: many},", ["model.options.hidden"]),
        (
            "{kind: logistic,",
            "{kind: torch, architecture: cnn, options: {shape: [1, 9]},",
            ["model.architecture", "takes"],
        ),
        ("{name: fedavg}", "{name: fedprox, options: {mu: -1}}", ["strategy.options.mu", "greater than or equal to 0"]),
        ("{name: fedavg}", "{name: fedprox, options: {nu: 1}}", ["strategy.options.nu", "not permitted"]),
        ("{name: fedavg}", "{name: fedadam, options: {learning_rate: high}}", ["strategy.options.learning_rate"]),
        ("{name: fedavg}", "{name: fedper, options: {layers: [head]}}", ["options.layers: none of", "called head"]),
        ("{name: fedavg}", "{name: fedrep, options: {layers: ['*', tail]}}", ["options.layers: none", "called tail"]),
        (
            "{kind: logistic,",
            f"{{kind: torch, architecture: a, wheel: 'sha256:{'ab' * 32}', options: {{a: [.nan]}},",
            ["model.options", "a.0 is no finite number"],
        ),
        ("{name: fedavg}", f"{{name: fedadam, options: {{learning_rate: {'9' * 400}}}}}", ["too large a number"]),
        ("min_patients: 10", f"min_patients: {'9' * 400}", ["less than or equal to 1000000000"]),
        ("{name: fedavg}", "{name: fedper, options: {layers: ['*']}}", ["options.layers: all of the model's parts"]),
        ("{name: fedavg}", "{name: fedbn}", ["strategy.options.layers: none", "called *norm* or *bn*"]),
    ],
)
def test_an_error_names_line_value_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, named: list[str]
) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    path = write(tmp_path, text)
    assert app.run(["study", "validate", str(path), "--json"]) == 5
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == "study-invalid"
    for word in named:
        assert word in f"{error['message']} {error.get('remedy')}", error
    assert re.match(r"study\.yaml:\d+: \S+: .{10}", error["message"]), error


@pytest.mark.parametrize("part", ["rounds: 0", "code: profit", "quorum: 2"])
def test_the_line_is_the_right_one(tmp_path: Path, part: str) -> None:
    key = part.split(":")[0]
    old = {"rounds": "rounds: 20", "code": "code: research", "quorum": "quorum: 3"}[key]
    text = GOOD.replace(old, part, 1)
    with pytest.raises(StudyInvalid, match=rf"study\.yaml:{line_of(text, part)}: "):
        studyfile.read(write(tmp_path, text))


def test_where_a_rule_over_several_keys_is_broken_the_line_to_correct_is_named(tmp_path: Path) -> None:
    for old, new, line in (
        ("sites: []", "sites: [a, b]", "quorum: 3"), ("sites: []", "sites: [a, a, b, b]", "sites: [a, a"),
        ("range: [50, 700]", "range: [700, 50]", "range: [700, 50]"),
        ("kind: logistic", "kind: poisson", "kind: poisson"),
    ):  # fmt: skip
        text = GOOD.replace(old, new, 1)
        with pytest.raises(StudyInvalid, match=rf"study\.yaml:{line_of(text, line)}: "):
            studyfile.read(write(tmp_path, text))


def test_plain_needs_no_quorum_for_sums(tmp_path: Path) -> None:
    text = GOOD.replace("recipe: secure_sum", "recipe: plain").replace("quorum: 3", "quorum: 1")
    assert studyfile.read(write(tmp_path, text)).privacy.recipe == "plain"
    assert studyfile.read(write(tmp_path, GOOD)).privacy.recipe == "secure_sum"
    assert studyfile.read(
        write(tmp_path, GOOD.replace("privacy:", "#", 1).replace("  recipe:", "#"))
    ) == studyfile.read(write(tmp_path, GOOD)), "secure_sum is what a study gets that says nothing"


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [1,\n", "a: 1\na: 2\n", "a: &x [*x]\n", "\x00"])
def test_what_is_no_study_at_all_is_refused_in_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(StudyInvalid):
        studyfile.read(write(tmp_path, text))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    assert app.run(["study", "validate", str(tmp_path / "none.yaml")]) == 2


@pytest.mark.parametrize("what", list(studyfile.SCHEMAS))
def test_schemas_are_json_schema(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["study", "schema", what]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].endswith("2020-12/schema") and schema["properties"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("text", ["", "null\n", "- a list\n", "a word\n"])
def test_a_file_that_is_no_mapping_is_told_so(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text(text)
    assert app.run(["study", "validate", str(tmp_path / "study.yaml")]) == 5
    assert "must hold `key: value` lines here" in capsys.readouterr().err


def test_a_study_is_utf_8_in_every_locale(tmp_path: Path) -> None:
    study = (tmp_path / "stüdy.yaml").absolute()
    study.write_text(studyfile.template().replace("Name, Institution", "Zoë, Universität"), encoding="utf-8")
    plain = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    program = "from consilium.console.cli.app import main; main()"
    command = [sys.executable, "-c", program, "study", "validate", "--json", study]
    plans = [subprocess.run(command, env=env, capture_output=True, check=True).stdout for env in (plain, os.environ)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("right", "wrong", "known"),
    [("kind: logistic", "kind: logistik", "linear, logistic"), ("name: fedavg", "name: fedbanana", "fedavg, ")],
)
def test_what_nobody_can_train_is_refused_by_line(
    right: str, wrong: str, known: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD.replace(right, wrong)
    assert text != GOOD and app.run(["study", "validate", str(write(tmp_path, text))]) == 5
    told = capsys.readouterr().err
    assert f"study.yaml:{line_of(text, wrong)}: " in told and known in told


VALUES = {"range", "typical", "below", "above", "edges", "codes", "spacing_mm", "bits", "folds", "version", *SCHEMAS}
"""Numbers that are values of patients, which may be of any size; or one of a few; or of a format."""


@pytest.mark.parametrize("what", SCHEMAS)
def test_every_number_that_people_write_has_a_least_one(what: str) -> None:
    """So that no limit, rate or count is negative; that none is nan or without end, their models see to."""

    def unbounded(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        kind = node.get("type") if isinstance(node, dict) else None
        if kind in ("number", "integer") and not {"minimum", "exclusiveMinimum"} & node.keys():
            yield path
        for name, inner in parts:
            yield from unbounded(inner, (*path, str(name)))

    found = list(unbounded(studyfile.json_schema(what), ()))
    left = [path for path in found if not {*VALUES, "consilium"} & set(path)]
    assert found and not left, left


@pytest.mark.parametrize("name", [name for name in plugins.names("consilium.strategies") if name not in EXACT])
def test_what_submit_refuses_of_noise_at_each_hospital_is_refused_by_line_before(name: str, tmp_path: Path) -> None:
    """`freeze` is what `submit` sends: a file that can be read is one that it takes, and the reverse."""
    asked = "{noise: at_each_hospital, epsilon: 8, delta: 1e-4, expected_patients: 100, noise_multiplier: 9}"
    options = {"fedper": ", options: {layers: [intercept]}", "fedrep": ", options: {layers: [intercept]}"}.get(name, "")
    text = re.sub(r"\nprivacy:\n(  .*\n)+", f"\nprivacy: {asked}\n", GOOD).replace(
        "{name: fedavg}", f"{{name: {name}{options}}}"
    )
    path, told = write(tmp_path, text.replace("rounds: 20", "rounds: 1")), []
    known = yamlfile.load
    for tried in (lambda: studyfile.read(path), lambda: freeze(known(path, Study, StudyInvalid))):
        try:
            tried()
            told.append("")
        except StudyInvalid as error:
            told.append(error.message)
    assert told[0].endswith(told[1]) and bool(told[0]) == bool(told[1]), told
    if name in ("ditto", "fedrep", "qfedavg", "afl", "ifca"):
        line = line_of(path.read_text(), f"{{name: {name}")
        assert told[0].startswith(f"study.yaml:{line}: strategy.name: {name} "), told


def test_a_sum_without_room_for_its_hospitals_is_refused_before_anybody_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 bits have room for fewer than 2^15 terms."""
    for quorum, code in ((30_000, 0), (40_000, 5)):
        text = GOOD.replace("# most_patients: 100000 ", "bits: 16 ").replace("quorum: 3 ", f"quorum: {quorum} ")
        assert app.run(["study", "validate", str(write(tmp_path, text))]) == code
    assert "16 bits are too few for 40000 sites" in capsys.readouterr().err


def test_every_unit_that_is_not_ucum_is_refused_by_line_with_how_to_write_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD.replace("unit: a  ", "unit: years  ").replace("unit: mg/dL", "unit: banana")
    text = text.replace("type: binary}", 'type: number, unit: "mg per dL", range: [0, 1]}').replace(
        "logistic", "linear"
    )
    assert app.run(["study", "validate", str(write(tmp_path, text)), "--json"]) == 5
    error = json.loads(capsys.readouterr().err)["error"]
    told = error["message"].splitlines()
    assert (error["code"], len(told)) == ("study-invalid", 3)
    places = ("features.0.unit", "years"), ("features.2.unit", "banana"), ("label.unit", "mg per dL")
    for line, (where, unit) in zip(told, places, strict=True):
        assert line.startswith(
            f"study.yaml:{line_of(text, unit)}: contract.{where}: {unit!r}: must be a UCUM unit; write "
        )
    assert told[0].endswith("; write a") and "such as mg/dL, mm[Hg]" in told[1]

"""Studies from a notebook: the same as the command line's, whichever way hospitals are given; choices see no test."""

import json
import re
import sys
import types
import webbrowser
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

from consilium import notebook, progress
from consilium.api import Federation, RemoteRun
from consilium.console.cli import app
from consilium.core.errors import Conflict, ConsiliumError, DataUnusable, Invalid, MappingInvalid, StudyInvalid
from consilium.core.study import Study
from consilium.documents.estimate import figures_of
from consilium.notebook.comparison import Way
from consilium.notebook.hospitals import of_tables
from consilium.notebook.studies import changed

pandas: Any = pytest.importorskip("pandas")

NUMBER = {"type": "number", "unit": "1", "range": [-4, 4], "missing": "forbidden"}
TOLD: dict[str, Any] = {
    "consilium": 1, "name": "sums", "title": "Sums",
    "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
    "contract": {
        "id": "sums",
        "features": [
            {"id": "x", "meaning": "x", **NUMBER}, {"id": "y", "meaning": "y", **NUMBER},
            {"id": "ward", "meaning": "ward", "type": "category", "categories": {"a": "first", "b": "second"}},
        ],
        "label": {"id": "large", "meaning": "the sum is large", "type": "binary"},
    },
    "model": {"kind": "logistic", "l2": 0.01}, "training": {"epochs": 3, "learning_rate": 2.0}, "rounds": 3,
    "quorum": 3, "privacy": {"recipe": "secure_sum", "clip": 4.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def study() -> Study:
    return notebook.load(TOLD)


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return {name: table(seed, 200) for seed, name in enumerate(("north", "south", "west"))}


def table(seed: int, patients: int) -> Any:
    rng = np.random.default_rng(seed)
    x, y = np.clip(rng.normal(size=(2, patients)), -4, 4)
    ward = rng.choice(np.array(["a", "b", None]), patients)
    large = (x + y + rng.normal(size=patients) > 0.3).astype(float)  # as pandas has a column that once had gaps
    names = [f"p{number}" for number in range(patients)]
    return pandas.DataFrame({"patient": names, "x": x, "y": y, "ward": ward, "large": large})


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    rounds = [{**one, "seconds": 0} for one in document["rounds"]]
    return json.loads(json.dumps({**document, "rounds": rounds}))


def test_tables_in_memory_are_those_on_file_and_of_the_command_line(
    study: Study, tables: dict[str, Any], tmp_path: Path
) -> None:
    mixed = {name: one if name == "north" else one.to_dict("list") for name, one in tables.items()}
    of_memory = notebook.simulate(study, mixed, partition="even", sites=4, seed=5)
    folder = notebook.write_hospitals(tmp_path / "hospitals", study, tables)
    (tmp_path / "study.yaml").write_text(json.dumps(TOLD))
    asked = ["simulate", str(tmp_path / "study.yaml"), "--hospitals", str(folder), "--partition", "even"]
    said = CliRunner().invoke(app.root, [*asked, "--sites", "4", "--seed", "5", "--json"])
    assert without_times(of_memory.document) == without_times(json.loads(said.stdout))
    assert of_memory.figures["all"]["auroc"]["value"] > 0.7 and len(of_memory.figures["sites"]) == 4


def test_values_arrive_as_the_table_has_them(study: Study, tables: dict[str, Any], tmp_path: Path) -> None:
    lines = (notebook.write_hospitals(tmp_path, study, tables) / "north" / "patients.csv").read_text().splitlines()
    first = tables["north"].iloc[0]
    assert lines[0] == "patient,x,y,ward,large" and len(lines) == 201
    name, x, y, _, large = lines[1].split(",")
    assert (name, float(x), float(y), large) == ("p0", first["x"], first["y"], str(int(first["large"])))
    assert {line.split(",")[3] for line in lines[1:]} == {"a", "b", ""}


def test_a_feature_that_the_contract_calls_patient_is_no_key(tmp_path: Path) -> None:
    features = [{**one, "id": "patient"} if one["id"] == "x" else one for one in TOLD["contract"]["features"]]
    study = notebook.load({**TOLD, "contract": {**TOLD["contract"], "features": features}})
    notebook.write_hospitals(tmp_path, study, {"north": {"patient": [1, 1], "y": [2, 3], "large": [1, 0]}})
    made = json.loads((tmp_path / "north" / "mapping.yaml").read_text())
    assert made["patient"] == {"row": True} and made["features"]["patient"]["column"] == "patient"


def test_a_table_without_a_label_or_of_unequal_columns_is_refused(study: Study) -> None:
    with pytest.raises(DataUnusable, match="north has no column large"):
        notebook.simulate(study, {"north": {"x": [1], "y": [2]}})
    with pytest.raises(DataUnusable, match="differ in length"):
        notebook.simulate(study, {"north": {"x": [1], "y": [2, 3], "large": [1]}})


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("St. Mary/West", "holds '/'"), ("../x", "holds '/'"), ("a\\b", "holds"), ("/tmp/x", "holds '/'"),
        ("", "is empty"), ("  ", "is empty"), (".", "begins with a dot"), ("..", "begins with a dot"),
        (".west", "begins with a dot"), ("a\nb", "holds"), ("w" * 201, "is longer than 200"),
    ],
)  # fmt: skip
def test_a_hospital_whose_name_is_none_for_a_folder_is_refused_before_anything_is_written(
    study: Study, tables: dict[str, Any], tmp_path: Path, name: str, why: str
) -> None:
    given = {**tables, name: tables["west"]}
    with pytest.raises(Invalid, match=f"cannot be the name of a hospital: it {why}") as error:
        notebook.write_hospitals(tmp_path / "made" / "hospitals", study, given)
    assert repr(name) in error.value.message and list(tmp_path.iterdir()) == []
    for hospitals in (given, {name: tmp_path / "mapping.yaml"}):  # a name is a part of names of files, there too
        with pytest.raises(Invalid, match="cannot be the name of a hospital"):
            notebook.simulate(study, hospitals)


def test_two_names_that_are_one_as_text_are_refused_and_names_in_any_script_are_taken(
    study: Study, tables: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="two hospitals have the name '1'"):
        notebook.simulate(study, {1: tables["north"], "1": tables["south"]})
    given = {"Krankenhaus Süd": tables["north"], "東": tables["south"], 3: tables["west"]}
    folder = notebook.write_hospitals(tmp_path, study, given)
    assert {path.name for path in folder.iterdir()} == {"Krankenhaus Süd", "東", "3"}


def test_patients_on_file_are_their_owners_alone_and_a_table_that_is_refused_leaves_none(
    study: Study, tables: dict[str, Any], tmp_path: Path
) -> None:
    folder = notebook.write_hospitals(tmp_path / "hospitals", study, tables)
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    with pytest.raises(DataUnusable):
        notebook.write_hospitals(tmp_path / "others", study, {**tables, "zurich": {"x": [1]}})
    assert not (tmp_path / "others").exists()


def test_an_error_of_a_table_in_memory_names_the_hospital_and_cites_no_file(
    study: Study, tables: dict[str, Any]
) -> None:
    twice = tables["west"].copy()
    twice["patient"] = "p1"
    for asked in ({**tables, "west": twice}, {"west": twice}):
        with pytest.raises(DataUnusable, match="more than one row") as error:
            notebook.simulate(study, asked)
        assert error.value.message.startswith("west: ") == (len(asked) > 1) and ".yaml" not in error.value.message
    said = MappingInvalid("west: mapping.yaml: features.x: what\nnorth: mapping.yaml:3: y: what\nwest: mapping.yaml: z")
    with pytest.raises(MappingInvalid) as told, of_tables(["west"]):
        raise said
    assert told.value.message == "west: features.x: what\nnorth: mapping.yaml:3: y: what\nwest: z"


def test_a_column_that_a_table_lacks_is_told_and_one_that_is_called_nearly_so_is_not_passed_over(
    study: Study, tables: dict[str, Any]
) -> None:
    """`ward` may be missing, `x` may not. A table without the column is one of a hospital that does not have it."""

    def asked(**names: str) -> dict[str, Any]:
        return {**tables, "west": tables["west"].rename(columns=names)}

    for names, message in (
        ({"ward": "Ward"}, "west has no column ward; there is one 'Ward'"),
        ({"ward": " WARD "}, "west has no column ward; there is one ' WARD '"),
        ({"patient": "Patient"}, "west has no column patient; there is one 'Patient'"),
        ({"large": "larg"}, "west has no column large; there is one 'larg'"),
        ({"x": "X"}, "west has no column x; there is one 'X'"),
        ({"x": "height"}, "west has no column x, and the contract does not allow a patient without it"),
    ):
        with pytest.raises(DataUnusable) as error:
            notebook.simulate(study, asked(**names))
        assert message in error.value.message
    with pytest.warns(UserWarning, match=r"^west has no ward\.$"):
        simulated = notebook.simulate(study, asked(ward="unit"))
    assert simulated.document["absent"] == {"west": ["ward"]} and simulated.notes == ["west has no ward."]
    assert repr(simulated).endswith("\nwest has no ward.")
    whole = notebook.simulate(study, tables)
    over = whole.figures["all"]["auroc"]
    assert repr(whole) == (
        f"sums: fedavg, 3 rounds, 3 sites. AUROC {over['value']:.3f} ({over['low']:.3f} to {over['high']:.3f}), "
        f"n = {over['n']}."
    )
    with pytest.raises(Invalid, match="fedavg fits no table"):
        whole.coefficients()
    assert whole.notes == [] and whole.document["absent"] == whole.document["blocked"] == {}


@pytest.mark.parametrize("codes", [("no", "yes"), (1, 2), (0.5, 1), (False, "True")])
def test_a_label_that_is_neither_0_nor_1_is_refused_by_the_name_of_its_column(
    study: Study, tables: dict[str, Any], codes: tuple[Any, Any]
) -> None:
    west = tables["west"].assign(large=tables["west"]["large"].map(dict(enumerate(codes))).astype(object))
    with pytest.raises(DataUnusable, match=r"west: in its column large \d+ values are neither 0 nor 1"):
        notebook.simulate(study, {**tables, "west": west})


def test_truth_values_and_numbers_that_may_lack_are_labels(
    study: Study, tables: dict[str, Any], tmp_path: Path
) -> None:
    whole = tables["west"]["large"]
    given = {
        "a": whole.astype(bool),
        "b": whole.astype("Int64").where(whole.index > 0),
        "c": whole.map("{:.0f}".format),
    }
    folder = notebook.write_hospitals(
        tmp_path, study, {name: tables["west"].assign(large=one) for name, one in given.items()}
    )
    first, *rest = {
        name: [line.rsplit(",", 1)[1] for line in (folder / name / "patients.csv").read_text().splitlines()[1:]]
        for name in given
    }.values()
    assert first == rest[1] and set(first) == {"0", "1"} and rest[0] == ["", *first[1:]]


@pytest.mark.parametrize("codes", [("pre", "post"), ("post", "pre")])
def test_a_term_is_against_the_category_whose_code_sorts_first_wherever_it_stands_in_the_file(
    study: Study, tables: dict[str, Any], codes: tuple[str, str]
) -> None:
    """Patients with `pre` have the outcome more often: its coefficient is above 0, against `post`."""
    feature = {"id": "meno", "meaning": "menopause", "type": "category", "categories": dict.fromkeys(codes, "some")}
    contract = {"features": [*TOLD["contract"]["features"][:2], feature]}
    asked = changed(study, {"contract": contract, "strategy": {"name": "newton"}, "rounds": 6, "model": {"l2": 0.0}})
    rows = {name: one.rename(columns={"ward": "meno"}) for name, one in tables.items()}
    for one in rows.values():
        one["meno"] = np.where(one["large"] + np.linspace(-1, 1, len(one)) > 0.5, "pre", "post")
    fit = (simulated := notebook.simulate(asked, rows)).regression
    assert asked.contract.references == {"meno": "post"} and fit is not None
    (term,) = [one for one in fit.terms if one.term == "meno=pre"]
    assert term.words == "meno pre, against post" and term.estimate is not None and term.estimate > 1
    frame = simulated.coefficients()
    assert list(frame.index) == [one.term for one in fit.terms] and frame.loc["meno=pre", "estimate"] == term.estimate
    assert (
        frame.loc["meno=pre", "ratio"] == pytest.approx(np.exp(term.estimate)) and frame.loc["intercept", "note"] == ""
    )


def test_a_comparison_does_not_see_who_is_held_out(study: Study, tables: dict[str, Any]) -> None:
    """Their outcomes are turned round: the comparison stays, and what is judged on them does not."""
    ways = {"one round": {"rounds": 1}}
    turned = {name: one.copy() for name, one in tables.items()}
    for name, one in turned.items():
        held = notebook_held_out(study, name, tables)
        assert 30 < held.sum() < 90
        one.loc[held, "large"] = 1 - one.loc[held, "large"]
    compared, after = (notebook.compare(study, of, ways) for of in (tables, turned))
    assert compared.tables()["figures"] == after.tables()["figures"] and len(after.tables()["figures"]) > 20
    judged = notebook.compare(study, turned, ways, held_out=True).rows()
    assert [row["value"] < 0.5 for row in judged] == [True] and compared.rows()[0]["value"] > 0.7


def notebook_held_out(study: Study, name: str, tables: dict[str, Any]) -> Any:
    from consilium.notebook.hospitals import mappings
    from consilium.simulation.patients import Patients

    with mappings(study, {name: tables[name]}) as known:
        return Patients.read(study, known).test


def test_ways_stand_side_by_side(study: Study, tables: dict[str, Any]) -> None:
    compared = notebook.compare(study, tables, {"few": {"rounds": 1}, "own": "ditto", "long <b>": {"rounds": 5}})
    frame = compared.frame("logloss")
    assert list(frame.index) == ["few", "own", "long <b>"] and list(frame["strategy"]) == ["fedavg", "ditto", "fedavg"]
    assert frame.loc["few", "value"] > frame.loc["long <b>", "value"]
    for way, row in frame.iterrows():
        of = {one["hospital"]: one["value"] for one in compared.tables()["figures"]
              if one["way"] == way and one["metric"] == "logloss"}  # fmt: skip
        single = {site: value for site, value in of.items() if site != "all"}
        assert (
            row["value"] == of["all"] and row["worst"] == max(single.values()) and row["best"] == min(single.values())
        )
        assert of[row["worst_hospital"]] == row["worst"]
    assert [one["hospital"] for one in compared.by_hospital()] == ["north", "south", "west", "all"]
    text = compared.text("logloss")
    assert repr(compared) == str(compared) == compared.text()
    assert "log loss, all" in text and "long <b>" in text and f"{frame.loc['few', 'value']:.3f}" in text
    assert "3 ways on a part of the training patients" in " ".join(text.split())
    assert "<td>" in compared._repr_html_() and "long &lt;b&gt;" in compared._repr_html_()
    assert compared.plot().svg().startswith("<svg xmlns=") and "few" in compared.plot(ways=["few"]).svg()
    with pytest.raises(Invalid, match="no figure concordance"):
        compared.rows("concordance")
    with pytest.raises(Invalid, match="was not compared"):
        compared.plot(ways=["fedprox"])


def test_text_of_a_table_shows_nothing_by_itself_in_a_notebook(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *what: shown.append(what))
    figures = {"all": figures_of({"auroc": {"value": 0.7, "low": 0.6, "high": 0.8, "n": 90}})}
    text = notebook.Comparison({"fedavg": Way(study, figures, 1.0)}, True).text()
    assert "fedavg" in text and "0.700 (0.600 to 0.800)" in text and shown == []


def test_hospitals_with_few_patients_of_a_class_are_not_compared(study: Study, tables: dict[str, Any]) -> None:
    rare = tables["west"].copy()
    rare["large"] = [number < 20 for number in range(len(rare))]
    compared = notebook.compare(study, {**tables, "west": rare}, {"fedavg": {"rounds": 1}})
    assert {one["hospital"]: one["fedavg"] is None for one in compared.by_hospital()} == {
        "north": False, "south": False, "west": True, "all": False,
    }  # fmt: skip
    assert "west" not in compared.rows()[0].values() and "too few" in str(compared)


@pytest.mark.parametrize(
    ("asked", "message", "remedy"),
    [
        ({"executor": "gpu"}, "executor: there is no 'gpu'", "choose one of inline"),
        ({"executor": None}, "executor: None is not a text", ""),
        ({"drop": 1.5}, "drop: 1.5 is not a number, from 0 to below 1", "give"), ({"drop": -1}, "drop: -1", ""),
        ({"drop": float("nan")}, "drop: nan", ""), ({"drop": "much"}, "drop: 'much'", ""),
        ({"seed": "abc"}, "seed: 'abc' is not a whole number, 0 or more", "give"), ({"seed": -1}, "seed: -1", ""),
        ({"seed": True}, "seed: True", ""), ({"workers": -3, "executor": "processes"}, "workers: -3", ""),
        ({"workers": 0}, "workers: 0 is not a whole number, 1 or more", ""), ({"sites": 2.5}, "sites: 2.5", ""),
        ({"least": -1}, "least: -1", ""), ({"patients": 0}, "patients: 0", ""), ({"gpus": -1}, "gpus: -1", ""),
        ({"slow": 0.2}, "slow: 0.2 is not a text", ""), ({"slow": "often"}, "`slow`: 'often'", "SHARE:SECONDS"),
        ({"partition": "natural:3"}, "takes no number", "write `partition='natural'`"),
        ({"partition": 3}, "partition: 3 is not a text", ""), ({"given": 5}, "given: 5 is not the path", ""),
        ({"given": "no.onnx"}, "given: there is no file no.onnx", "give the file of the model"),
        ({"gpus": 1}, "has no cluster and no GPUs", "choose `executor='ray'`"),
        ({"sites": 700}, "patients cannot give 700 sites", "draw more patients with `patients`"),
    ],
)  # fmt: skip
def test_an_argument_that_the_command_refuses_is_refused_in_words_of_the_api(
    study: Study, tables: dict[str, Any], asked: dict[str, Any], message: str, remedy: str
) -> None:
    with pytest.raises(ConsiliumError) as error:
        notebook.simulate(study, tables, **asked)
    assert message in error.value.message and remedy in error.value.remedy and "--" not in str(error.value)
    if "given" not in asked:
        with pytest.raises(ConsiliumError, match=re.escape(message)):
            notebook.compare(study, tables, ["fedavg"], **asked)


@pytest.mark.parametrize(
    ("hospitals", "message"),
    [
        ([1, 2], "something of type list"), (None, "something of type NoneType"), ({}, "hospitals: there is none"),
        ("nowhere", "there is no nowhere"), ({"north": [1, 2]}, "that of north is of type list, and no table"),
    ],
)  # fmt: skip
def test_what_are_no_hospitals_is_said(study: Study, hospitals: Any, message: str) -> None:
    for ask in (notebook.simulate, notebook.baseline):
        with pytest.raises(ConsiliumError, match=message) as error:
            ask(study, hospitals)
        assert error.value.remedy.startswith("give a folder of hospitals")


def test_an_impossible_way_is_named_and_no_other_error_stands_behind_it(study: Study, tables: dict[str, Any]) -> None:
    ways = {"longer": {"rounds": 5}, "mine": {"quorum": 0}}
    with pytest.raises(StudyInvalid, match=r"^mine: quorum") as error:
        notebook.compare(study, tables, ways)
    assert error.value.__suppress_context__ and error.value.__cause__ is None
    with pytest.raises(Conflict, match=r"^all four: 3 sites are simulated") as late:
        notebook.compare(study, tables, {"all four": {"quorum": 4}})
    assert "--" not in str(late.value)


def test_nothing_to_compare_and_a_way_that_is_not_possible_are_refused_before_training(
    study: Study, tables: dict[str, Any]
) -> None:
    with pytest.raises(Invalid, match="nothing to compare"):
        notebook.compare(study, tables, [])
    with pytest.raises(StudyInvalid, match="median looks at single updates"):
        notebook.compare(study, tables, ["fedavg", "median"])


def test_a_study_from_values_is_that_of_the_file(study: Study, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(json.dumps(TOLD, indent=1))
    assert notebook.load(tmp_path / "study.yaml") == notebook.load(str(tmp_path / "study.yaml")) == study
    with pytest.raises(StudyInvalid) as caught:
        notebook.load({**TOLD, "rounds": -1})
    assert caught.value.message.startswith("rounds: '-1'")


def test_changes_keep_what_they_do_not_name(study: Study) -> None:
    other = changed(study, {"privacy": {"clip": 2.0}, "rounds": 9, "strategy": {"name": "fedprox"}})
    assert (other.privacy.clip, other.privacy.recipe, other.rounds) == (2.0, "secure_sum", 9)
    again = changed(changed(study, {"strategy": {"name": "fedprox", "options": {"mu": 1.0}}}), "fedavg")
    assert (again.strategy.name, again.strategy.options) == ("fedavg", {}), "options belong to a strategy"
    assert changed(study, {}) == study
    none = study.model_copy(update={"gate": None})
    assert changed(none, {}) == changed(study, {"gate": "none"}) == none and changed(none, {"gate": {}}) == study
    with pytest.raises(StudyInvalid, match=r"gate: .* asks for no check"):
        changed(study, {"gate": None})


def test_a_report_is_written_opened_and_shown(
    study: Study, tables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated = notebook.simulate(study, tables)
    page = simulated.report(notebook.baseline(study, tables))
    assert {"own", "pooled", "federated"} == set(page.frames()["figures"]["model"])
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    whole = page.html()
    path = page.open(tmp_path / "report.html")
    assert opened == [path.as_uri()] and path.read_text() == whole == page.write(path).read_text()
    shown = page._repr_html_()
    assert shown.startswith("<iframe sandbox ") and shown.count("<") == 2, "the page stands in it as text"
    plots = page.plots()
    assert {"worth", "compared", "calibration", "calibration-2", "rounds"} <= plots.keys()
    for plot in plots.values():
        inside = plot.svg().replace(' xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif"', "", 1)
        assert inside in whole
    assert simulated.save(tmp_path / "model.safetensors").read_bytes() == simulated.found.model
    assert set(simulated.model()) == {"weights", "intercept"}


def test_a_bar_moves_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    handle = types.SimpleNamespace(update=shown.append)
    shell = types.SimpleNamespace(kernel=object())
    display = types.SimpleNamespace(display=lambda value, display_id: shown.append(value) or handle)
    ipython = types.SimpleNamespace(get_ipython=lambda: shell, display=display)
    monkeypatch.setitem(sys.modules, "IPython", cast(Any, ipython))
    monkeypatch.setitem(sys.modules, "IPython.display", cast(Any, display))
    with progress.bar("a <study>") as tell:
        tell(2, 5, "rounds")
    assert 'value="0"' in shown[0]._repr_html_() and 'value="2" max="5"' in shown[1]._repr_html_()
    assert "a &lt;study&gt;" in shown[1]._repr_html_() and repr(shown[1]) == "a <study>: 2 of 5 rounds"
    with progress.bar("hidden", shown=False) as tell:
        tell(1, 1, "")
    assert len(shown) == 2


def test_a_bar_is_drawn_in_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    with progress.bar("sums") as tell:
        tell(2, 5, "rounds")
    assert "2/5" in capsys.readouterr().err
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    monkeypatch.delenv("FORCE_COLOR")
    with progress.bar("sums") as tell:
        tell(2, 5, "rounds")
    assert capsys.readouterr().err == ""


def test_who_watches_a_run_sees_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that was cancelled is not over; with a function of one's own there is no bar."""
    closed = {"round": 1, "closed": True, "cancelled": False}
    again = [{"round": 2, "closed": True, "cancelled": True}, {"round": 2, "closed": False}]
    view = {"status": "running", "reason": "", "rounds": 3, "participation": [closed, *again]}
    told: list[Any] = []
    monkeypatch.setattr(RemoteRun, "views", lambda self: iter([view, view]))
    monkeypatch.setattr("consilium.progress._terminal", types.SimpleNamespace)
    monkeypatch.setattr("consilium.progress._notebook", lambda: lambda value, display_id: told.append(value) or Kept())

    class Kept:
        update = staticmethod(told.append)

    run = RemoteRun(cast(Federation, None), "sums-1")
    assert run.watch() is run
    assert [(one.done, one.total) for one in told] == [(0, 1), (1, 4), (1, 4)]
    seen: list[Any] = []
    run.watch(seen.append)
    assert seen == [view, view] and len(told) == 3

"""Make the page of the benchmarks from the JSON that they keep: `python bench/pages.py bench/results.json`."""

import json
import sys
from pathlib import Path
from statistics import fmean, stdev

import aims

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "benchmarks.md"
T_95 = {2: 12.706, 3: 4.303, 5: 2.776}
"""Of so many seeds: what a standard error is multiplied by."""
HEAD = """\
# Benchmarks

Measured by `make bench`, kept by `ARGS="--json bench/results.json"`, and put here by `bench/pages.py`. Coordinator,
sites and floors share one machine, so look at the ratios: absolute figures are those of that machine.

| Command | What it measures |
|---|---|
| `make bench` | rounds, many sites, secure rounds; it fails where an aim is missed; `ARGS=--many`: to 50 sites |
| `make bench-beside` | secure rounds beside Flower's |
| `make bench-dp` | training with differential privacy beside Opacus |
| `make bench-dp-accuracy` | what an epsilon costs in accuracy |
| `make bench-fhir` | views of FHIR resources beside sqlonfhir |
| `make bench-heterogeneity` | strategies over degrees of skew between hospitals |
| `make bench-flamby` | FLamby's hospitals by its recipe, and exactly; it fails where a criterion does not hold |
| `make bench-simulate` | simulated rounds of many sites beside pfl's and Flower's; it fails where its aim is missed |
| `make bench-heart` | federated, pooled and own models on real hospitals; it fails where its criterion does not hold |

"""
ROUND = """\
## One round with {sites} sites

The model goes down to {sites} sites over TLS, each adds a constant, it comes back, is summed and committed. Shipped
processes, default durability; the first round, in which processes start, stands apart. The *floor* moves and adds the
same bytes over bare TCP with TLS; the *durable floor* also hashes (SHA-256) and fsyncs them. Medians, with the least
and the most in brackets. {load}

| Model | Round | Floor | Durable floor | Round : durable floor | Beyond the floor | Aim | First round | Coordinator |
|---|---|---|---|---|---|---|---|---|
"""
SECURE = """\
## Secure aggregation

Masking on one core, in processor time of one thread, by {turns} turns: the median, and the least and the most in
brackets, for what shares the core still counts. The bare cipher (AES-256-CTR) {aes} GB/s; one mask laid on integers
of 16, 32 and 64 bits {mask_16}, {mask_32} and {mask_64} GB/s. What a site does with a whole float32 update among four
sites (encode, {masks} masks, hash) {cover:.2f} GB/s; the same without masks {without_masks:.2f} GB/s; four vectors
summed and opened {uncover:.2f} GB/s of update.

Rounds with {sites} sites, plain and secure by turns in one federation; the mean of the models is checked. The machine's
load was {load:.1f} when this began: above 1, others were at work on it, so look at the ratio.
{aim}

| Sites | Model | Plain round | Secure round | Secure : plain | Aim | Coordinator | Agent |
|---|---|---|---|---|---|---|---|
"""
ONE_PROCESS = """
Many sites in one process: the protocol's own work in processor time, by its messages and with files, without network,
training and journals; some sites leave after READY.

| Sites | Of them leave | Model | One site | The sum |
|---|---|---|---|---|
"""
BESIDE = """\
## Beside Flower's SecAgg+

Rounds of the same number of sites and bytes in one run (`make bench-beside`): ours with a process per site, TLS and
default durability; Flower {flower}'s in its simulator, without network, disk or TLS. All sites share this machine's
cores. Load while measured: {load:.1f}.

| Sites | Model | Ours, plain | Ours, secure | Flower, plain | Flower, secure | Flower : ours, secure | Flower's error |
|---|---|---|---|---|---|---|---|
"""
DP = """\
## Training with differential privacy

Patients per second of the processor, of steps that clip {expected} patients' gradients, add noise and move the model,
on one core: ours, without privacy (torch), and by Opacus in its fastest mode for the model, by turns in one run
(`make bench-dp`). First with batches that are drawn at once; then *as used*: with each one's own Poisson sampling,
which the guarantee needs, ours as a hospital trains, with noise in integers that is bound to what it hides. Speeds are
of the fastest turn; how many times as fast ours is, is of each turn, in which the machine is the same for both: the
median, the least and the most. Clipped gradients differ from Opacus's by at most
{apart:.0e} of the largest value. Our noise and samples are of AES-256-CTR in float64; Opacus's of torch's generator in
float32, which an adversary can predict.
Opacus gets images as its own example has them; with channels last in memory, which ours arranges for itself, its `ew`
was 1.1 times as fast. Load while measured: {load}.

*Products*: the matrix products that every step of dense layers makes, and nothing else. Nobody is faster on this core,
with privacy or without. So `wide-mlp`, whose products are large, cannot be five times as fast as Opacus, whatever is
done; nor can a network of convolutions be much faster than a step without privacy, which has the same convolutions.
*At most*: Opacus's time by that of the products, or of a step without privacy where there are convolutions.

| Model | Values | Products | No privacy | Ours | Opacus | Ratio | At most | Aim | Ours, *as used* | Opacus | Ratio |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""
FHIR = """\
## Views of FHIR resources

{resources:,} Observations in NDJSON become an Arrow table of {columns} columns by a ViewDefinition, on one core and in
processor time (`make bench-fhir`): reading and decoding included, by turns in processes of their own, the least of the
turns; sqlonfhir 0.0.2 with fhirpathpy on the same file. {same} The machine's load was {load:.1f} when this began: above
1, others were at work on it and on its caches, so look at the ratio.

| | Resources per second | Peak memory |
|---|---|---|
| Ours | {per_s:,} | {peak_mb:.0f} MB |
| Ours, {large:,} Observations | | {large_peak_mb:.0f} MB |
| JSON decoded, and nothing else | {decode_per_s:,} | |
| sqlonfhir | {peer_per_s:,} | {peer_peak_mb:.0f} MB |

Ours : sqlonfhir is {ratio:.0f}. Wanted are {wanted}.
"""
SKEW = """\
## Strategies where hospitals differ

Chest X-rays of one source (PneumoniaMNIST, 28 x 28) are dealt out to five hospitals with {patients} patients each,
half of them held out (`make bench-heterogeneity`). At degree 0 the hospitals are alike; at degree 1 pneumonia has a
prevalence of 10, 30, 50, 70 and 90 percent, and images are darker or brighter, and of less or more contrast, as by
other scanners. A convolutional network with batch normalisation, {rounds} rounds of one epoch, learning rate
{learning_rate:g}. The rate was chosen for `fedavg` at degree 0 on other seeds, and for no other strategy; options are
the defaults, but for what a name says. Means over {seeds} seeds, each of which deals anew, with half the width of the
95 % interval (Student's t). Figures are of the model that each hospital uses, over all hospitals' patients together: so
they judge, too, whether scores mean the same at all of them. *Worst*: the Brier score at the hospital where it is
worst. *Pooled* is training with all patients in one place, which has no hospitals of its own.

| Degree | Strategy | AUROC | Brier score | Worst |
|---|---|---|---|---|
"""
SCALE = """\
## Many sites

One round, with a load generator in place of the sites; the coordinator's peak anonymous memory.
{load}

| Sites | Model | Round | Coordinator's memory | Aim |
|---|---|---|---|---|
"""
SIMULATED = ("ours", "pfl", "flower", "inline")
SIMULATE = """\
## Simulated rounds of many sites

A logistic model of 13 features, 50 training patients a site, one step of all of them, all sites in each round, in one
run (`make bench-simulate`): ours with `--executor vectorised`, by turns with pfl {pfl}, which has its model in numpy;
then Flower {flower}'s simulator on Ray, and ours with `inline`, one site after the other. Ours goes through the
machine of a round, writes and hashes each state, and adds up what 5 more patients of each site say of the model (of
which figures are made where somebody looks); pfl and Flower only train. Models differ from ours by at most
{apart:.0e}. The first round of each is left out. *Processor*: pfl's time by ours of the processor, which others at work
on the machine stretch less. Our memory is that of the whole process at
its peak, patients and Python included; in brackets, before the run. {load}

| Sites | Ours | pfl | Flower | Faster peer : ours | Processor | Ours, inline | Our memory |
|---|---|---|---|---|---|---|---|
"""
ACCURACY = """\
## What an epsilon costs in accuracy

Wisconsin breast cancer, {patients} patients in {sites} hospitals, logistic regression, {rounds} rounds with all
patients, learning rate 2, gradients clipped to 1, delta {delta:g}; {splits} stratified splits, and on each the mean of
{repeats} runs. *D1*: hospitals share the noise within the secure sum, enough of it though one may collude, so that more
is there while all are honest (the second epsilon). *D2*: each adds all of it by itself. Features are scaled by typical
ranges of two digits that follow from the published table and are not charged; a study of real patients takes them from
elsewhere, such as reference ranges of laboratories. *Prototype*: one that scaled by means of the training patients.

| Epsilon | All honest | Noise | D1 accuracy | D1 AUROC | D2 accuracy | D2 AUROC | D1 - D2, paired | Prototype's D1 |
|---|---|---|---|---|---|---|---|---|
"""

FLAMBY = """\
## FLamby's Fed-Heart-Disease

Four hospitals, 740 patients, split, encoding, model and hyper-parameters as FLamby has them (`make bench-flamby`). Test
accuracy at 0.5, mean of five seeds and its 95% interval; beneath each, what FLamby published (Ogier du Terrail et al.,
NeurIPS 2022). The pooled test is scaled by all training patients there and the tests of the centres by their own, so
that centres and pooled do not add up. Nothing is chosen by test patients.

| Strategy | Pooled (254) | Cleveland (104) | Hungary (89) | Switzerland (16) | VA (45) | Pooled AUROC | Pooled Brier |
|---|---|---|---|---|---|---|---|
"""
FLAMBY_EXACT = """
The exact logistic regression (`newton`) of the same training patients, in secure sums, its numbers standardised by sums
over all (`prepare`), with 95% intervals of the test patients:

| Test | Patients | Accuracy | AUROC | Brier |
|---|---|---|---|---|
"""
FLAMBY_SPLITS = """
Coefficients differ from those of statsmodels on the pooled patients by at most {apart:.0e} of their size, on this split
and on {splits} more that were fixed beforehand. On those the paired difference to pooled training, in accuracy and in
AUROC, is {difference:g} in every one; mean accuracy {accuracy}, mean AUROC {auroc}.

| Criterion | |
|---|---|
"""


def _streams(found: dict) -> dict:
    """What was found, each spread in words."""
    told = {
        name: f"{of['median']:.1f} [{of['least']:.1f}-{of['most']:.1f}]" for name, of in found.items()
        if isinstance(of, dict)
    }  # fmt: skip
    return {**found, **told, "turns": found["aes"]["n"]}


def _masking(found: dict) -> str:
    missed = [one.of for one in aims.of_masking(found) if not one.holds]
    return f"Masks are to be laid at {aims.MASKING:.0f} GB/s at least: {'**missed**' if missed else 'holds'}."


def _seconds(found: dict) -> str:
    return f"{found['median']:.3g} s [{found['least']:.3g}, {found['most']:.3g}]"


def _load(told: dict) -> str:
    if "load" not in told:
        return "The machine's load was not kept."
    return f"The machine's load was {told['load']:.1f} when this began: above 1, others were at work on it."


def _machine(told: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(told["versions"].items()))
    return (
        f"\n{told['cpu']}, {told['cores']} cores, {told['memory_gb']} GB, {told['system']}, Python {told['python']}; "
        f"{versions}; {told['at']}.\n\n"
    )


def _accuracy(one: dict) -> str:
    asked = ["none", "-", "0"]
    if one["epsilon"] is not None:
        asked = [f"{one['epsilon']:g}", f"{one['all_honest']:.2f}", f"{one['noise']:.3f}"]
    cells = []
    for name in ("d1", "d2"):
        cells += [f"{one[name]['accuracy']:.4f} ± {one[name]['error']:.4f}", f"{one[name]['auroc']:.4f}"]
    apart = f"{one['d1_minus_d2']['mean']:+.4f} ± {one['d1_minus_d2']['error']:.4f}"
    return f"| {' | '.join([*asked, *cells, apart, format(one['wanted'], '.4f')])} |\n"


def _skew(one: dict) -> str:
    cells = [mean(one[what]) for what in ("auroc", "brier", "worst")]
    if one["strategy"] == "pooled":
        cells[-1] = "-"
    return f"| {one['degree']:g} | {one['strategy']} | {' | '.join(cells)} |\n"


def mean(values: list[float]) -> str:
    """Mean over seeds, and half the width of its interval."""
    if len(values) not in T_95:
        return f"{fmean(values):.3f}"
    return f"{fmean(values):.3f} ± {T_95[len(values)] * stdev(values) / len(values) ** 0.5:.3f}"


FLAMBY_NAMES = {
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "scaffold": "SCAFFOLD",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
}
FLAMBY_TESTS = {
    "pooled": "all",
    "cleveland": "Cleveland",
    "hungarian": "Hungary",
    "switzerland": "Switzerland",
    "va": "VA",
}


def _flamby(found: dict) -> str:
    text = FLAMBY
    for name, words in FLAMBY_NAMES.items():
        ours, theirs = found["rows"][name], found["published"]["fedavg" if name == "fedprox" else name]
        cells = [mean(ours[test]["accuracy"]) for test in FLAMBY_TESTS]
        cells += [mean(ours["pooled"][key]) for key in ("auroc", "brier")]
        text += f"| {words} | {' | '.join(cells)} |\n"
        text += f"| FLamby's | {' | '.join(mean(theirs[test]) for test in FLAMBY_TESTS)} | | |\n"
    text += FLAMBY_EXACT
    for test, words in FLAMBY_TESTS.items():
        one = found["exact"][test]
        cells = [_between(one[key]) for key in ("accuracy", "auroc", "brier")]
        text += f"| {words} | {one['accuracy']['n']} | {' | '.join(cells)} |\n"
    averages = {"accuracy": f"{fmean(found['accuracies']):.3f}", "auroc": f"{fmean(found['aurocs']):.3f}"}
    text += FLAMBY_SPLITS.format(**{**found, **averages})
    return text + "".join(
        f"| {what} | {'holds' if holds else '**missed**'} |\n" for what, holds in found["criteria"].items()
    )


def _between(figure: dict) -> str:
    """A figure with its interval, where it has one."""
    if figure["value"] is None:
        return figure["note"]
    ends = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.3f}{ends}"


def _simulate(found: dict) -> str:
    apart = max(value for one in found["cases"] for key, value in one.items() if key.endswith("_apart"))
    load = "Load while measured: " + ", ".join(f"{one['load']:.1f}" for one in found["cases"]) + "."
    text = SIMULATE.format(pfl=found["pfl"], flower=found["flower"], apart=apart, load=load)
    for one in found["cases"]:
        cells = {name: _seconds(one[f"{name}_s"]) if f"{name}_s" in one else "" for name in SIMULATED}
        spent = f"{one['pfl_processor_s']['median'] / one['ours_processor_s']['median']:.0f}" if cells["pfl"] else ""
        peers = [one[key]["median"] for key in ("pfl_s", "flower_s") if key in one]
        ratio = f"{min(peers) / one['ours_s']['median']:.0f}" if peers else ""
        if one["sites"] == aims.FASTER_AT:
            holds = min(peers) / one["ours_s"]["median"] >= aims.FASTER
            ratio += f", at least {aims.FASTER:.0f} wanted: {'holds' if holds else '**missed**'}"
        text += (
            f"| {one['sites']:,} | {cells['ours']} | {cells['pfl']} | {cells['flower']} | {ratio} | {spent} "
            f"| {cells['inline']} | {one['mb']:.0f} ({one['mb_before']:.0f}) MB |\n"
        )
    return text


def page(results: dict) -> str:
    """The page."""
    text = HEAD
    if "round" in results:
        text += ROUND.format(sites=results["round"]["sites"], load=_load(results["round"]))
        for one in results["round"]["sizes"]:
            own, floor, durable = one["round_s"], one["floor_s"], one["durable_floor_s"]
            aim = aims.of_round(one)
            text += (
                f"| {one['model_mb']:g} MB | {_seconds(own)} | {_seconds(floor)} | {_seconds(durable)} "
                f"| {own['median'] / durable['median']:.2f} | {1000 * (own['median'] - floor['median']):.0f} ms "
                f"| {aim.cell if aim else ''} | {one['first_round_s']:.1f} s | {one['coordinator_mb']:.0f} MB |\n"
            )
        text += _machine(results["round"]["machine"])
    if "secure" in results:
        found = results["secure"]
        text += SECURE.format(
            sites=found["sites"], load=found["load"], aim=_masking(found["masking"]), **_streams(found["masking"])
        )
        for one in (*found["sizes"], *found.get("many", ())):
            plain, secure, sites = one["plain_s"], one["secure_s"], one.get("sites", found["sites"])
            aim = aims.of_secure(one) if sites == found["sites"] else None
            text += (
                f"| {sites} | {one['model_mb']:g} MB | {_seconds(plain)} | {_seconds(secure)} "
                f"| {secure['median'] / plain['median']:.2f} | {aim.cell if aim else ''} "
                f"| {one['coordinator_mb']:.0f} MB | {one['agent_mb']:.0f} MB |\n"
            )
        text += ONE_PROCESS if found.get("one_process") else ""
        for one in found.get("one_process", ()):
            cells = f"{one['sites']} | {one['lost']} | {one['model_mb']:g} MB"
            text += f"| {cells} | {_seconds(one['site_s'])} | {_seconds(one['sum_s'])} |\n"
        text += _machine(found["machine"])
    if "beside" in results:
        found = results["beside"]
        text += BESIDE.format(**found)
        for one in found["cases"]:
            mine, theirs = one["ours_s"], one["flower_s"]
            times = " | ".join(_seconds(told[kind]) for told in (mine, theirs) for kind in ("plain", "secure"))
            ratio = theirs["secure"]["median"] / mine["secure"]["median"]
            text += f"| {one['sites']} | {one['model_mb']:g} MB | {times} | {ratio:.1f} | {one['flower_error']:.0e} |\n"
        text += _machine(found["machine"])
    if "dp" in results:
        found = results["dp"]
        apart = max(value for one in found["models"] for value in one["apart"].values())
        load = ", ".join(f"{one['load']:.1f}" for one in found["models"])
        text += DP.format(expected=found["expected"], apart=apart, load=load)
        for one in found["models"]:
            speed, mode, bare = one["per_s"], one["fastest"], one["products"]
            most, aim = (bare or speed["none"]) / speed[mode], aims.of_dp(one)
            drawn, own = (
                f"{of['median']:.1f} [{of['least']:.1f}-{of['most']:.1f}]" for of in (one["times"], one["times+"])
            )
            text += (
                f"| `{one['model']}` | {one['parameters']:,} | {f'{bare:,.0f}' if bare else ''} "
                f"| {speed['none']:,.0f} | {speed['ours']:,.0f} | {speed[mode]:,.0f} (`{mode}`) "
                f"| {drawn} | {most:.1f} | {aim.cell if aim else ''} | {speed['ours+']:,.0f} "
                f"| {speed[f'{mode}+']:,.0f} | {own} |\n"
            )
        text += _machine(found["machine"])
    if "dp_accuracy" in results:
        found = results["dp_accuracy"]
        text += ACCURACY.format(**found) + "".join(_accuracy(one) for one in found["rows"]) + _machine(found["machine"])
    if "heterogeneity" in results:
        found = results["heterogeneity"]
        text += SKEW.format(**found) + "".join(map(_skew, found["rows"])) + _machine(found["machine"])
    if "flamby_heart" in results:
        text += _flamby(results["flamby_heart"]) + _machine(results["flamby_heart"]["machine"])
    if "fhir" in results:
        found = results["fhir"]
        same = "Their rows are equal." if not found["differing"] else f"{found['differing']} of their rows differ."
        ratio, wanted = found["per_s"] / found["peer_per_s"], ", ".join(one.cell for one in aims.of_views(found))
        text += FHIR.format(same=same, ratio=ratio, wanted=wanted, **found) + _machine(found["machine"])
    if "simulate" in results:
        text += _simulate(results["simulate"]) + _machine(results["simulate"]["machine"])
    if "scale" in results:
        text += SCALE.format(load=_load(results["scale"]))
        for one in results["scale"]["rounds"]:
            text += (
                f"| {one['sites']} | {one['model_mb']:g} MB | {one['round_s']:.1f} s | {one['coordinator_mb']:.0f} MB "
                f"| {aims.of_scale(one).cell} |\n"
            )
        text += _machine(results["scale"]["machine"])
    return text.rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(Path(sys.argv[1]).read_text())))

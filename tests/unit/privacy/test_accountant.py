"""Epsilons against published values, against Opacus's and Google's accountants, and against laws of composition."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from consilium.core.errors import Invalid
from consilium.privacy.accountant import ORDERS, Sampled, Shares, calibrated, curve, epsilon, tight

PUBLISHED = [
    # noise, rate, steps, delta, epsilon by Renyi orders; TensorFlow Privacy's and Opacus's own tests
    (1.3, 150 / 60000, 6000, 1e-5, 0.7242234026109595),
    (1.0, 100 / 1e5, 30000, 1e-7, 1.4154988495444842),
    (1.5, 0.04, 2250, 1e-5, 7.32911117143),
]
TABLE = [
    # rate, noise, steps: epsilon at delta 1e-5 by privacy loss distributions, and by Renyi orders
    (0.0025, 1.3, 6000, 0.640111, 0.724223),
    (0.01, 1.1, 6000, 3.899771, 4.246599),
    (256 / 60000, 1.1, 14062, 2.381686, 2.596556),
    (1.0, 10.0, 100, 4.377178, 4.728507),
    (1.0, 5.0, 50, 6.572970, 7.077392),
]
BETWEEN = [
    # the same; here the least is at an order between integers, and the last is what the exact divergence gives
    (0.04, 1.5, 2250, 6.768787, 7.329335, 7.329111),
    (0.1, 1.0, 100, 7.046603, 7.903850, 7.899255),
    (0.2, 2.0, 200, 7.372283, 8.028470, 8.010305),
]
mechanisms = st.builds(
    Sampled, st.floats(0.5, 20), st.one_of(st.just(1.0), st.floats(1e-4, 0.9)), st.integers(0, 5000)
)  # fmt: skip


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "wanted"), PUBLISHED)
def test_renyi_curves_give_the_published_epsilons(
    noise: float, rate: float, steps: int, delta: float, wanted: float
) -> None:
    assert epsilon(curve(Sampled(noise, rate, steps)), delta) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("rate", "noise", "steps", "by_loss", "by_renyi"), TABLE)
def test_both_accountants_give_the_table(
    rate: float, noise: float, steps: int, by_loss: float, by_renyi: float
) -> None:
    event = Sampled(noise, rate, steps)
    assert tight(event, 1e-5) == pytest.approx(by_loss, abs=1e-4)
    assert epsilon(curve(event), 1e-5) == pytest.approx(by_renyi, abs=1e-4)


@pytest.mark.parametrize(("rate", "noise", "steps", "by_loss", "by_renyi", "exact"), BETWEEN)
def test_between_integer_orders_google_gives_the_table_and_ours_is_the_divergence_itself(
    rate: float, noise: float, steps: int, by_loss: float, by_renyi: float, exact: float
) -> None:
    """Google's series at such orders takes each binomial coefficient without its sign: a bound above the divergence.

    The table's figure is that of its accountant, as it comes, with its own orders. The integral is what is defined.
    """
    event = Sampled(noise, rate, steps)
    google = RdpAccountant()
    one = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
    google.compose(SelfComposedDpEvent(one, steps))
    bound, order = google.get_epsilon_and_optimal_order(1e-5)
    assert bound == pytest.approx(by_renyi, abs=1e-6) and not float(order).is_integer()
    assert epsilon(curve(event), 1e-5) == pytest.approx(exact, abs=1e-6) and exact < by_renyi
    assert tight(event, 1e-5) == pytest.approx(by_loss, abs=1e-4)
    at = int(np.argmin(np.abs(ORDERS - order)))
    parts = [(-15 * noise, 0), (0, 3), (3, 8), (8, 8 + 15 * noise)]

    def moment(x: float) -> float:
        ratio = math.log1p(rate * math.expm1((2 * x - 1) / (2 * noise**2)))
        return math.exp(order * ratio - x**2 / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))

    whole = sum(integrate.quad(moment, *part, epsabs=1e-14, epsrel=1e-12)[0] for part in parts)
    assert curve(event)[at] == pytest.approx(steps * math.log(whole) / (order - 1), rel=1e-8)


@given(mechanisms, mechanisms)
@settings(max_examples=40, deadline=None)
def test_curves_add_up_and_never_fall(one: Sampled, other: Sampled) -> None:
    both = curve(one) + curve(other)
    assert np.all(both >= curve(one)) and epsilon(both, 1e-5) >= epsilon(curve(one), 1e-5)
    assert np.all(np.diff(curve(one)) >= -1e-9 * np.maximum(1, curve(one)[1:])), "a divergence grows with its order"
    whole = curve(Sampled(one.noise, 1.0, one.steps))
    assert np.all(curve(one) <= whole + 1e-9 * np.maximum(1, whole)), "sampling never costs more than taking everybody"


@pytest.mark.parametrize("order", [2.0, 3.0, 7.0, 32.0])
def test_at_integer_orders_the_divergence_is_the_binomial_sum(order: float) -> None:
    noise, rate = 1.7, 0.03
    k = np.arange(int(order) + 1)
    logs = [
        math.log(math.comb(int(order), int(i))) + (order - i) * math.log1p(-rate) + i * math.log(rate)
        + i * (i - 1) / (2 * noise**2)
        for i in k
    ]  # fmt: skip
    wanted = float(np.logaddexp.reduce(logs)) / (order - 1)
    at = int(np.argmin(np.abs(ORDERS - order)))
    assert curve(Sampled(noise, rate, 1))[at] == pytest.approx(wanted, rel=1e-9)


def test_calibration_gives_the_least_noise() -> None:
    noise = calibrated(8.0, 1e-4, 1.0, 30, precision=1e-3)
    assert noise == pytest.approx(2.975, abs=0.01)
    assert tight(Sampled(noise, 1.0, 30), 1e-4) <= 8.0 < tight(Sampled(noise * 0.995, 1.0, 30), 1e-4)


def test_an_epsilon_that_no_noise_gives_is_refused_and_not_looked_for_without_end() -> None:
    """At the largest order a curve of no divergence at all has an epsilon above it."""
    with pytest.raises(Invalid, match=r"no noise gives epsilon 0\.005"):
        calibrated(0.005, 1e-5, 1.0, 1)
    assert 1e3 < calibrated(0.01, 1e-5, 1.0, 20, precision=0.5) < 1e6


@given(st.integers(1, 200), st.data())
def test_the_promised_noise_is_there_without_dropouts_and_liars(sites: int, data: st.DataObject) -> None:
    opening = data.draw(st.integers(1, sites))
    colluding = data.draw(st.integers(0, opening - 1))
    shares = Shares(sites, opening, colluding)
    honest = opening - colluding
    assert shares.of_one(3.0) * math.sqrt(honest) == pytest.approx(3.0)
    assert shares.of_all(3.0) >= 3.0 * (1 - 1e-12)


def test_rounded_shares_cost_what_kairouz_and_others_say() -> None:
    assert Shares(200, 1, 0).discrete(1.0) == pytest.approx(5.5e-4, rel=0.02)
    assert Shares(200, 1, 0).discrete(2.0) == pytest.approx(7.2e-17, rel=0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Sampled(0.0, 0.5, 1), lambda: Sampled(1.0, 0.0, 1), lambda: Sampled(1.0, 1.1, 1),
        lambda: Sampled(float("inf"), 1.0, 1), lambda: Sampled(1.0, 1.0, -1),
        lambda: epsilon(curve(Sampled(1, 1, 1)), 0.0),
        lambda: tight(Sampled(1.0, 1.0, 1), 1.0), lambda: calibrated(0.0, 1e-5, 1.0, 1), lambda: Shares(3, 3, 3),
        lambda: Shares(3, 4, 0),
    ],
)  # fmt: skip
def test_what_is_no_mechanism_is_refused(wrong: object) -> None:
    with pytest.raises(Invalid):
        wrong()  # type: ignore[operator]

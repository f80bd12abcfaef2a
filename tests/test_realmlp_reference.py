"""RealMLP's twin in NumPy repeats runs of the authors' own code: stored ones, and fresh ones where it is installed."""

import copy

import naive_tabular as tabular
import numpy as np
import pytest
import realmlp_reference as reference

NAMES = list(reference.CASES)
TD = [name for name in NAMES if "td_s" not in name]
REGRESSION = [name for name in NAMES if "regression" in name]


def fit(case):
    """(losses, parameters after the last step) of the twin."""
    p = copy.deepcopy(case.start)
    losses = tabular.fit(
        case.X, case.codes, case.Y, case.orders, case.batch_size, p, case.activation, case.loss, case.learning_rate,
        case.weight_decay, case.epsilon,
    )  # fmt: skip
    return losses, p


def check(case, float32=1e-4):
    """The twin's losses, parameters and outputs are those of the float64 run, its losses nearly those of float32."""
    losses, p = fit(case)
    np.testing.assert_allclose(losses, case.losses, rtol=1e-9)
    np.testing.assert_allclose(losses, case.losses32, rtol=float32)
    assert p.keys() == case.end.keys()
    for name in p:
        np.testing.assert_allclose(p[name], case.end[name], rtol=1e-6, atol=1e-7, err_msg=name)
    _, Zs, _ = tabular.forward(case.X_validation, case.codes_validation, p, case.activation)
    np.testing.assert_allclose(Zs[-1], case.outputs_validation, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_twin_repeats_the_stored_run(name):
    check(reference.load_case(name))


@pytest.mark.parametrize("kind", tabular.RATE_FACTORS)
def test_a_case_sees_each_kinds_rate(kind, monkeypatch):
    """A rate that is 1 % too high is no longer theirs."""
    case = reference.load_case("td_4_classes")
    monkeypatch.setitem(tabular.RATE_FACTORS, kind, 1.01 * tabular.RATE_FACTORS[kind])
    losses, _ = fit(case)
    assert np.max(np.abs(losses / case.losses - 1)) > 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_smooth_and_targets_standardised(name):
    case = reference.load_case(name)
    if name in REGRESSION:
        np.testing.assert_allclose([case.Y.mean(), case.Y.std()], [0, 1], atol=1e-6)
    else:
        K = case.Y.shape[1]
        np.testing.assert_allclose(case.Y, tabular.smooth(case.Y.argmax(axis=1), K), rtol=1e-12)


@pytest.mark.parametrize("name", TD)
def test_data_dependent_start(name):
    """Of the training rows, behind scale and embeddings: sums of standard deviation 1, biases minus what lies in them.

    The last layer too. The frequencies of embeddings are small, their projections within 1/4.
    """
    case = reference.load_case(name)
    p = case.start
    _, Zs, _ = tabular.forward(case.X, case.codes, p, case.activation)
    for i, Z in enumerate(Zs, start=1):
        np.testing.assert_allclose(Z.std(axis=0), 1, rtol=1e-5, err_msg=f"layer {i}")
        assert np.all((Z.min(axis=0) <= 0) & (Z.max(axis=0) >= 0)), i
    assert np.all(p["scale"] == 1) and np.all(p["blends_1"] == 1)
    drawn = tabular.draw_embeddings(np.random.RandomState(0), case.n_embedded, [reference.N_CODES + 1])
    for key, value in drawn.items():
        assert p[key].shape == value.shape
        np.testing.assert_allclose(p[key].std(), value.std(), rtol=0.3, err_msg=key)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TD])
def test_simple_start(name):
    """As the twin's: weights of N(0, 1 / fan_in), biases of N(0, 1), the last layer 0."""
    p = reference.load_case(name).start
    units = [len(p["scale"]), *(len(p[f"biases_{i}"]) for i in range(1, 5))]
    drawn = tabular.simple_start(np.random.RandomState(0), units)
    assert drawn.keys() == p.keys()
    for key in drawn:
        assert p[key].shape == drawn[key].shape
        if p[key].size:
            np.testing.assert_allclose(p[key].std(), drawn[key].std(), rtol=0.5, err_msg=key)


@pytest.mark.parametrize("name", REGRESSION)
def test_predictions_have_the_unit_of_the_targets(name):
    """TD clips them to the targets it was trained on; TD-S does not."""
    case = reference.load_case(name)
    expected = case.mean + case.std * case.outputs_validation
    if name in TD:
        expected = np.clip(expected, case.low, case.high)
    np.testing.assert_allclose(case.predictions, expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hidden, epochs", [(reference.HIDDEN, 20), ((256, 256, 256), 5)])
def test_twin_repeats_a_fresh_run(name, hidden, epochs):
    pytest.importorskip("pytabkit")
    check(reference.as_case(name, reference.stored_of(name, hidden, epochs)))

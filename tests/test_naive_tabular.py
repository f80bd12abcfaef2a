"""The plain NumPy twin of RealMLP keeps its promise: its gradients are derivatives, its starts are as described."""

import naive
import naive_tabular as tabular
import numpy as np
import pytest


def draw_case(activation, loss_name, n=12, seed=0):
    """(X, codes, Y, parameters, factors): two embedded numbers, two other columns, two columns of codes."""
    rng = np.random.RandomState(seed)
    X, codes = rng.normal(size=(n, 4)), np.c_[rng.randint(4, size=n), rng.randint(3, size=n)]
    K = 3 if loss_name == "soft_cross_entropy" else 1
    Y = tabular.smooth(rng.randint(K, size=n), K) if K > 1 else rng.normal(size=(n, 1))
    p = tabular.data_start(rng, X, codes, [5, 4, K], activation, 2, [4, 3])
    for name in p:
        p[name] += 0.3 * rng.normal(size=p[name].shape)
    return X, codes, Y, p, [naive.dropout_factors(0.4, n, units, 0, 0, layer) for layer, units in [(1, 5), (2, 4)]]


@pytest.mark.parametrize("parametric", [True, False])
@pytest.mark.parametrize("loss_name", ["soft_cross_entropy", "squared_error"])
@pytest.mark.parametrize("activation", ["selu", "mish"])
def test_gradients_are_derivatives(activation, loss_name, parametric):
    """Of each number of each kind of parameter, with dropout: central differences have an error of step^2."""
    X, codes, Y, p, factors = draw_case(activation, loss_name)
    if not parametric:
        p = {name: value for name, value in p.items() if tabular.kind(name) != "blends"}
    _, g = tabular.gradients(X, codes, Y, p, activation, loss_name, factors)
    step = 1e-6
    assert {tabular.kind(name) for name in g} == tabular.RATE_FACTORS.keys() - (set() if parametric else {"blends"})
    for name, value in p.items():
        for place in np.ndindex(value.shape):
            here, found = value[place], []
            for value[place] in here - step, here + step:
                found.append(tabular.gradients(X, codes, Y, p, activation, loss_name, factors)[0])
            value[place] = here
            np.testing.assert_allclose(g[name][place], (found[1] - found[0]) / (2 * step), atol=2e-8, err_msg=name)


def test_blends_of_one_are_the_activation_alone():
    X, codes, Y, p, _ = draw_case("mish", "squared_error")
    p["blends_1"][:] = p["blends_2"][:] = 1
    plain = {name: value for name, value in p.items() if tabular.kind(name) != "blends"}
    expected, found = (tabular.forward(X, codes, q, "mish")[1][-1] for q in (plain, p))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_scale_is_a_factor_of_the_rows_of_the_first_weights():
    X, codes, _, p, _ = draw_case("selu", "squared_error")
    merged = p | {"weights_1": p["scale"][:, None] * p["weights_1"], "scale": np.ones_like(p["scale"])}
    expected, found = (tabular.forward(X, codes, q, "selu")[1][-1] for q in (p, merged))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_adam_moves_weights_as_if_their_multiple_by_the_root_of_fan_in_were_the_parameter():
    """V = sqrt(fan_in) W, whose gradient is dW / sqrt(fan_in), moves by plain Adam; small gradients meet epsilon."""
    rng, fan_in = np.random.RandomState(0), 7
    W = rng.normal(size=(fan_in, 3))
    V = W * np.sqrt(fan_in)
    adam, m, v = tabular.Adam(), 0, 0
    for t in range(1, 6):
        g = 1e-8 * rng.normal(size=W.shape)
        adam.step({"weights_1": W}, {"weights_1": g}, 0.1, 0.02)
        m, v = 0.9 * m + 0.1 * g / np.sqrt(fan_in), 0.95 * v + 0.05 * g**2 / fan_in
        V *= 1 - 0.1 * 0.02
        V -= 0.1 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        np.testing.assert_allclose(W * np.sqrt(fan_in), V, rtol=1e-12)


def test_start_from_data():
    """Each unit's sums have a standard deviation of 1, its bias is minus something between their extremes."""
    rng = np.random.RandomState(1)
    X, codes = rng.normal(size=(200, 3)), rng.randint(10, size=(200, 1))
    p = tabular.data_start(rng, X, codes, [30, 20, 2], "mish", 2, [10])
    assert len(p["scale"]) == 2 * 4 + 1 + 8
    _, Zs, _ = tabular.forward(X, codes, p, "mish")
    for i, Z in enumerate(Zs, start=1):
        np.testing.assert_allclose(Z.std(axis=0), 1)
        assert np.all((Z.min(axis=0) <= 0) & (Z.max(axis=0) >= 0)), i


def test_simple_start():
    p = tabular.simple_start(np.random.RandomState(0), [400, 300, 200, 3])
    np.testing.assert_allclose([p[f"weights_{i}"].std() for i in (1, 2)], [400**-0.5, 300**-0.5], rtol=0.02)
    np.testing.assert_allclose([p[f"biases_{i}"].std() for i in (1, 2)], 1, rtol=0.15)
    assert not p["weights_3"].any() and not p["biases_3"].any()

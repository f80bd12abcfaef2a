"""The activations that scikit-learn does not have: mpmath's numbers and PyTorch's, f and f', down to the last digits.

That kernels use them as they should, others test: each row of the table by its twin and by finite differences.
"""

import functools

import mpmath
import naive
import numpy as np
import pytest
from helpers import dtypes
from hypothesis import given, settings
from hypothesis import strategies as st
from models import IN_ORDER, SMALL, TARGETS, X, make
from numba import njit

import fastmlp
from fastmlp.compiled import activations
from fastmlp.compiled.tile import lanes, lanes_of, load, pointer, store

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# ---- what is compared -------------------------------------------------------------------------------------------


def _elu(above, below):
    return (
        lambda z: above * z if z > 0 else below * mpmath.expm1(z),
        lambda z: above if z > 0 else below * mpmath.exp(z),
    )


def _logistic(z):
    return 1 / (1 + mpmath.exp(-z))


def _mish(z):
    n = mpmath.exp(z) * (mpmath.exp(z) + 2)
    return n / (n + 2)


def _times(S, slope):
    """z S(z) and its derivative."""
    return lambda z: z * S(z), lambda z: S(z) + z * slope(z)


with mpmath.workprec(200):
    SCALE, ALPHA = mpmath.mpf("1.0507009873554804934193349852946"), mpmath.mpf("1.6732632423543772848170429916717")
    SELU = SCALE, SCALE * ALPHA
# name: (f, f')
EXACT = {
    "leaky_relu": (lambda z: z if z > 0 else z / 100, lambda z: mpmath.mpf(1 if z > 0 else "0.01")),
    "elu": _elu(mpmath.mpf(1), mpmath.mpf(1)),
    "selu": _elu(*SELU),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), _logistic),
    "silu": _times(_logistic, lambda z: _logistic(z) * _logistic(-z)),
    "gelu": _times(mpmath.ncdf, mpmath.npdf),
    "mish": _times(_mish, lambda z: (1 - _mish(z) ** 2) * _logistic(z)),
}
# where f is least; on the left of it f comes back to 0, and what is asked there is exact to the digits of 1
LEAST = {"silu": -1.2784645427610738, "gelu": -0.7517915246935645, "mish": -1.1924312145153563}

each_activation = pytest.mark.parametrize("name", EXACT)


@functools.cache
def _compiled(name):
    f, slope = getattr(activations, name), getattr(activations, f"{name}_slope")

    @njit
    def run(x, y, d):
        for i in range(0, len(x), lanes(pointer(x))):
            z = load(pointer(x), i, 0, 1, 1)
            a = f(z)
            store(a, pointer(y), i, 0)
            store(slope(z, a), pointer(d), i, 0)

    return run


def apply(name, x):
    """f(x) and f'(x) of any number of numbers, through tiles of one vector."""
    padded = np.append(x, np.zeros(-len(x) % lanes_of(x.dtype), x.dtype))
    y, d = np.empty_like(padded), np.empty_like(padded)
    _compiled(name)(padded, y, d)
    return y[: len(x)], d[: len(x)]


def assert_exact(name, x, exact, exact_slopes, differences, slope_differences):
    """Functions that never fall: within 2 units in the last place, f' too. Others: 2.5 on the right, 2 of 1 on the
    left.

    Their derivatives, which have zeros: 2 of 1, which is `eps`.
    """
    eps = np.finfo(x.dtype).eps
    units = np.spacing(np.abs(exact).astype(x.dtype)).astype(float)
    slope_units = np.spacing(np.abs(exact_slopes).astype(x.dtype)).astype(float)
    limits = np.full(len(x), 2.0)
    if name in LEAST:
        limits = np.where(x > LEAST[name], 2.5, 2.0)
        units, slope_units = np.where(x > LEAST[name], units, eps), eps
    for what, errors in ("f", differences / units / limits), ("f'", slope_differences / slope_units / 2):
        worst = np.argmax(errors)
        assert errors[worst] <= 1, f"{what}({x[worst]!r}) is {errors[worst]} times as far off as it may be"


# ---- accuracy ---------------------------------------------------------------------------------------------------


@each_activation
def test_float32(name):
    """Every 9973rd of all float32, and two hundred thousand where the functions bend."""
    x = np.arange(0, 2**32, 9973, dtype=np.uint32).view(np.float32)
    rng = np.random.RandomState(0)
    x = np.concatenate([x[np.abs(x) < 3e38], rng.uniform(-2, 2, 10**5), rng.uniform(-20, 20, 10**5)]).astype(np.float32)
    y, d = apply(name, x)
    z = x.astype(float)
    with np.errstate(over="ignore", under="ignore"):
        exact = naive.ACTIVATIONS[name](z)
        slopes = naive.DERIVATIVES[name](z, exact)
        assert_exact(name, x, exact, slopes, np.abs(y - exact), np.abs(d - slopes))


@each_activation
def test_float64(name):
    """Some thousand numbers of all magnitudes."""
    rng = np.random.RandomState(0)
    small = rng.choice([-1, 1], 500) * 2.0 ** rng.uniform(-1074, 3, 500)
    x = np.concatenate([small, *(rng.uniform(-end, end, 1500) for end in (1.3, 8, 40)), rng.uniform(-760, 760, 300)])
    y, d = apply(name, x)
    with mpmath.workprec(200):
        z = [mpmath.mpf(value) for value in x.tolist()]
        exact, slopes = ([function(value) for value in z] for function in EXACT[name])
        errors, slope_errors = (
            np.array([float(abs(ours - theirs)) for ours, theirs in zip(found.tolist(), expected, strict=True)])
            for found, expected in ((y, exact), (d, slopes))
        )
    assert_exact(name, x, np.array(exact, float), np.array(slopes, float), errors, slope_errors)


@dtypes
@each_activation
def test_far_away(name, dtype):
    """Finite where z is and f can be, and at infinity what f and f' come to; NaN stays."""
    slopes = (0.01 if name == "leaky_relu" else 0.0, float(SCALE) if name == "selu" else 1.0)
    for value in (1e3, 1e30, np.finfo(dtype).max / 2, np.inf):
        y, d = apply(name, np.array([-value, value], dtype))
        below = {"leaky_relu": -0.01 * value, "elu": -1.0, "selu": -float(SELU[1])}.get(name, 0.0)
        np.testing.assert_allclose(y, np.array([below, slopes[1] * value], dtype), rtol=3e-7, atol=1e-30)
        np.testing.assert_allclose(d, np.array(slopes, dtype), rtol=3e-7, atol=1e-30)
    y, d = apply(name, np.array([0.0, -0.0, np.nan], dtype))
    at_zero, slope_at_zero = (float(function(mpmath.mpf(0))) for function in EXACT[name])
    np.testing.assert_allclose(y, [at_zero, at_zero, np.nan], rtol=np.finfo(dtype).eps)
    np.testing.assert_allclose(d[:2], slope_at_zero, rtol=np.finfo(dtype).eps)


@dtypes
@each_activation
def test_any_finite_number(name, dtype):
    """Has a finite slope, and a value that is no NaN and not below the least one."""
    bits = np.dtype(dtype).itemsize * 8
    least = apply(name, np.array([LEAST.get(name, -1e4)], dtype))[0][0]

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.floats(width=bits, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
    def check(numbers):
        x = np.array(numbers, dtype)
        y, d = apply(name, x)
        assert np.isfinite(d).all() and not np.isnan(y).any()
        assert np.all((y >= least - 2 * np.finfo(dtype).eps) | (x < -1e4))

    check()


# ---- PyTorch ----------------------------------------------------------------------------------------------------

POINTS = [
    -30, -12.5, -6, -3.25, -2, -1.5, -1.25, -1, -0.75, -0.5, -0.1, -1e-3, 0, 1e-3, 0.1, 0.5, 1, 1.5, 2.5, 4, 9, 25.0
]  # fmt: skip
# f and f' at these points: PyTorch 2.13's
BY_TORCH = {
    "leaky_relu": (
        [
            -0.3, -0.125, -0.06, -0.0325, -0.02, -0.015, -0.0125, -0.01, -0.0075, -0.005, -0.001, -1e-05, 0,
            0.001, 0.1, 0.5, 1, 1.5, 2.5, 4, 9, 25,
        ],
        [
            0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 1, 1, 1, 1, 1, 1,
            1, 1, 1,
        ],
    ),
    "elu": (
        [
            -1, -0.99999627335, -0.99752124782, -0.96122579217, -0.86466471676, -0.77686983985,
            -0.71349520314, -0.63212055883, -0.52763344726, -0.39346934029, -0.095162581964,
            -0.00099950016663, 0, 0.001, 0.1, 0.5, 1, 1.5, 2.5, 4, 9, 25,
        ],
        [
            9.3576229688e-14, 3.7266531721e-06, 0.0024787521767, 0.038774207832, 0.13533528324,
            0.22313016015, 0.28650479686, 0.36787944117, 0.47236655274, 0.60653065971, 0.90483741804,
            0.99900049983, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        ],
    ),
    "selu": (
        [
            -1.7580993408, -1.758092789, -1.7537414483, -1.6899304316, -1.5201664686, -1.3658143534,
            -1.2543954463, -1.1113307378, -0.92763201584, -0.6917581878, -0.16730527262, -0.0017572205841,
            0, 0.0010507009874, 0.10507009874, 0.52535049368, 1.0507009874, 1.576051481, 2.6267524684,
            4.2028039494, 9.4563088862, 26.267524684,
        ],
        [
            1.6451630773e-13, 6.5518264854e-06, 0.0043578925679, 0.068168909231, 0.23793287225,
            0.39228498748, 0.50370389451, 0.64676860303, 0.83046732501, 1.066341153, 1.5907940682,
            1.7563421203, 1.7580993408, 1.0507009874, 1.0507009874, 1.0507009874, 1.0507009874,
            1.0507009874, 1.0507009874, 1.0507009874, 1.0507009874, 1.0507009874,
        ],
    ),
    "softplus": (
        [
            9.3576229688e-14, 3.7266462281e-06, 0.0024756851377, 0.038041371688, 0.12692801104,
            0.20141327798, 0.25192908135, 0.31326168752, 0.38687100611, 0.47407698418, 0.64439666007,
            0.69264730556, 0.69314718056, 0.69364730556, 0.74439666007, 0.97407698418, 1.3132616875,
            1.701413278, 2.5788897343, 4.0181499279, 9.0001234022, 25,
        ],
        [
            9.3576229688e-14, 3.7266392842e-06, 0.0024726231566, 0.037326887344, 0.11920292202,
            0.18242552381, 0.22270013883, 0.26894142137, 0.32082130082, 0.3775406688, 0.47502081252,
            0.49975000002, 0.5, 0.50024999998, 0.52497918748, 0.6224593312, 0.73105857863, 0.81757447619,
            0.92414181998, 0.98201379004, 0.99987660542, 0.99999999999,
        ],
    ),
    "silu": (
        [
            -2.8072868907e-12, -4.6582991052e-05, -0.01483573894, -0.12131238387, -0.23840584404,
            -0.27363828571, -0.27837517353, -0.26894142137, -0.24061597562, -0.1887703344, -0.047502081252,
            -0.00049975000002, 0, 0.00050024999998, 0.052497918748, 0.3112296656, 0.73105857863,
            1.2263617143, 2.3103545499, 3.9280551602, 8.9988894488, 25,
        ],
        [
            -2.713710661e-12, -4.285617817e-05, -0.012326432592, -0.079457282838, -0.090784248785,
            -0.041294154299, 0.0063191550847, 0.072329488129, 0.1574000555, 0.2600388127, 0.4500832085,
            0.49950000008, 0.5, 0.50049999992, 0.5499167915, 0.7399611873, 0.92767051187, 1.0412941543,
            1.0994011113, 1.0526646149, 1.0009870196, 1.0000000003,
        ],
    ),
    "gelu": (
        [
            -0, -0, -5.9195258695e-09, -0.0018753313878, -0.045500263896, -0.1002108019, -0.13206221708,
            -0.15865525393, -0.16997051428, -0.15426876936, -0.046017216272, -0.00049960105779, 0,
            0.00050039894221, 0.053982783728, 0.34573123064, 0.84134474607, 1.3997891981, 2.4844758367,
            3.999873315, 9, 25,
        ],
        [
            -4.4209384046e-195, -5.8689941975e-34, -3.5468709454e-08, -0.0060173811438, -0.085231801078,
            -0.12746919223, -0.12266158307, -0.083315470588, 0.00077427826076, 0.13250487534, 0.42047690798,
            0.49920211571, 0.5, 0.50079788429, 0.57952309202, 0.86749512466, 1.0833154706, 1.1274691922,
            1.0376110859, 1.0005036497, 1, 1,
        ],
    ),
    "mish": (
        [
            -2.8072868907e-12, -4.6583077851e-05, -0.014854080479, -0.12357485345, -0.2525014827,
            -0.29809974217, -0.30841396114, -0.30340146137, -0.27649471451, -0.22074377465, -0.056788575213,
            -0.00059967998405, 0, 0.00060031998395, 0.063179417491, 0.3752452113, 0.86509838827,
            1.4033782664, 2.4713923046, 3.997412807, 8.9999997259, 25,
        ],
        [
            -2.713710661e-12, -4.2856344824e-05, -0.012359967932, -0.083113964543, -0.10835509242,
            -0.064097815892, -0.014697562473, 0.059216755877, 0.1607457405, 0.28951067791, 0.53570281787,
            0.59935995218, 0.6, 0.60063995182, 0.66333682075, 0.88642437536, 1.0490362201, 1.088487985,
            1.0411295301, 1.0044328769, 1.0000005176, 1,
        ],
    ),
}  # fmt: skip


def torchs(name):
    """PyTorch's function of this name; softplus as it is without its threshold."""
    import torch

    function = getattr(torch.nn.functional, name)
    return functools.partial(function, threshold=1000.0) if name == "softplus" else function


@each_activation
def test_numbers_of_pytorch(name):
    """In float64 f and f' are PyTorch's, at a kink as well."""
    for found, expected in zip(apply(name, np.array(POINTS, float)), BY_TORCH[name], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@each_activation
def test_pytorch_gives_these_numbers(name):
    """Where it is installed."""
    torch = pytest.importorskip("torch")
    z = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    y = torchs(name)(z)
    y.sum().backward()
    for found, expected in zip((y.detach(), z.grad), BY_TORCH[name], strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-10)


# All weights, then all biases, of `train_torch`: PyTorch 2.13's.
TRAINED_BY_TORCH = {
    "gelu": [
        -1.122340349197, 0.833758026307, 0.170618531429, -0.709526352262, -0.559885948949, 0.245875221934,
        -0.923604460505, 0.772520378104, 0.014327342385, 0.048031197780, 0.621136092524, 0.362728640516,
        -0.419817138703,
    ],
    "mish": [
        -1.120311856543, 0.837159868660, 0.181278944122, -0.825750148231, -0.588156085536, 0.257665221502,
        -0.916429284155, 0.759480828715, -0.008724907215, -0.068934772714, 0.543275604948, 0.402975082402,
        -0.443643925938,
    ],
}  # fmt: skip

TWO, y = X[:, :2], TARGETS["MLPRegressor"]
TRAINING = {"hidden_layer_sizes": (3,), "max_iter": 20, "n_iter_no_change": 20, "learning_rate_init": 0.05}
TRAINING |= {"alpha": 0.0, "epsilon": 1e-15}


def train_torch(activation):
    """What PyTorch learns in 20 epochs of three batches with Adam."""
    import torch

    network = fastmlp.MLP([2, 3, 1], dtype=np.float64)
    network.initialize(np.random.RandomState(SMALL["random_state"]))
    weights, biases = (
        [torch.tensor(array, requires_grad=True) for array in arrays] for arrays in (network.weights, network.biases)
    )
    optimizer = torch.optim.Adam(weights + biases, TRAINING["learning_rate_init"], eps=TRAINING["epsilon"])
    for start in [0, 10, 20] * TRAINING["max_iter"]:
        rows, targets = torch.tensor(TWO[start : start + 10]), torch.tensor(y[start : start + 10])
        hidden = torchs(activation)(rows @ weights[0] + biases[0])
        optimizer.zero_grad()
        (torch.nn.functional.mse_loss((hidden @ weights[1] + biases[1]).ravel(), targets) / 2).backward()
        optimizer.step()
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in weights + biases])


@pytest.mark.parametrize("activation", TRAINED_BY_TORCH)
def test_training_is_pytorchs(activation):
    """Twenty epochs lead to the same weights."""
    model = make("MLPRegressor", activation=activation, **TRAINING, **IN_ORDER).fit(TWO, y)
    learnt = np.concatenate([parameter.ravel() for parameter in model.coefs_ + model.intercepts_])
    np.testing.assert_allclose(learnt, TRAINED_BY_TORCH[activation], rtol=0, atol=1e-9)


@pytest.mark.parametrize("activation", TRAINED_BY_TORCH)
def test_pytorch_learns_these_numbers(activation):
    """Where it is installed."""
    pytest.importorskip("torch")
    np.testing.assert_allclose(train_torch(activation), TRAINED_BY_TORCH[activation], rtol=0, atol=1e-9)

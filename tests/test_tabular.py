"""Networks for tables: embedded numbers and categories, factors of inputs, parametric activations, beside their twin.

Where the twin is RealMLP's, runs of its authors' own code are repeated, too.
"""

import copy
import pickle

import naive
import naive_tabular
import numba
import numpy as np
import pytest
import realmlp_reference
from helpers import DTYPES, dtypes, run_code
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import LAYOUTS, NEAR, TabularTwin, assert_near, set_tabular_parameters, steady, tabular_parameters

import fastmlp.network
from fastmlp import _threads, recipe
from fastmlp._panels import Tabular
from fastmlp.compiled.activations import HIDDEN
from fastmlp.compiled.records import TABLES
from fastmlp.compiled.updates import RULES
from fastmlp.network import MLP
from fastmlp.optimizers import SGD, Adam

PARAMETRIC = [name for name, row in HIDDEN.items() if row.blend is not None]
ALL = Tabular(True, True, 3, (4, 12))

# name: (tabular, columns as they are, hidden layers, rows, batch size)
CASES = {
    "factors": (Tabular(True), 7, (13, 9), 37, 16),
    "parametric": (Tabular(parametric=True), 7, (13, 9), 37, 16),
    "numbers": (Tabular(numbers=3), 2, (13, 9), 37, 16),
    "categories": (Tabular(categories=(4, 7)), 2, (13, 9), 37, 16),
    "all of it": (ALL, 3, (13, 9), 37, 16),
    "numbers alone": (Tabular(True, True, 3), 0, (13, 9), 37, 37),
    "one number": (Tabular(True, True, 1), 0, (5,), 21, 8),
    "one category": (Tabular(True, True, 0, (1,)), 0, (5,), 21, 8),
    "one column": (Tabular(True), 1, (5,), 21, 8),
    "no hidden layer": (Tabular(True, False, 2, (3,)), 1, (), 21, 8),
    "one unit": (ALL, 1, (1, 2), 21, 8),
    "few units": (ALL, 1, (4, 5, 3), 45, 20),
    "vectors": (ALL, 1, (15, 16, 17), 45, 20),
    "panels": (ALL, 0, (31, 32, 33), 45, 20),
    "an input of several panels": (Tabular(True, True, 12, (9, 3)), 21, (20, 5), 45, 20),
    "factors of several panels": (Tabular(True), 70, (40, 5), 45, 20),
    "one row": (ALL, 3, (13, 9), 1, 1),
    "batches of a row": (ALL, 3, (13, 9), 7, 1),
    "tables around 64": (Tabular(True, False, 0, (62, 63, 64, 200)), 1, (9,), 300, 150),
    "groups": (ALL, 3, (5, 5), 900, 450),
    "groups, parametric": (Tabular(parametric=True), 40, (5, 5), 900, 900),
    "by layers": (ALL, 3, (200, 150), 30, 12),
    "by layers, factors": (Tabular(True), 40, (200, 150), 30, 12),
}  # fmt: skip
cases = pytest.mark.parametrize("case", CASES)
FROM_RULE = {"learning_rate_init": 0.02, "beta_2": 0.95, "epsilon": 1e-2, "epsilon_inside": True, "fan_in": True}


@pytest.fixture
def parallel(monkeypatch):
    monkeypatch.setattr(fastmlp.network, "_TRAIN_IN_PARALLEL", 0)


def make(tabular, plain, hidden, dtype=np.float64, activation="mish", outputs=3, dropout=0.0, seed=0):
    """A network with parameters of all kinds away from where they start; regression if it has one output or two."""
    units = plain + 4 * tabular.numbers + 8 * len(tabular.categories)
    output, loss = ("softmax", "soft_cross_entropy") if outputs > 2 else ("identity", "squared_error")
    layers = [units, *hidden, outputs]
    network, rng = (
        MLP(layers, activation, output, dtype, False, loss, 1.0, dropout, tabular),
        np.random.RandomState(seed),
    )
    network.initialize(rng)
    for array in network.panels.arrays_beside(network.parameters):
        array[:] = 0.5 + 0.4 * rng.normal(size=array.shape)
    return network


def draw(network, n, seed=1):
    """X and Y."""
    rng, counts = np.random.RandomState(seed), network.tabular.categories
    X = rng.normal(size=(n, network.columns))
    for j, count in enumerate(counts, start=network.columns - len(counts)):
        X[:, j] = rng.randint(count + 1, size=n)
    outputs = network.layer_units[-1]
    softmax = network.activations[-1] == "softmax"
    return X, rng.dirichlet(np.ones(outputs), n) if softmax else rng.normal(size=(n, outputs))


def bits(network):
    return b"".join(
        array.tobytes()
        for array in [*network.weights, *network.biases, *network.panels.arrays_beside(network.parameters)]
    )


def gradients(network, data):
    """Loss and all gradients, as `naive_tabular` has them."""
    flat, theirs = network.panels.moments(), copy.deepcopy(network)
    order = np.arange(data.n_samples)
    loss = network._epoch(data, order, len(order), RULES["gradient"], alpha=0.0, moments=[flat, flat[:0]])
    theirs.parameters = flat
    g = tabular_parameters(theirs)
    return loss, g


def assert_parameters(found, expected, dtype, scaled=True, **tolerances):
    """By name; perhaps but for factors of inputs, which are not there."""
    assert found.keys() == expected.keys()
    tolerances = NEAR[dtype] | tolerances
    for name in found.keys() - (set() if scaled else {"scale"}):
        np.testing.assert_allclose(found[name], expected[name], **tolerances, err_msg=name)


def realmlps(weight_decay=0.0):
    """The twin's step with `recipe.FACTORS`."""
    adam = naive_tabular.Adam(epsilon=1e-2)
    return lambda p, g: adam.step(p, g, 0.02, weight_decay)


# ---- the authors' numbers ----


def network_of(case, dtype):
    p = case.start
    layers = sum(name.startswith("weights") for name in p)
    counts = tuple(len(p[f"embedding_{i + 1}"]) - 1 for i in range(case.codes.shape[1]))
    tabular = Tabular(True, "blends_1" in p, case.n_embedded, counts)
    units = [len(p["scale"]), *(len(p[f"biases_{i}"]) for i in range(1, layers + 1))]
    output = "softmax" if case.loss == "soft_cross_entropy" else "identity"
    network = MLP(units, case.activation, output, dtype, loss=case.loss, tabular=tabular)
    set_tabular_parameters(network, p)
    return network


@dtypes
@pytest.mark.parametrize("name", realmlp_reference.CASES)
def test_runs_of_the_authors(name, dtype):
    """Losses, parameters at the end and outputs of validation rows; those of a network without factors too."""
    case = realmlp_reference.load_case(name)
    network, per_epoch = network_of(case, dtype), len(case.X) // case.batch_size
    data = network.data(np.hstack([case.X, case.codes]), case.Y)
    own = recipe.Recipe(
        case.activation, case.learning_rate, 0.0, case.weight_decay, True, True, True, max_iter=len(case.orders)
    )
    optimizer = recipe.make_optimizer(network, own)
    whole = per_epoch * case.batch_size
    losses = [network.train_epoch(data, optimizer, case.batch_size, 0.0, order[:whole]) for order in case.orders]
    exact = dtype == np.float64
    expected = case.losses.reshape(-1, per_epoch).mean(axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-9 if exact else 1e-4)
    near = {"rtol": 1e-6, "atol": 1e-7} if exact else {"rtol": 0.02, "atol": 2e-3}
    found = tabular_parameters(network)
    assert_parameters({key: found[key] for key in case.end}, case.end, dtype, **near)
    outputs = case.outputs_validation
    outputs = naive.softmax(outputs) if network.activations[-1] == "softmax" else outputs
    X = np.hstack([case.X_validation, case.codes_validation])
    for one in network, recipe.folded(network, network.parameters):
        tolerances = {"rtol": 1e-8, "atol": 1e-9} if exact else {"rtol": 1e-3, "atol": 1e-3}
        np.testing.assert_allclose(one.predict(X), outputs, **tolerances)


# ---- the twin's numbers ----


@dtypes
@cases
def test_forward_gradients_and_training(case, dtype, parallel):
    """On shapes on both sides of each threshold: two epochs, then outputs again."""
    tabular, plain, hidden, n, batch_size = CASES[case]
    for activation, outputs in ("mish", 3), ("selu", 1):
        network = make(tabular, plain, hidden, dtype, activation, outputs)
        twin, (X, Y) = TabularTwin(network), draw(network, n)
        data, looser = network.data(X, Y), {"rtol": 1e-10} if dtype == np.float64 else {"rtol": 5e-4, "atol": 5e-5}
        forward = network.forward(X)
        assert_near([forward[0], forward[-1], network.predict(X)], [*twin.forward(X), twin.forward(X)[1]], dtype)
        loss, g = gradients(network, data)
        expected, expected_g = twin.gradients(X, Y)
        assert loss == pytest.approx(expected, rel=NEAR[dtype]["rtol"])
        assert network.loss(data) == pytest.approx(loss, rel=1e-12)
        assert_parameters(g, expected_g, dtype, tabular.scaled, **looser)
        optimizer, step = Adam(network, **FROM_RULE, factors=recipe.FACTORS, weight_decay=0.3), realmlps(0.3)
        for _ in range(2):
            loss, expected = network.train_epoch(data, optimizer, batch_size), twin.train_epoch(X, Y, batch_size, step)
            assert loss == pytest.approx(expected, rel=NEAR[dtype]["rtol"], abs=NEAR[dtype]["atol"])
        assert_parameters(tabular_parameters(network), twin.p, dtype, tabular.scaled, **looser)
        assert_near([network.predict(X)], [twin.forward(X)[1]], dtype, **looser)


def test_the_cases_are_on_both_sides_of_thresholds():
    """Groups or none, layers or rows; several pieces of a table, panels of the input and of the factors' sums."""
    found = set()
    for tabular, plain, hidden, _, batch_size in CASES.values():
        plan = make(tabular, plain, hidden).plan
        tables = plan.items[plan.items["kind"] == TABLES]
        found.add(("groups", plan.groups(batch_size) > 1, tabular.embedded))
        found.add(("by layers", plan.by_layers(batch_size), tabular.embedded))
        found.add(("pieces of a table", len(tables) > len(tabular.categories)))
        found.add(("panels of factors", len(plan.scale_items) > 1))
        found.add(("panels of W_1", plan.layer_units[1] > plan.panels.panel))
    assert len(found) == 4 + 4 + 3 * 2


@dtypes
@pytest.mark.parametrize("activation", PARAMETRIC)
def test_every_activation(activation, dtype):
    """All that there are, parametric, with layers narrow and wide; and a network with other widths beside."""
    for hidden in (3, 9), (33, 2):
        network = make(ALL, 2, hidden, dtype, activation)
        twin, (X, Y) = TabularTwin(network), draw(network, 29)
        loss, g = gradients(network, network.data(X, Y))
        expected, expected_g = twin.gradients(X, Y)
        assert loss == pytest.approx(expected, rel=NEAR[dtype]["rtol"])
        looser = {"rtol": 1e-10} if dtype == np.float64 else {"rtol": 5e-4, "atol": 5e-5}
        assert_parameters(g, expected_g, dtype, **looser)


def test_an_activation_of_each_layer():
    """Each has its own parameters: 1 makes it the activation alone, 0 leaves z as it is."""
    network = MLP([7, 5, 6, 2], ["softplus", "gelu"], "identity", np.float64, tabular=Tabular(parametric=True))
    network.initialize(np.random.RandomState(0))
    X = np.random.RandomState(1).normal(size=(9, 7))
    for ones in (1, 1), (0, 1), (1, 0), (0, 0):
        for blends, one in zip(network.beside["blends"], ones, strict=True):
            blends[:] = one
        names = [name if one else "identity" for name, one in zip(("softplus", "gelu"), ones, strict=True)]
        expected = naive.forward(X, network.weights, network.biases, [*names, "identity"])
        assert_near(network.forward(X), expected, np.float64)


@dtypes
@pytest.mark.parametrize("activation", PARAMETRIC)
def test_padding_stays_neutral(activation, dtype):
    """Nothing gathers where no unit is: a fresh network with the same parameters goes on the same way."""
    for hidden in (5, 2), (33, 7), (3, 21):
        network = make(ALL, 2, hidden, dtype, activation)
        X, Y = draw(network, 31)
        data = network.data(X, Y)
        for optimizer in Adam(network, 0.01, weight_decay=0.1), SGD(network, 0.01, momentum=0.0):
            for _ in range(2):
                network.train_epoch(data, optimizer, 7, 0.1)
        fresh = pickle.loads(pickle.dumps(network))
        assert fresh.loss(data, 0.1) == network.loss(data, 0.1)
        for one in network, fresh:
            one.train_epoch(data, SGD(one, 0.01), 7, 0.1)
        assert bits(network) == bits(fresh)
        assert np.isfinite(network.parameters).all()


# ---- dropout, decay, rules ----


@dtypes
@pytest.mark.parametrize("tabular", [ALL, Tabular(parametric=True), Tabular(True, False, 2)], ids=str)
def test_dropout_and_decay_that_fade(tabular, dtype, parallel):
    """Part of the units, and decay, are those of the batch: the rest comes down to nothing in the second half."""
    epochs, seed, parts = 4, 5, (0.5, 0.2)
    network = make(tabular, 3, (13, 9), dtype, dropout=parts)
    twin, (X, Y) = TabularTwin(network), draw(network, 37)
    optimizer = Adam(
        network, **FROM_RULE, factors=recipe.FACTORS, weight_decay=0.3, seed=seed, fade="flat_cos", max_iter=epochs
    )
    adam, batches = naive_tabular.Adam(epsilon=1e-2), 0

    def fade():
        return naive.FACTORS["flat_cos"](batches, 4 * epochs)

    def factors(n):
        return [
            naive.dropout_factors(p * fade(), n, units, seed, batches, layer)
            for layer, (p, units) in enumerate(zip(parts, (13, 9), strict=True), start=1)
        ]

    def step(p, g):
        nonlocal batches
        adam.step(p, g, 0.02, 0.3 * fade())
        batches += 1

    data = network.data(X, Y)
    for _ in range(epochs):
        loss, expected = network.train_epoch(data, optimizer, 10), twin.train_epoch(X, Y, 10, step, factors)
        assert loss == pytest.approx(expected, rel=1e-10 if dtype == np.float64 else 1e-4)
    looser = {"rtol": 1e-9} if dtype == np.float64 else {"rtol": 2e-3, "atol": 2e-4}
    assert_parameters(tabular_parameters(network), twin.p, dtype, tabular.scaled, **looser)


@dtypes
def test_a_factor_that_is_zero_stays_zero(dtype):
    """Its gradient cannot be had from those of W_1; all others are trained, and nothing is divided by 0."""
    network = make(ALL, 3, (13, 9), dtype)
    network.beside["scales"][[0, 5, -1]] = 0
    before, (X, Y) = network.beside["scales"].copy(), draw(network, 37)
    network.train_epoch(network.data(X, Y), Adam(network, 0.01), 10)
    after = network.beside["scales"]
    assert np.isfinite(network.parameters).all() and ((after == before) == (before == 0)).all()


RULES_OF = {
    "adam": (Adam, naive.Adam, {}),
    "sgd": (SGD, naive.SGD, {"momentum": 0.0}),
    "momentum": (SGD, naive.SGD, {"momentum": 0.7, "nesterov": False}),
    "nesterov": (SGD, naive.SGD, {"momentum": 0.7}),
}


@dtypes
@pytest.mark.parametrize("weight_decay", [0.0, 0.4])
@pytest.mark.parametrize("rule", RULES_OF)
def test_every_rule(rule, weight_decay, dtype):
    """All that is no bias decays."""
    ours, theirs, options = RULES_OF[rule]
    if rule == "adam":
        options = {"epsilon": 1e-2}
    network = make(ALL, 3, (13, 9), dtype)
    twin, (X, Y) = TabularTwin(network), draw(network, 37)
    optimizer, theirs = ours(network, 0.02, weight_decay=weight_decay, **options), theirs(0.02, **options)

    def step(p, g):
        for name, value in p.items():
            if naive_tabular.kind(name) != "biases":
                value *= 1 - 0.02 * weight_decay
        theirs.step(list(p.values()), list(g.values()))

    data = network.data(X, Y)
    for _ in range(2):
        loss, expected = network.train_epoch(data, optimizer, 10), twin.train_epoch(X, Y, 10, step)
        assert loss == pytest.approx(expected, rel=NEAR[dtype]["rtol"])
    assert_parameters(tabular_parameters(network), twin.p, dtype, **({"rtol": 1e-10} if dtype == np.float64 else {}))


@pytest.mark.parametrize("kind", ["weights", "biases", "scales", "blends", "embeddings", "tables"])
def test_factors_are_those_of_a_kind(kind):
    """A rate of 0 leaves what it is for, and nothing else; so does decay."""
    for factors, options in ((0.0, 0.0), {"weight_decay": 0.0}), ((1.0, 5.0), {"weight_decay": 0.1}):
        networks = [make(ALL, 3, (13, 9)) for _ in range(3)]
        X, Y = draw(networks[0], 37)
        for network, own in zip(networks[1:], ({}, {kind: factors}), strict=True):
            network.train_epoch(network.data(X, Y), Adam(network, 0.01, factors=own, **options), 37)
        before, plain, changed = (by_kind(network) for network in networks)
        for name in before:
            assert np.array_equal(plain[name], changed[name]) == (name != kind)
            assert np.array_equal(before[name], changed[name]) == (name == kind and factors[0] == 0)


def by_kind(network):
    beside = network.beside | {"weights": network.weights, "biases": network.biases}
    return {name: np.concatenate([a.ravel() for a in value]) for name, value in beside.items()}


# ---- threads, memory ----


def compare_numbers_of_threads():
    """For the process of the next test: the same bits of all that is computed."""
    for name in "_TRAIN_IN_PARALLEL", "_PREDICT_IN_PARALLEL":
        setattr(fastmlp.network, name, 0)
    found = {}
    for threads in 1, 2, 3, 7:
        numba.set_num_threads(threads)
        for case, dtype in [(case, dtype) for case in CASES for dtype in DTYPES]:
            tabular, plain, hidden, n, batch_size = CASES[case]
            network = make(tabular, plain, hidden, dtype, dropout=0.3)
            X, Y = draw(network, n)
            data, optimizer = network.data(X, Y), Adam(network, **FROM_RULE, factors=recipe.FACTORS, weight_decay=0.3)
            seen = [network.train_epoch(data, optimizer, batch_size) for _ in range(2)]
            loss, g = gradients(network, data)
            seen += [loss, network.loss(data), bits(network), network.predict(X).tobytes()]
            seen += [array.tobytes() for array in g.values()]
            assert found.setdefault((case, dtype), seen) == seen, f"{threads} threads: {case}"
    assert _threads.workers() == 6


def test_any_number_of_threads_gives_the_same_bits():
    code = "import test_tabular; test_tabular.compare_numbers_of_threads()"
    run_code(code, NUMBA_NUM_THREADS="7")


@dtypes
@pytest.mark.parametrize("tabular", [Tabular(True, True), ALL], ids=["factors", "all of it"])
def test_rows_in_any_memory(tabular, dtype):
    """Of any strides and type: the same bits as those of a plain copy."""
    X, Y = draw(make(tabular, 3, (13, 9), dtype), 21)
    for layout, lay in LAYOUTS.items():
        memory, found = lay(X.astype(dtype)), []
        plain = np.array(memory)
        for rows in memory, plain.astype(plain.dtype.newbyteorder("="), order="C"):
            network = make(tabular, 3, (13, 9), dtype)
            loss = network.train_epoch(network.data(rows, Y), Adam(network, 0.01), 10)
            order = np.array([3, 1, 20, 3])
            predictions = network.predict(rows), network.predict(rows, order), network.predict(network.rows(rows)[:2])
            found.append((loss, bits(network), [p.tobytes() for p in predictions]))
        assert found[0] == found[1], layout


@dtypes
@pytest.mark.parametrize("bad, count_as", [
    (-1, 0), (-1e30, 0), (-np.inf, 0), (np.nan, 0), (13, 12), (1e6, 12), (1e30, 12), (np.inf, 12), (0.9, 0), (12.5, 12),
])  # fmt: skip
def test_codes_that_no_table_has(bad, count_as, dtype):
    """They are the nearest one that it has, NaN is 0: in training and in predictions nothing else is read or moved."""
    found = []
    for code in bad, count_as:
        network = make(ALL, 3, (13, 9), dtype)
        X, Y = draw(network, 21)
        X[::2, -1] = code
        with np.errstate(all="ignore"):
            rows = X.astype(dtype)
        network.train_epoch(network.data(rows, Y), Adam(network, 0.01), 10)
        found.append((bits(network), network.predict(rows).tobytes(), network.predict(rows[:1]).tobytes()))
    assert found[0] == found[1]


@dtypes
def test_a_number_that_is_not_finite_is_found(dtype):
    """In any column, of few rows and of many; what lies behind the columns is not looked at."""
    network = make(ALL, 3, (13, 9), dtype)
    for n in 1, 200:
        X, _ = draw(network, n)
        for column in range(network.columns):
            bad = X.astype(dtype)
            bad[-1, column] = np.nan
            with pytest.raises(ValueError, match="X contains NaN or infinity"):
                network.predict(bad, finite=True)
        wide = np.full((n, network.columns + 5), np.nan, dtype)
        wide[:, : network.columns] = X
        expected = network.predict(X.astype(dtype))
        assert network.predict(wide[:, : network.columns], finite=True).tobytes() == expected.tobytes()


# ---- in and out ----


@dtypes
@cases
def test_parameters_come_back_as_they_went_in(case, dtype):
    """Pickled, copied, and as a flat array: all of them, and the bits of predictions."""
    tabular, plain, hidden, *_ = CASES[case]
    network = make(tabular, plain, hidden, dtype)
    X, _ = draw(network, 9)
    other = make(tabular, plain, hidden, dtype, seed=1)
    assert bits(other) != bits(network)
    flat = network.parameters.copy()
    other.parameters = flat
    for one in pickle.loads(pickle.dumps(network)), copy.deepcopy(network), other:
        assert one.tabular == tabular and bits(one) == bits(network)
        assert one.predict(X).tobytes() == network.predict(X).tobytes()
    parts = network.beside
    for array in network.panels.arrays_beside(network.parameters):
        array[:] = 0
    assert (
        all(not array.any() for array in network.panels.arrays_beside(network.parameters))
        and parts["scales"].base is not None
    )
    network.parameters = flat
    assert bits(network) == bits(other)


def test_what_is_beside_starts_as_nothing():
    """Factors and parameters of activations are 1: the network is one without them."""
    network = MLP([7, 5, 2], "mish", "identity", np.float64, tabular=Tabular(True, True))
    plain = MLP([7, 5, 2], "mish", "identity", np.float64)
    for one in network, plain:
        one.initialize(np.random.RandomState(0))
    X = np.random.RandomState(1).normal(size=(9, 7))
    assert_near([network.predict(X)], [plain.predict(X)], np.float64)
    assert all((array == 1).all() for array in network.panels.arrays_beside(network.parameters)[:2])


# ---- what goes wrong ----

# what is asked for: (arguments, part of the message)
BAD = {
    "too few units": (([5, 3, 2], "mish", "identity", np.float64), {"tabular": Tabular(numbers=2)}, "too few for"),
    "too few units for tables": (([7, 2],), {"tabular": Tabular(categories=(3,))}, "too few for"),
    "a category of one": (([8, 2],), {"tabular": Tabular(categories=(0,))}, "too few for"),
    "relu": (([5, 3, 2], "relu"), {"tabular": Tabular(parametric=True)}, "cannot all be parametric"),
    "tanh below": (([5, 3, 3, 2], ["tanh", "mish"]), {"tabular": Tabular(parametric=True)}, "cannot all be parametric"),
    "sparse": (([5, 3, 2], "mish"), {"tabular": Tabular(True), "sparse": True}, "takes no sparse X"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_networks_are_refused(case):
    arguments, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        MLP(*arguments, **options)


@pytest.mark.parametrize("factors", [
    {"weight": (1, 1)}, {"biases": (-1, 1)}, {"biases": (1, -0.1)}, {"scales": (np.nan, 1)}, {"tables": (1, np.inf)},
])  # fmt: skip
def test_bad_factors_are_refused(factors):
    with pytest.raises(ValueError, match="factors must hold two numbers >= 0 for some of"):
        Adam(make(ALL, 3, (5,)), factors=factors)


@pytest.mark.parametrize("fade", ["adaptive", "no such schedule", steady])
def test_bad_fades_are_refused(fade):
    """A function might be above 1, and more than all units be left out."""
    with pytest.raises(ValueError, match="fade must be one of"):
        Adam(make(ALL, 3, (5,)), fade=fade)


def test_what_optimizers_of_tables_cannot():
    network = make(ALL, 3, (5,))
    for optimizer in Adam, SGD:
        with pytest.raises(ValueError, match="clipnorm is not for networks for tables"):
            optimizer(network, clipnorm=1.0)
        for use in pickle.dumps, copy.copy, copy.deepcopy, lambda one: one.copy_for(network):
            with pytest.raises(TypeError, match="of a network for tables cannot be saved or copied"):
                use(optimizer(network))


def test_an_optimizer_of_another_kind_is_refused():
    """Though layers are the same."""
    units = 4 * 3 + 8 * 2 + 3
    network = make(ALL, 3, (5,))
    data = network.data(*draw(network, 9))
    for tabular in Tabular(), Tabular(True), ALL._replace(parametric=False), ALL._replace(categories=(4, 13)):
        other = MLP([units, 5, 3], "mish", "softmax", np.float64, tabular=tabular)
        with pytest.raises(ValueError, match="optimizer was made for another network"):
            network.train_epoch(data, Adam(other), 5)


def test_rows_are_not_predicted_from_matrices():
    for tabular in Tabular(True), Tabular(parametric=True), ALL:
        network = make(tabular, 3, (5,))
        X, _ = draw(network, 2)
        assert network.predict_with(X, network.weights, network.biases) is None


# ---- any shape ----


@given(
    tabular=st.builds(
        Tabular, st.booleans(), st.booleans(), st.integers(0, 6),
        st.lists(st.integers(1, 6) | st.integers(60, 140), max_size=3).map(tuple),
    ),
    plain=st.integers(0, 40),
    hidden=st.lists(st.integers(1, 6) | st.integers(1, 50), max_size=3).map(tuple),
    n=st.integers(1, 60) | st.integers(190, 260),
    batch_size=st.integers(1, 60) | st.just(250),
    outputs=st.integers(1, 5),
    activation=st.sampled_from(PARAMETRIC),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
)  # fmt: skip
@settings(deadline=None, max_examples=60, derandomize=True, database=None)
def test_odd_shapes(tabular, plain, hidden, n, batch_size, outputs, activation, dtype, seed):
    """Whatever the widths, rows and batches, a network is its twin, before and after training."""
    if plain + tabular.numbers + len(tabular.categories) == 0:
        plain = 1
    network = make(tabular, plain, hidden, dtype, activation, outputs, seed=seed)
    twin, (X, Y) = TabularTwin(network), draw(network, n, seed)
    near = {np.float32: {"rtol": 5e-3, "atol": 1e-3}, np.float64: {"rtol": 1e-8, "atol": 1e-9}}[dtype]
    data, optimizer = network.data(X, Y), Adam(network, **FROM_RULE, factors=recipe.FACTORS, weight_decay=0.3)
    forward, step = network.forward(X), realmlps(0.3)
    assert_near([forward[0], forward[-1]], twin.forward(X), dtype, **near)
    assert_parameters(gradients(network, data)[1], twin.gradients(X, Y)[1], dtype, tabular.scaled, **near)
    before = twin.forward(X)[-1]
    loss, expected = network.train_epoch(data, optimizer, batch_size), twin.train_epoch(X, Y, batch_size, step)
    if min(before.min(), twin.forward(X)[-1].min()) > 1e3 * np.finfo(dtype).eps:  # in a loss less counts as eps
        assert loss == pytest.approx(expected, rel=near["rtol"], abs=near["atol"])
    assert_parameters(tabular_parameters(network), twin.p, dtype, tabular.scaled, **near)

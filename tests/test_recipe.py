"""RealMLP's recipe: what a network is made of, how it starts, which epoch it ends at."""

import itertools

import naive
import naive_tabular
import numba
import numpy as np
import pytest
from helpers import dtypes
from networks import TabularTwin, tabular_parameters

import fastmlp.network
from fastmlp import recipe, training
from fastmlp._panels import Tabular
from fastmlp.network import MLP
from fastmlp.recipe import Columns, LastBest, Recipe

TD_S = Recipe("selu", 0.04, 0.0, 0.0, False, False, False, (13, 9), 16, 6)
TD = Recipe("mish", 0.04, 0.1, 0.02, True, True, True, (13, 9), 16, 6)
COLUMNS = Columns(3, 2, (4, 12))


def draw(columns, n, dtype=np.float64, outputs=3, seed=0):
    """X and Y."""
    rng = np.random.RandomState(seed)
    codes = [rng.randint(count + 1, size=n) for count in columns.category_counts]
    X = np.column_stack([rng.normal(size=(n, columns.numbers + columns.plain)), *codes])
    return X.astype(dtype), rng.dirichlet(np.ones(outputs), n)


def make(own, columns=COLUMNS, dtype=np.float64, outputs=3):
    return recipe.make_network(own, columns, outputs, "softmax", "soft_cross_entropy", dtype)


def started(own, columns=COLUMNS, dtype=np.float64, n=60, seed=0):
    """A network that has its start, and its X and data."""
    network, (X, Y) = make(own, columns, dtype), draw(columns, n, dtype)
    recipe.start(network, own, X, np.random.RandomState(seed))
    return network, X, network.data(X, Y)


# ---- parts ----

# name: (recipe, columns, units of the input, tabular)
NETWORKS = {
    "TD": (TD, COLUMNS, 3 * 4 + 2 + 2 * 8, Tabular(True, True, 3, (4, 12))),
    "TD-S": (TD_S, COLUMNS, 3 + 2 + 2 * 8, Tabular(True, False, 0, (4, 12))),
    "numbers alone": (TD, Columns(3, 0), 12, Tabular(True, True, 3)),
    "numbers as they are": (TD_S, Columns(3, 0), 3, Tabular(True)),
    "categories alone": (TD, Columns(0, 0, (7,)), 8, Tabular(True, True, 0, (7,))),
    "no hidden layer": (TD._replace(hidden_layer_sizes=()), COLUMNS, 30, Tabular(True, False, 3, (4, 12))),
}


@dtypes
@pytest.mark.parametrize("case", NETWORKS)
def test_networks(case, dtype):
    own, columns, units, tabular = NETWORKS[case]
    network = make(own, columns, dtype, outputs=4)
    hidden = own.hidden_layer_sizes
    assert network.layer_units == (units, *hidden, 4) and network.tabular == tabular and network.dtype == dtype
    assert network.columns == columns.numbers + columns.plain + len(columns.category_counts)
    assert network.activations == (own.activation,) * len(hidden) + ("softmax",)
    assert network.dropout == (own.dropout,) * len(hidden) and network.loss_function.name == "soft_cross_entropy"


@pytest.mark.parametrize("outputs", [1, 3])
def test_epsilon_is_that_of_the_authors_loss(outputs):
    """Ours is half the squared error, and its gradient that of the sum over outputs; theirs is the mean."""
    network = recipe.make_network(TD, COLUMNS, outputs, "identity", "squared_error", np.float64)
    assert recipe.make_optimizer(network, TD).epsilon == pytest.approx(1e-8 * outputs / 2)
    assert recipe.make_optimizer(make(TD), TD).epsilon == 1e-8


# ---- starts ----


def assert_deviates(found, expected, mean=0.0):
    """That numbers have this standard deviation and mean: to 5 standard errors, about."""
    assert found.std() == pytest.approx(expected, rel=5 / np.sqrt(2 * found.size) + 1e-3)
    assert found.mean() == pytest.approx(mean, abs=5 * expected / np.sqrt(found.size))


def test_simple_start():
    """W of N(0, 1 / n), b of N(0, 1), nothing in the last layer; factors are 1."""
    network, _, _ = started(TD_S._replace(hidden_layer_sizes=(300, 200)), Columns(0, 400))
    for W, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        assert_deviates(W, len(W) ** -0.5)
        assert_deviates(b, 1.0)
        assert np.abs(W).max() > 3.5 * len(W) ** -0.5  # as normal numbers go
    assert not network.weights[-1].any() and not network.biases[-1].any()
    assert (network.beside["scales"] == 1).all()


@pytest.mark.parametrize("own", [TD, TD_S], ids=["TD", "TD-S"])
def test_start_of_what_is_embedded(own):
    """Frequencies of N(0, 0.1^2), phases between -pi and pi, projections and offsets within 1/4, tables of N(0, 1)."""
    network, _, _ = started(own._replace(hidden_layer_sizes=(3,)), Columns(200, 0, (500, 3)))
    p = tabular_parameters(network)
    if own is TD:
        assert_deviates(p["frequencies"], 0.1)
        for name, bound in ("phases", np.pi), ("projections", 0.25), ("offsets", 0.25):
            assert_deviates(p[name], bound / np.sqrt(3))
            assert 0.95 * bound < np.abs(p[name]).max() <= bound
        assert (p["blends_1"] == 1).all() and not network.beside["embeddings"][:, 83:].any()
    assert_deviates(p["embedding_1"], 1.0)
    assert p["embedding_2"].any() and (p["scale"] == 1).all()


@dtypes
@pytest.mark.parametrize("hidden", [(13, 9), (70, 3, 40), ()], ids=str)
def test_data_start(hidden, dtype):
    """Over the rows each unit's sum without bias deviates by 1; the bias lies between minus its extremes."""
    network, X, _ = started(TD._replace(hidden_layer_sizes=hidden), dtype=dtype, n=150)
    A = network.forward(X)
    for i, (W, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        Z, near = A[i].astype(float) @ W.astype(float), 1e-12 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(Z.std(axis=0), 1, rtol=near)
        assert np.all((-Z.max(axis=0) - near <= b) & (b <= near - Z.min(axis=0)))
    if hidden == (70, 3, 40):  # means of 5 rows whose parts have squares that add up to 1/3 on the average
        to_mean = network.biases[0] + (A[0] @ network.weights[0]).mean(axis=0)
        assert to_mean.std() == pytest.approx(3**-0.5, rel=0.35)


def test_data_start_looks_through_all_that_is_in_front_of_a_layer():
    """The twin's sums deviate by 1, too."""
    network, X, _ = started(TD)
    twin = TabularTwin(network)
    for Z in naive_tabular.forward(*twin.split(X), twin.p, "mish")[1]:
        np.testing.assert_allclose(Z.std(axis=0), 1, rtol=1e-10)


@dtypes
def test_units_that_do_not_vary(dtype):
    """Rows that are all alike: no sum deviates, nothing is divided by 0."""
    for own in TD, TD._replace(embedding=False):
        network, X = make(own, Columns(2, 1), dtype), np.ones((20, 3), dtype)
        recipe.start(network, own, X, np.random.RandomState(0))
        assert np.isfinite(network.parameters).all()
        recipe.start(network, own, 0 * X[:1], np.random.RandomState(0))
        assert np.isfinite(network.parameters).all()
        assert np.isfinite(network.predict(X)).all()


def bits(network):
    return b"".join(
        array.tobytes()
        for array in [*network.weights, *network.biases, *network.panels.arrays_beside(network.parameters)]
    )


@dtypes
@pytest.mark.parametrize("own", [TD, TD_S], ids=["TD", "TD-S"])
def test_a_seed_is_a_start(own, dtype, monkeypatch):
    """The same bits on one thread and on two, and others from another seed."""
    monkeypatch.setattr(fastmlp.network, "_PREDICT_IN_PARALLEL", 0)
    found, threads = [], numba.get_num_threads()
    try:
        for count in 1, min(2, threads):
            numba.set_num_threads(count)
            found.append(bits(started(own, dtype=dtype, n=500, seed=3)[0]))
    finally:
        numba.set_num_threads(threads)
    assert found[0] == found[1] != bits(started(own, dtype=dtype, n=500, seed=4)[0])


def test_a_start_looks_at_so_many_rows(monkeypatch):
    """At the first ones."""
    monkeypatch.setattr(recipe, "_START_ROWS", 30)
    network, X, _ = started(TD)
    some = make(TD)
    recipe.start(some, TD, X[:30], np.random.RandomState(0))
    assert bits(network) == bits(some)


# ---- the best epoch ----

SCORES = {
    "of ties the last": ([0.1, 0.5, 0.2, 0.5, 0.4], 4),
    "the first": ([0.5, 0.4, 0.3], 1),
    "all alike": ([0.5, 0.5, 0.5], 3),
    "negative": ([-3.0, -2.0, -5.0], 2),
    "a score that is not a number": ([0.1, np.nan, 0.05], 1),
}


@pytest.mark.parametrize("case", SCORES)
def test_last_best(case):
    scores, best = SCORES[case]
    history = LastBest(validation_losses=[], validation_scores=[])
    network = MLP([2, 1], output="identity")
    for epoch, score in enumerate(scores, start=1):
        network.parameters[:] = epoch
        history.update(network, 1.0, (0.5, score), 0.0)
    assert history.best_iter == best and (history.best_parameters == best).all()
    assert history.best_validation_score == scores[best - 1]
    np.testing.assert_array_equal(history.validation_scores, scores)
    assert history.validation_losses == [0.5] * len(scores) and history.loss_curve == [1.0] * len(scores)
    assert history.no_improvement_count == 0


@pytest.mark.parametrize("measured", [None, (0.5, 1.0)], ids=["no scores", "scores"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_epoch_without_a_loss_is_never_the_best(bad, measured):
    history = LastBest(validation_losses=[], validation_scores=[])
    network = MLP([2, 1], output="identity")
    for epoch, loss in enumerate([bad, 2.0, 3.0, bad], start=1):
        network.parameters[:] = epoch
        history.update(network, loss, measured, 0.0)
        assert history.best_iter == {1: 0, 2: 2}.get(epoch, 3)
    assert (history.best_parameters == 3).all()


# ---- training ----


def test_whole_batches():
    """The rows of an incomplete batch are left out, others in each epoch; `t` counts what was used."""
    for n, used in (50, 48), (48, 48):
        network, _, data = started(TD, n=n)
        other, _, _ = started(TD, n=n)
        optimizer, history = recipe.make_optimizer(network, TD), training.History()
        options = {"batch_size": 16, "max_iter": 3, "tol": -1.0, "random_state": np.random.RandomState(5)}
        training.train(network, data, optimizer, history, whole_batches=True, **options)
        assert history.t == 3 * used and optimizer.batches == 9 and history.n_iter == 3
        rng, rows, theirs, left_out = np.random.RandomState(5), np.arange(n), recipe.make_optimizer(other, TD), []
        for loss in history.loss_curve:
            training.shuffle_rows(rng, rows)
            assert other.train_epoch(data, theirs, 16, 0.0, rows[:used]) == loss
            left_out.append(set(rows[used:]))
        assert bits(network) == bits(other)
        assert n == used or left_out[0] != left_out[1]


def test_batches_that_are_not_whole_stay():
    """Where nobody asks for whole ones, and where there is one batch alone."""
    network, _, data = started(TD, n=50)
    history = training.History()
    options = {"batch_size": 16, "max_iter": 2, "random_state": np.random.RandomState(5)}
    training.train(network, data, recipe.make_optimizer(network, TD), history, **options)
    assert history.t == 100
    network, _, data = started(TD, n=9)
    history, _ = train_network(network, TD, data, np.random.RandomState(0))
    assert history.t == 6 * 9


def train_network(network, own, data, rng, rows=None, measure=None, **options):
    """History, and why training ended; the network is at its best epoch then."""
    history, rows = LastBest(), np.arange(data.n_samples) if rows is None else rows
    if measure is not None:
        history.validation_losses, history.validation_scores = [], []
    why = recipe.train_network(network, own, data, rng, history, rows=rows, measure=measure, **options)
    if history.best_parameters is not None:
        network.parameters = history.best_parameters
    return history, why


def train(scores=None, n=50, own=TD, **options):
    """A network that the recipe has trained, the parameters after each epoch, and what `train_network` tells."""
    network, _, data = started(own, n=n)
    seen, scores = [], scores if scores is None else iter(scores)

    def measure():
        return 0.5, next(scores)

    def after_epoch():
        seen.append(bits(network))

    options = {"after_epoch": after_epoch} | ({} if scores is None else {"measure": measure}) | options
    told = train_network(network, own, data, np.random.RandomState(2), **options)
    return network, seen, *told


def test_training_ends_at_its_best_epoch():
    scores = [0.1, 0.5, 0.2, 0.5, 0.4, 0.3]
    network, seen, history, why = train(scores)
    assert why == "max_iter" and history.best_iter == 4
    assert history.validation_scores == scores and len(set(seen)) == 6 == len(seen) == history.n_iter
    assert bits(network) == seen[3]


def test_training_without_scores_ends_at_the_last_epoch():
    network, seen, history, why = train()
    assert why == "max_iter" and history.best_iter == 6 == len(seen) and bits(network) == seen[-1]
    assert history.validation_scores is None


def test_fewer_epochs_are_the_first_ones():
    """Of the same schedules; `t` counts whole batches."""
    whole, some = train(), train(epochs=2)
    assert some[1] == whole[1][:2] and some[2].loss_curve == whole[2].loss_curve[:2]
    assert bits(some[0]) == some[1][-1] and some[3] == "max_iter" and some[2].t == 2 * 48


def test_training_on_some_rows():
    """Those alone: NaN in others does no harm; there are no more in a batch than there are."""
    network, X, _ = started(TD, n=50)
    _, Y = draw(COLUMNS, 50)
    bad = np.where(np.arange(50)[:, np.newaxis] < 12, X, np.nan)
    history, _ = train_network(
        network, TD, network.data(bad, Y), np.random.RandomState(2), rows=np.arange(12), epochs=3
    )
    assert history.t == 36 and np.isfinite(history.loss_curve).all() and np.isfinite(network.parameters).all()


def test_training_until_a_deadline(monkeypatch):
    """An epoch, if time is up; the network is where it was then."""
    network, seen, history, why = train(deadline=-np.inf)
    assert why == "max_time" and history.n_iter == 1 == len(seen) and bits(network) == seen[0]
    clock = itertools.count()
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock) / 100)
    network, seen, history, why = train(deadline=0.1)
    assert why == "max_time" and 1 < history.n_iter < 6 and bits(network) == seen[-1]


def test_training_that_somebody_stops():
    network, _, history, why = train(after_epoch=lambda: True)
    assert why == "stopped" and history.n_iter == 1 and history.best_iter == 1


def test_training_that_never_has_a_loss_keeps_its_last_parameters():
    """Rows of NaN: no epoch is the best."""
    network, X, _ = started(TD)
    data = network.data(np.full_like(X, np.nan), draw(COLUMNS, 60)[1])
    history, _ = train_network(network, TD, data, np.random.RandomState(2))
    assert history.best_iter == 0 and np.isnan(history.loss_curve).all()


def test_training_learns():
    """A sum of numbers and the effect of a category, to a small part of its variance."""
    rng, columns, own = np.random.RandomState(0), Columns(2, 0, (5,)), TD._replace(dropout=0.0, max_iter=40)
    X = np.column_stack([rng.normal(size=(400, 2)), rng.randint(6, size=400)])
    effects = rng.normal(size=6)
    Y = X[:, :1] - np.sin(2 * X[:, 1:2]) + effects[X[:, 2].astype(int)][:, np.newaxis]
    Y /= Y.std()
    network = recipe.make_network(own, columns, 1, "identity", "squared_error", np.float32)
    recipe.start(network, own, X, np.random.RandomState(1))
    train_network(network, own, network.data(X, Y), np.random.RandomState(2))
    assert np.mean((network.predict(X) - Y) ** 2) < 0.02


# ---- without factors ----


@dtypes
@pytest.mark.parametrize("case", NETWORKS)
def test_folded_predicts_the_same(case, dtype):
    own, columns, _, tabular = NETWORKS[case]
    network, X, data = started(own, columns, dtype)
    train_network(network, own, data, np.random.RandomState(2))
    assert np.ptp(network.beside["scales"]) > 0
    before, plain = bits(network), recipe.folded(network, network.parameters)
    assert plain.tabular == tabular._replace(scaled=False) and not plain.beside["scales"].size
    near = {"rtol": 1e-11, "atol": 1e-12} if dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(plain.predict(X), network.predict(X), **near)
    assert bits(network) == before and plain.loss_function == network.loss_function
    if not tabular.embedded and not tabular.parametric:  # a network as all others
        activations = [own.activation] * len(own.hidden_layer_sizes) + ["softmax"]
        expected = naive.forward(X.astype(float), plain.weights, plain.biases, activations)[-1]
        np.testing.assert_allclose(plain.predict(X), expected, **near)

"""Runs of RealMLP by its authors' own code, pytabkit 1.7.3, to compare with; and how to read them.

    python tests/realmlp_reference.py      writes realmlp_reference.npz, where pytabkit is installed

Layers, starts, loss, optimizer and schedules are theirs; the rows and the order of the batches are ours, and dropout is
off. Each case ran in float32, as they have it, and in float64 from the same parameters. Parameters are turned into
those of naive_tabular: its order of columns, weights divided by sqrt(fan_in).
"""

import pathlib
from types import SimpleNamespace

import numpy as np

PATH = pathlib.Path(__file__).with_name("realmlp_reference.npz")
N_TRAIN, N_VALIDATION, N_NUMBERS, N_CODES = 300, 60, 5, 12
EPOCHS, BATCH_SIZE, HIDDEN = 20, 64, (24, 16, 24)

# The name of their parameters, the number of classes (0: regression), and what these parameters say.
CASES = {
    "td_s_2_classes": ("RealMLP_TD_S_CLASS", 2, "selu", 0.04, 0.0),
    "td_s_4_classes": ("RealMLP_TD_S_CLASS", 4, "selu", 0.04, 0.0),
    "td_s_regression": ("RealMLP_TD_S_REG", 0, "mish", 0.07, 0.0),
    "td_4_classes": ("RealMLP_TD_CLASS", 4, "selu", 0.04, 0.02),
    "td_regression": ("RealMLP_TD_REG", 0, "mish", 0.2, 0.02),
}


def draw_orders(n_epochs=EPOCHS):
    """The order of the training rows in each epoch."""
    return [np.random.RandomState(1000 + epoch).permutation(N_TRAIN) for epoch in range(n_epochs)]


def load_case(name):
    """A case as arrays.

    X, codes, Y            float64, integers and float64 of the training rows, as naive_tabular takes them; in front of
                           X stand the n_embedded columns that are embedded, TD-S has no column of codes
    X_validation, codes_validation
    orders, batch_size     the rows of each epoch; its incomplete last batch is left out
    activation, loss       as naive_tabular takes them
    learning_rate, weight_decay       as before the schedules
    epsilon                Adam's: 1e-8, which is 5e-9 for half the squared error, as theirs is the whole
    start                  the parameters in front of the first step, a dict as naive_tabular has it
    losses32               those of the batches, (epochs * batches,), of their float32 run; each before its own step.
                           Regression: half their mean squared error
    losses                 the same of their float64 run, as is what follows
    outputs_validation     Z_L of the validation rows after the last step
    end                    the parameters after the last step, to float32's precision
    predictions, mean, std, low, high       regression: the predictions for the validation rows in y's unit, and y's
                                            mean, standard deviation, minimum and maximum
    """
    with np.load(PATH) as file:
        return as_case(name, dict(file))


def as_case(name, stored):
    config, n_classes, activation, learning_rate, weight_decay = CASES[name]
    own = {key.split("/")[1]: value for key, value in stored.items() if key.startswith(name + "/")}
    codes = stored["codes"] if "TD_S" not in config else stored["codes"][:, :0]
    case = SimpleNamespace(
        X=stored["X"][:N_TRAIN],
        codes=codes[:N_TRAIN],
        X_validation=stored["X"][N_TRAIN:],
        codes_validation=codes[N_TRAIN:],
        Y=own["Y"],
        orders=draw_orders(len(own["losses"]) // (N_TRAIN // BATCH_SIZE)),
        batch_size=BATCH_SIZE,
        activation=activation,
        loss="soft_cross_entropy" if n_classes else "squared_error",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        epsilon=1e-8 if n_classes else 5e-9,
        losses32=own["losses32"],
        losses=own["losses"],
        outputs_validation=own["outputs_validation"],
    )
    for when in "start", "end":
        case.__dict__[when] = {key[len(when) + 1 :]: v for key, v in own.items() if key.startswith(when + "_")}
        for key, value in getattr(case, when).items():
            value = value.astype(float)
            getattr(case, when)[key] = value / np.sqrt(len(value)) if key.startswith("weights") else value
    case.n_embedded = len(case.start["frequencies"])
    if not n_classes:
        case.predictions = own["predictions"]
        case.mean, case.std, case.low, case.high = own["mean_std_low_high"]
    return case


def draw_table():
    """(numbers, codes, a score): five numbers of different shapes, codes of 2 and of 12 values, where 0 is missing."""
    rng, n = np.random.RandomState(0), N_TRAIN + N_VALIDATION
    numbers = rng.normal(size=(n, N_NUMBERS))
    numbers[:, 1] = np.exp(numbers[:, 1])
    numbers[:, 2] = np.round(2 * numbers[:, 2])
    numbers[:, 3] = 100 * rng.uniform(size=n) ** 3
    codes = np.c_[rng.randint(3, size=n), rng.randint(N_CODES + 1, size=n)]
    effects = rng.normal(size=N_CODES + 1)
    score = np.sin(2 * numbers[:, 0]) + numbers[:, 2] * numbers[:, 4] / 3 + (codes[:, 0] == 1) + effects[codes[:, 1]]
    return numbers.astype(np.float32), codes, score + 0.5 * rng.normal(size=n)


def targets(score, n_classes):
    """Classes of equal size by the score, or the score in another unit."""
    if n_classes:
        return np.searchsorted(np.quantile(score, np.arange(1, n_classes) / n_classes), score)
    return (3 * score + 10).astype(np.float32)


def in_our_order(J, n_columns):
    """Where the columns of naive_tabular's inputs stand among theirs: first all e_jm, then all x_j, then the others."""
    numbers = [place for j in range(J) for place in (3 * j, 3 * j + 1, 3 * j + 2, 3 * J + j)]
    return np.r_[numbers, 4 * J : n_columns].astype(int)


def parameters_of(model):
    """Their trainable parameters by our names, in our order of columns; weights as they have them."""
    from pytabkit.models.nn_models import activations, base, categorical, nn

    def trainable(kind, name):
        found = [getattr(m, name) for m in model.modules() if isinstance(m, kind)]
        return [p.detach().numpy()[0].copy() for p in found if p.requires_grad]

    plr = nn.PLREmbeddingsLayerCosBias
    empty = {"weight_1": (0, 1, 16), "bias_1": (0, 1, 16), "weight_2": (0, 16, 3), "bias_2": (0, 1, 3)}
    w1, b1, W2, b2 = (p for name, shape in empty.items() for p in trainable(plr, name) or [np.zeros(shape, np.float32)])
    found = {"frequencies": w1[:, 0], "phases": b1[:, 0], "projections": W2, "offsets": b2[:, 0]}
    listed = {
        "embedding": trainable(categorical.SingleEmbeddingLayer, "emb"),
        "weights": trainable(base.WeightLayer, "weight"),
        "biases": [b[0] for b in trainable(base.BiasLayer, "bias")],
        "blends": [a[0] for a in trainable(activations.ParametricActivationLayer, "weight")],
    }
    found |= {f"{name}_{i}": p for name, ps in listed.items() for i, p in enumerate(ps, start=1)}
    (scale,) = trainable(base.ScaleLayer, "scale")
    order = in_our_order(len(w1), scale.shape[1])
    return found | {"scale": scale[0][order], "weights_1": found["weights_1"][order]}


def run_theirs(name, double, hidden=HIDDEN, epochs=EPOCHS):
    """Train by their code in float32 or float64, from the same parameters: what it gave, by the names of the file."""
    import torch
    from pytabkit.models.alg_interfaces.base import InterfaceResources, SplitIdxs
    from pytabkit.models.data.data import DictDataset, TensorInfo
    from pytabkit.models.nn_models import base, nn
    from pytabkit.models.sklearn.default_params import DefaultParams
    from pytabkit.models.training.lightning_modules import TabNNModule

    config, n_classes, *_ = CASES[name]
    numbers, codes, score = draw_table()
    if "TD_S" in config:
        codes = codes[:, :1]
    y = targets(score, n_classes)
    tensors = {"x_cont": torch.tensor(numbers), "x_cat": torch.tensor(codes), "y": torch.tensor(y)[:, None]}
    infos = {
        "x_cont": TensorInfo(feat_shape=[N_NUMBERS]),
        "x_cat": TensorInfo(cat_sizes=[3, N_CODES + 1][: codes.shape[1]]),
        "y": TensorInfo(cat_sizes=[n_classes]),
    }
    rows = torch.arange(N_TRAIN + N_VALIDATION)
    split = SplitIdxs(rows[None, :N_TRAIN], rows[None, N_TRAIN:], None, split_seed=0, sub_split_seeds=[0], split_id=0)
    changed = {"hidden_sizes": list(hidden), "n_epochs": epochs, "p_drop": 0.0, "batch_size": BATCH_SIZE}
    module = TabNNModule(**{**getattr(DefaultParams, config), **changed})
    dataset = DictDataset(tensors, infos)
    module.compile_model(dataset, [split], InterfaceResources(n_threads=1, gpu_devices=[]))
    model = module.model
    result = {f"start_{key}": value for key, value in parameters_of(model).items()}

    if double:
        model.double()
        module.creator.static_model.double()
        tensors = {key: t.double() if t.is_floating_point() else t for key, t in tensors.items()}
        for layer in model.modules():  # one-hot classes are float32: then smoothing would round 0.9
            if isinstance(layer, nn.ToSoftLabelLayer):
                layer.register_forward_hook(lambda _, __, given: given | {"y": given["y"].double()})
    tensors = module.creator.static_model.forward_ds(DictDataset(tensors, infos)).tensors
    if double:
        tensors = {key: t.double() if t.is_floating_point() else t for key, t in tensors.items()}

    def batch(rows):
        return {key: t[None, rows] for key, t in tensors.items()}

    seen = {}
    (scale,) = (m for m in model.modules() if isinstance(m, base.ScaleLayer) and m.scale.requires_grad)
    scale.register_forward_hook(lambda _, given, __: seen.update(H=given[0]["x_cont"]))
    *_, last = (m for m in model.modules() if isinstance(m, base.BiasLayer) and m.bias.requires_grad)
    last.register_forward_hook(lambda _, __, given: seen.update(Z=given["x_cont"]))

    model.train()
    with torch.no_grad():
        result["Y"] = model(batch(rows))["y"][0, :N_TRAIN].numpy()
    H, J, n_embeddings = seen["H"][0].numpy(), len(result["start_frequencies"]), codes.shape[1] - 1
    result["X"], result["codes"] = H[:, 3 * J : H.shape[1] - 8 * n_embeddings], codes[:, 1:]

    optimizer = module.configure_optimizers()
    module.optimizers = lambda: optimizer
    module.manual_backward = lambda loss: loss.backward()
    losses = []
    for order in draw_orders(epochs):
        for start in range(0, N_TRAIN - BATCH_SIZE + 1, BATCH_SIZE):
            module.hp_manager.update_hypers(module)
            loss = module.training_step(batch(order[start : start + BATCH_SIZE]), None)
            losses.append(loss.item() if n_classes else loss.item() / 2)
    result["losses"] = np.array(losses)
    result |= {f"end_{key}": value for key, value in parameters_of(model).items()}

    model.eval()
    with torch.no_grad():
        predictions = model(batch(rows[N_TRAIN:]))["x_cont"][0].numpy()
    result["outputs_validation"] = seen["Z"][0].numpy()
    if not n_classes:
        y = y[:N_TRAIN].astype(float)
        result |= {"predictions": predictions, "mean_std_low_high": np.array([y.mean(), y.std(), y.min(), y.max()])}
    return result


def stored_of(name, hidden=HIDDEN, epochs=EPOCHS):
    """Both runs of a case, by the names of the file."""
    run, run32 = (run_theirs(name, double, hidden, epochs) for double in (True, False))
    stored = {key: run.pop(key) for key in ("X", "codes")}
    return stored | {f"{name}/{key}": value for key, value in run.items()} | {f"{name}/losses32": run32["losses"]}


def small(key, value):
    """Parameters and float32's losses in float32, codes in a byte."""
    if "/start_" in key or "/end_" in key or "losses32" in key:
        return value.astype(np.float32)
    return value.astype(np.int8) if key == "codes" else value


def main():
    stored = {}
    for name in CASES:
        for key, value in stored_of(name).items():
            if key == "X" and key in stored:
                np.testing.assert_array_equal(stored["X"], value)
            if key != "codes" or value.shape[1]:
                stored[key] = small(key, value)
    np.savez_compressed(PATH, **stored)


if __name__ == "__main__":
    main()

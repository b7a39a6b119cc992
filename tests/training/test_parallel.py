"""Data-parallel gradients: the same bits whoever computes them, workers that die, errors that name their row."""

import functools
import multiprocessing
import os
import pickle
import random
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Value, datasets, losses, nn, optim, training
from micrograd_bp.training import parallel

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    with ProcessPoolExecutor(2, SPAWN) as pool:
        yield pool


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """An executor on a Dask cluster of two worker processes."""
    import dask
    from distributed import Client, LocalCluster

    quiet = {"distributed.admin.log-format": "%(message)s", "distributed.scheduler.work-stealing": False}
    with (
        dask.config.set(quiet),
        LocalCluster(  # with a port that is free: None would be port 8787, for one run of the tests at a time
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


def small(n: int = 12) -> tuple[Any, ...]:
    rng = random.Random(0)
    data = datasets.moons(n, 0.1, rng)
    return nn.MLP(2, [3, 1], activation="tanh", rng=rng), data.X, data.y


def trained(loss: Callable[..., Any] = losses.binary_cross_entropy, epochs: int = 3, **options: Any) -> tuple[Any, ...]:
    """The history and the parameters of one and the same training."""
    model, X, y = small()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    metrics = {"accuracy": training.accuracy}
    history = training.fit(model, loss, X, y, optimizer, epochs=epochs, batch_size=7, metrics=metrics, **options)
    return dict(history), model.state_dict()


def test_one_shard_gives_the_bits_of_the_plain_loop() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert trained(executor=pool, shards=1) == trained()


def test_bits_depend_on_the_number_of_shards_and_not_on_the_workers(processes: Any) -> None:
    """Threads and processes, one worker and three; the plain loop is the same to rounding."""
    found = [trained(executor=processes, shards=3)]
    for workers in (1, 3):
        with ThreadPoolExecutor(workers) as pool:
            found.append(trained(executor=pool, shards=3))
    assert found[0] == found[1] == found[2]
    (history, parameters), (plain_history, plain_parameters) = found[0], trained()
    assert history["loss"] == pytest.approx(plain_history["loss"], rel=1e-12)
    assert history["accuracy"] == plain_history["accuracy"]
    assert parameters == pytest.approx(plain_parameters, rel=1e-9)


def test_dask_gives_the_same_bits(dask: Any) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert trained(executor=dask, shards=4) == trained(executor=pool, shards=4)


# --- gradients of functions -------------------------------------------------------------------------------------------


def waves(p: Any, row: Any) -> Any:
    return (mg.math.sin(p["rate"] * row[0]) + p["line"][0] * row[0] + p["line"][1] - row[1]) ** 2


numbers = st.floats(-3.0, 3.0)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries({"rate": numbers, "line": st.lists(numbers, min_size=2, max_size=2)}),
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12),
    st.integers(1, 15),
    st.sampled_from(["mean", "sum"]),
)
def test_the_gradient_is_that_of_the_sum_over_the_rows(
    params: dict[str, Any], data: list[tuple[Any, ...]], shards: int, reduction: str
) -> None:
    scale = 1.0 / len(data) if reduction == "mean" else 1.0
    value, slopes = mg.value_and_grad(lambda p: sum(waves(p, row) for row in data) * scale)(params)
    with ThreadPoolExecutor(2) as pool:
        found = mg.parallel_value_and_grad(waves, params, data, executor=pool, shards=shards, reduction=reduction)
    assert found[0] == pytest.approx(value, rel=1e-12, abs=1e-300)
    assert found[1]["rate"] == pytest.approx(slopes["rate"], rel=1e-9, abs=1e-12)
    assert found[1]["line"] == pytest.approx(slopes["line"], rel=1e-9, abs=1e-12)


def squared_error(w: Any, row: Any) -> Any:
    return (w[0] * row[0] + w[1] * row[1] - row[2]) ** 2


def test_arrays_and_values_as_parameters(processes: Any) -> None:
    """An array gives an array; Values give numbers and keep their own grad."""
    import numpy as np

    data = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.25], [2.0, 0.0, 1.0]])
    w = np.array([1.0, -1.0])
    value, slopes = mg.parallel_value_and_grad(squared_error, w, data, executor=processes, shards=2)
    error = data[:, :2] @ w - data[:, 2]
    assert value == pytest.approx((error**2).mean())
    assert isinstance(slopes, np.ndarray)
    assert slopes == pytest.approx(2 * error @ data[:, :2] / 3)
    values = [Value(1.0), Value(-1.0)]
    assert mg.parallel_value_and_grad(squared_error, values, data, executor=processes, shards=2) == (
        value,
        slopes.tolist(),
    )
    assert [x.grad for x in values] == [0.0, 0.0]


def test_a_row_without_parameters_has_gradient_zero() -> None:
    with ThreadPoolExecutor(1) as pool:
        value, slope = mg.parallel_value_and_grad(lambda w, row: w * row if row else 7, 2.0, [0, 3], executor=pool)
    assert (value, slope) == (6.5, 1.5)


# --- death ------------------------------------------------------------------------------------------------------------


def deadly(flag: Any, deaths: Any, prediction: Any, target: Any) -> Any:
    """Kills its process in the middle of the work, so many times."""
    died = len(os.listdir(flag))
    if died < deaths and multiprocessing.parent_process() is not None:
        open(os.path.join(flag, str(died)), "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return losses.binary_cross_entropy(prediction, target)


def test_a_worker_that_is_killed_costs_a_retry(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        expected = trained(executor=pool, shards=3)
    with (
        ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool,
        pytest.warns(RuntimeWarning, match="a worker process died; its rows are computed again"),
    ):
        found = trained(functools.partial(deadly, str(tmp_path), 1), executor=pool, shards=3)
    assert len(os.listdir(tmp_path)) == 1
    assert found == expected


def test_rows_that_kill_every_worker_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is left as it was, and the error names the rows."""
    monkeypatch.setattr(parallel, "RETRIES", 1)
    model, X, y = small()
    before = model.state_dict()
    with (
        ProcessPoolExecutor(1, SPAWN) as pool,
        pytest.warns(RuntimeWarning),
        pytest.raises(BrokenProcessPool) as caught,
    ):
        training.fit(
            model,
            functools.partial(deadly, str(tmp_path), 99),
            X,
            y,
            optim.SGD(model.parameters()),
            executor=pool,
            shards=2,
        )
    assert any("workers died 2 times; not computed: rows 0 to 5, 6 to 11" in note for note in caught.value.__notes__)
    assert model.state_dict() == before


def test_a_dask_worker_that_is_killed_costs_a_retry(dask: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        expected = trained(executor=pool, shards=3)
    assert trained(functools.partial(deadly, str(tmp_path), 1), executor=dask, shards=3) == expected
    assert len(os.listdir(tmp_path)) == 1


# --- errors -----------------------------------------------------------------------------------------------------------


def logarithm(w: Any, row: Any) -> Any:
    return (w * row).log()


class PickyError(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, one: Any, two: Any) -> None:
        super().__init__(f"{one} and {two}")


def raises_picky(w: Any, row: Any) -> Any:
    if row == 4.0:
        raise PickyError("one", "two")
    return w * row


@pytest.mark.parametrize("kind", ["threads", "processes", "dask"])
def test_an_error_names_its_row(kind: str, request: pytest.FixtureRequest) -> None:
    """The first row of those that fail; the same type of exception as without workers, the pool as good as before."""
    executor = ThreadPoolExecutor(2) if kind == "threads" else request.getfixturevalue(kind)
    data = [1.0, 2.0, 3.0, -4.0, 5.0, -6.0]
    with pytest.raises(ValueError, match=r"^log\(-8.0\)") as caught:
        mg.parallel_value_and_grad(logarithm, 2.0, data, executor=executor, shards=3)
    assert "raised by row 3: -4.0" in caught.value.__notes__
    with pytest.raises((RuntimeError, PickyError), match="one and two") as raised:  # Dask teaches it to unpickle
        mg.parallel_value_and_grad(raises_picky, 2.0, [2.0, 4.0], executor=executor, shards=1)
    assert "raised by row 1: 4.0" in raised.value.__notes__
    assert mg.parallel_value_and_grad(raises_picky, 2.0, [1.0], executor=executor) == (2.0, 1.0)


def broken(prediction: Any, target: int) -> Any:
    return losses.binary_cross_entropy(prediction, 3)


@pytest.mark.parametrize("workers", [0, 1])
def test_fit_names_the_row_and_leaves_nothing_half_done(workers: int) -> None:
    model, X, y = small()
    before = model.state_dict()
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="a target is a probability") as caught:
        training.fit(
            model,
            broken,
            X,
            y,
            optim.SGD(model.parameters()),
            shuffle=False,
            executor=pool if workers else None,
        )
    assert caught.value.__notes__ == [f"raised by row 0: {(X[0], y[0])}"]
    assert model.state_dict() == before


def test_what_does_not_pickle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(TypeError, match=r"cannot be sent .* it holds something that belongs to this process"):
            mg.parallel_value_and_grad(functools.partial(waves, sys.stderr), 1.0, [1.0], executor=pool)
        monkeypatch.setitem(sys.modules, "cloudpickle", None)
        with pytest.raises(TypeError, match=r"cannot be sent .*<lambda>.*at the top of a module.* install cloudpickle"):
            mg.parallel_value_and_grad(lambda w, row: w * row, 1.0, [1.0], executor=pool)
        assert trained(executor=pool, shards=1) == trained()  # what pickles needs no cloudpickle


def test_what_a_worker_cannot_import_is_named(processes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    monkeypatch.setitem(sys.modules, "only_here", sys.modules[__name__])
    monkeypatch.setattr(waves, "__module__", "only_here")
    with pytest.raises(ImportError, match="No module named 'only_here'; can it import the module"):
        mg.parallel_value_and_grad(waves, {"rate": 1.0, "line": [1.0, 1.0]}, [(1.0, 1.0)], executor=processes)


def test_bad_arguments() -> None:
    model, X, y = small()
    optimizer = optim.SGD(model.parameters())
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="shards is a whole number, 1 or more, not 0"):
            training.fit(model, losses.mse, X, y, optimizer, executor=pool, shards=0)
        with pytest.raises(ValueError, match="there are no rows"):
            mg.parallel_value_and_grad(logarithm, 1.0, [], executor=pool)
        with pytest.raises(ValueError, match='reduction is "mean" or "sum", not \'max\''):
            mg.parallel_value_and_grad(logarithm, 1.0, [1.0], executor=pool, reduction="max")
        with pytest.raises(TypeError, match="Value cannot hold 'a'"):
            mg.parallel_value_and_grad(logarithm, "a", [1.0], executor=pool)
        with pytest.raises(ValueError, match="jit and executor do not go together"):
            training.fit(model, losses.mse, X, y, optimizer, executor=pool, jit=True)
    with pytest.raises(ValueError, match="shards are for an executor"):
        training.fit(model, losses.mse, X, y, optimizer, shards=2)
    number: Any = 4
    with pytest.raises(TypeError, match="an executor has a method submit"):
        training.fit(model, losses.mse, X, y, optimizer, executor=number)


# --- pickles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_a_pickled_pair_of_model_and_optimiser_goes_on_as_the_original(make: type[Any]) -> None:
    """Parameters of the copy are the copy's, and training goes on to the same bits."""
    model, X, y = small()
    optimizer = make(model.parameters(), lr=optim.cosine_decay(0.05, 40))
    training.fit(model, losses.binary_cross_entropy, X, y, optimizer, epochs=2)
    copy, copied = pickle.loads(pickle.dumps((model, optimizer)))
    assert copied.parameters == copy.parameters()
    for network, one in ((model, optimizer), (copy, copied)):
        training.fit(network, losses.binary_cross_entropy, X, y, one, epochs=2)
    assert copy.state_dict() == model.state_dict()


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_recurrent_cells_pickle(kind: type[Any]) -> None:
    cell = kind(1, 2, rng=random.Random(0))
    copy = pickle.loads(pickle.dumps(cell))
    assert copy.state_dict() == cell.state_dict()
    assert repr(copy([0.5])) == repr(cell([0.5]))


def test_kernels_pickle() -> None:
    x, w = Value(1.0), Value(3.0)
    kernel = mg.kernel((w * x - 1.0) ** 2, [x], [w])
    copy = pickle.loads(pickle.dumps(kernel))
    assert [list(copy([[1.0], [2.0]])), copy.value_and_grad([[1.0], [2.0]])[0]] == [[4.0, 25.0], 14.5]


@mg.jit
def cubed(x: Any) -> Any:
    return x**3


def test_compiled_functions_pickle() -> None:
    """A decorated one by its name, as functions are; another with the function that it was made of."""
    assert pickle.loads(pickle.dumps(cubed)) is cubed
    assert pickle.loads(pickle.dumps(mg.jit(mg.math.sin)))(0.5) == mg.math.sin(0.5)


def kernel_error(kernel: Any, w: Any, row: Any) -> Any:
    return w * kernel([row])


def test_a_kernel_travels_to_workers(processes: Any) -> None:
    x = Value(1.0)
    work = functools.partial(kernel_error, mg.kernel(x * x, [x]))
    assert mg.parallel_value_and_grad(work, 2.0, [1.0, 3.0], executor=processes) == (10.0, 5.0)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_run_with_workers_continues_from_its_checkpoint_to_the_same_bits(tmp_path: Path, processes: Any) -> None:
    path = tmp_path / "run.json"
    with ThreadPoolExecutor(2) as pool:
        trained(epochs=2, executor=pool, shards=3, checkpoint=path)
    assert trained(epochs=4, executor=processes, shards=3, checkpoint=path) == trained(
        epochs=4, executor=processes, shards=3
    )
    with pytest.raises(ValueError, match="of a run with shards 3, not 2"):
        trained(epochs=4, executor=processes, shards=2, checkpoint=path)
    with pytest.raises(ValueError, match='has the unknown "shards"'):
        trained(epochs=4, checkpoint=path)

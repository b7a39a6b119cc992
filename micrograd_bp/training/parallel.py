"""Gradients summed over rows of data in shards, which an executor of `concurrent.futures` computes.

A shard is a run of neighbouring rows. A worker gets the function and the model, pickled once for all shards, the
parameters as plain floats, and the rows; it returns a float for each parameter and the measurements of each row. Shards
are added up in their order, so the sum depends on their number, but not on the workers.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp._engine import trees
from micrograd_bp.value import Value

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from micrograd_bp._engine.signatures import Array

Measure: TypeAlias = Callable[[Any], tuple[Value, Any]]  # a row -> its loss, and what else is measured of it
Found: TypeAlias = list[tuple[float, Any]]  # the same for every row, as plain numbers

SHARDS = 8  # a fixed number, so that the same program gives the same bits on every machine
RETRIES = 3  # of one sum: rows whose workers die this often are given up


def parallel_value_and_grad(
    f: Callable[[Any, Any], Any],
    params: Any,
    data: Sequence[Any] | Array,
    *,
    executor: Executor,
    shards: int = SHARDS,
    reduction: str = "mean",
) -> tuple[float, Any]:
    """The mean of f(params, row) over rows of data, and its gradient by the parameters, computed by an executor.

    f is run on copies: only its result counts, and whatever else it changes stays where it ran. A worker that dies
    costs a retry and a RuntimeWarning.

    Args:
        f: A function (params, row) -> number.
        params: A number, an array, a Value, or lists, tuples, dicts and dataclasses of them.
        data: The rows.
        executor: A `ProcessPoolExecutor`, Dask's `Client.get_executor()`, mpi4py's `MPIPoolExecutor`, or another.
        shards: Into how many parts the rows are cut. For the same number the result has the same bits, whatever the
            executor and its workers; for another it may differ by rounding.
        reduction: "mean" or "sum".

    Returns:
        The mean or sum, and its gradient in the shape of the parameters.

    Raises:
        ValueError: There are no rows, or no such reduction.
        TypeError: f gives no number, or cannot be sent to another process. An exception of f's is raised here, with a
        note
            that names the row.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> def error(line, row):
        ...     return (line["slope"] * row[0] + line["offset"] - row[1]) ** 2
        >>> with ThreadPoolExecutor() as pool:
        ...     parallel_value_and_grad(error, {"slope": 2.0, "offset": 0.0}, [(1.0, 3.0), (2.0, 5.0)], executor=pool)
        (1.0, {'slope': -3.0, 'offset': -2.0})
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction is "mean" or "sum", not {reduction!r}')
    rows = list(data.tolist() if hasattr(data, "tolist") else data)
    if not rows:
        raise ValueError("there are no rows; a sum over rows needs at least one")
    numbers = [x.data if isinstance(x, Value) else x for x in trees.entries(params)]
    parameters = [Value(x) for x in numbers]
    measure = functools.partial(_measured, f, trees.shaped(params, parameters))
    scale = 1.0 / len(rows) if reduction == "mean" else 1.0
    with sharded(executor, shards) as sweep:
        found = sweep(measure, parameters, rows, scale)
    return sum([loss for loss, _ in found]) * scale, trees.shaped(params, [x.grad for x in parameters])


def _measured(f: Callable[[Any, Any], Any], params: Any, row: Any) -> tuple[Value, None]:
    output = f(params, row)
    return output if isinstance(output, Value) else Value(output), None


def sweep_rows(measure: Measure, rows: Sequence[Any], scale: float, first: int = 0) -> Found:
    """Add scale times the gradient of every row's loss to the grads; returns the measurements of each row.

    Only one row's graph is in memory at a time. An exception gets a note that names the row; the first row's number is
    `first`.
    """
    found = []
    for number, row in enumerate(rows, first):
        try:
            loss, extra = measure(row)
            loss.backward(scale)
        except Exception as error:
            error.add_note(f"raised by row {number}: {_shown(row)}")
            raise
        found.append((loss.data, extra))
    return found


@contextlib.contextmanager
def sharded(executor: Executor, shards: int) -> Iterator[Callable[[Measure, list[Value], list[Any], float], Found]]:
    """`sweep_rows` on so many shards, computed by an executor; yields a function (measure, parameters, rows, scale).

    The grads are added when all shards are computed, or not at all.
    """
    if not isinstance(shards, int) or shards < 1:
        raise ValueError(f"shards is a whole number, 1 or more, not {shards!r}")
    if not hasattr(executor, "submit"):
        raise TypeError(f"an executor has a method submit, as those of concurrent.futures do; {executor!r} has none")
    workers = _ReplacedExecutor(executor)
    try:
        yield functools.partial(_sweep, workers, shards)
    finally:
        if workers.executor is not executor:
            workers.executor.shutdown()


def _sweep(
    workers: _ReplacedExecutor, shards: int, measure: Measure, parameters: list[Value], rows: list[Any], scale: float
) -> Found:
    count = min(shards, len(rows))
    cuts = [k * len(rows) // count for k in range(count + 1)]
    numbers, labels = array("d", [x.data for x in parameters]), [x.label for x in parameters]
    task = (_packed(measure, parameters), numbers, labels, scale)
    found: Found = []
    for slopes, part in workers.run(_shard, [(*task, rows[a:b], a) for a, b in itertools.pairwise(cuts)]):
        for parameter, slope in zip(parameters, slopes):
            parameter.grad += slope
        found += part
    return found


class _ReplacedExecutor:
    """An executor, replaced if its workers die."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def run(self, function: Callable[..., Any], tasks: list[tuple[Any, ...]]) -> list[Any]:
        """Compute function(*task) for every task; tasks whose worker died are computed again."""
        from concurrent.futures import BrokenExecutor, Future

        done: dict[int, Any] = {}
        retries = 0
        while len(done) < len(tasks):
            futures: dict[int, Future[Any]] = {}
            try:
                for k, task in enumerate(tasks):
                    if k not in done:
                        futures[k] = self.executor.submit(function, *task)
                for k, future in futures.items():
                    done[k] = future.result()
            except BrokenExecutor as error:
                done |= {k: x.result() for k, x in futures.items() if x.done() and x.exception() is None}
                another = _another(self.executor)
                if another is None or retries == RETRIES:
                    parts = [
                        (first, first + len(rows) - 1) for k, (*_, rows, first) in enumerate(tasks) if k not in done
                    ]
                    lost = ", ".join(f"{first} to {last}" for first, last in parts)
                    error.add_note(f"workers died {retries + 1} times; not computed: rows {lost}")
                    raise
                retries += 1
                self.executor = another
                what = "a worker process died; its rows are computed again, by a new pool of processes"
                warnings.warn(what, RuntimeWarning, stacklevel=2)
            finally:
                for future in futures.values():
                    future.cancel()
        return [done[k] for k in range(len(tasks))]


def _another(executor: Executor) -> Executor | None:
    """A new pool like this one, if it is Python's own, which is unusable once a worker has died; else None."""
    from concurrent.futures import ProcessPoolExecutor

    if not isinstance(executor, ProcessPoolExecutor):
        return None
    made: dict[str, Any] = vars(executor)
    settings = {name: made[f"_{name}"] for name in ("max_workers", "mp_context", "initializer", "initargs")}
    return ProcessPoolExecutor(**settings, max_tasks_per_child=made["_max_tasks_per_child"])


# --- what is shipped --------------------------------------------------------------------------------------------------
# With indices instead of Values, a model of 1,386 parameters takes 0.6 ms to pickle and to unpickle, not 1.9 and 1.3.


def _packed(measure: Measure, parameters: list[Value]) -> bytes:
    """Pickle the function, with indices into the list of parameters in place of the parameters.

    cloudpickle is used where it is installed (Dask needs it): it also pickles lambdas, and functions of `__main__`.
    """
    try:
        from cloudpickle import Pickler

        remedy = "it holds something that belongs to this process"
    except ImportError:
        from pickle import Pickler

        remedy = "define functions with def at the top of a module that workers can import, or pip install cloudpickle"
    places = {id(parameter): k for k, parameter in enumerate(parameters)}

    class Shipper(Pickler):  # type: ignore[misc, valid-type, unused-ignore]  # one of two, and one may be untyped
        def persistent_id(self, x: Any) -> int | None:
            return places.get(id(x))

    file = io.BytesIO()
    try:
        Shipper(file, 5).dump(measure)
    except Exception as error:  # PicklingError, AttributeError, TypeError, or whatever a __reduce__ raises
        raise TypeError(f"cannot be sent to another process: {error}; {remedy}") from error
    return file.getvalue()


def _unpacked(packed: bytes, parameters: list[Value]) -> Measure:
    import pickle

    class Receiver(pickle.Unpickler):
        def persistent_load(self, place: int) -> Value:
            return parameters[place]

    try:
        measure: Measure = Receiver(io.BytesIO(packed)).load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ImportError(f"a worker cannot make out what it was sent: {reason}; can it import the module?") from error
    return measure


def _shard(
    packed: bytes, numbers: array[float], labels: list[str], scale: float, rows: list[Any], first: int
) -> tuple[array[float], Found]:
    """Run in a worker: the gradient over one shard, and the measurements of its rows."""
    parameters = [Value(x, label) for x, label in zip(numbers, labels)]
    try:
        found = sweep_rows(_unpacked(packed, parameters), rows, scale, first)
    except Exception as error:
        if _travels(error):
            raise
        other = RuntimeError(f"{type(error).__name__}: {error}")
        other.__notes__ = getattr(error, "__notes__", [])
        raise other from error
    return array("d", [x.grad for x in parameters]), found


def _travels(error: Exception) -> bool:
    """Whether an exception can be pickled and unpickled; a pool breaks on one that cannot."""
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True


def _shown(row: Any) -> str:
    text = repr(row)
    return text if len(text) <= 200 else f"{text[:197]}..."

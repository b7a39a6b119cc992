"""Types for annotations, which only type checkers read: numbers, arrays, models, losses, and the functions of math."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

P = ParamSpec("P")  # the parameters of a function that is differentiated
R = TypeVar("R")  # what it returns
Rest = ParamSpec("Rest")  # the parameters of a method without self
Returned = TypeVar("Returned", covariant=True)  # the same, of a protocol

if TYPE_CHECKING:
    from micrograd_bp._engine.declarations import Arithmetic as Arithmetic
    from micrograd_bp.value import Value

    Scalar: TypeAlias = Value | float

    class Array(Protocol):
        """A NumPy array, or what has the interface of one."""

        @property
        def __array_interface__(self) -> Any: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Any]: ...

    Row: TypeAlias = Sequence[Scalar] | Array  # the inputs of a model for one sample

    class Output(Value, list[Value]):  # type: ignore[misc]
        """The output of a layer: a Value where it has one neuron, else a list of Values.

        How many neurons there are is not part of a model's type, so for type checkers the output is both.
        """

    class FrozenOutput(float, list[float]):  # type: ignore[misc]
        """The output of a frozen layer: a float where it has one neuron, else a list of floats."""

    class Frozen(Protocol):
        """A model whose parameters are plain floats."""

        def __call__(self, x: Row, /) -> FrozenOutput: ...
        def forward(self, x: Row, /) -> list[float]: ...

    Numbers: TypeAlias = float | Sequence[float] | Sequence[Sequence[float]]
    Predictions: TypeAlias = Value | Sequence[Value] | Sequence[Sequence[Value]]

    class Loss(Protocol):
        """A loss: a Value for predictions that are Values, a float for floats, a list where nothing is reduced."""

        @overload
        def __call__(self, prediction: Predictions, target: Any, reduction: Literal["mean", "sum"] = ...) -> Value: ...
        @overload
        def __call__(self, prediction: Numbers, target: Numbers, reduction: Literal["mean", "sum"] = ...) -> float: ...
        @overload
        def __call__(self, prediction: Any, target: Any, reduction: str = ...) -> Any: ...

    class Unary(Protocol):
        """A function of micrograd_bp.math: a Value for a Value, a float for a float, an array for an array."""

        @overload
        def __call__(self, x: float, /) -> float: ...
        @overload
        def __call__(self, x: Value, /) -> Value: ...
        @overload
        def __call__(self, x: Array, /) -> Any: ...

    class Binary(Protocol):
        """The same for two arguments."""

        @overload
        def __call__(self, x: float, y: float, /) -> float: ...
        @overload
        def __call__(self, x: Value, y: Scalar, /) -> Value: ...
        @overload
        def __call__(self, x: float, y: Value, /) -> Value: ...
        @overload
        def __call__(self, x: Scalar | Array, y: Scalar | Array, /) -> Any: ...

    class Variadic(Protocol):
        """The same for any number of arguments."""

        @overload
        def __call__(self, *args: float) -> float: ...
        @overload
        def __call__(self, x: Value, /, *rest: Scalar) -> Value: ...
        @overload
        def __call__(self, *args: Scalar | Array) -> Any: ...

    class Jitted(Protocol[P, Returned]):
        """What `jit` makes of a function: it is called as the function is, and shows what was compiled."""

        pays: int

        @property
        def __wrapped__(self) -> Callable[P, Returned]: ...
        @property
        def stats(self) -> dict[str, Any]: ...
        @property
        def constants(self) -> list[float]: ...
        @property
        def leaves(self) -> list[list[Any]]: ...
        def source(self, language: str = ...) -> str: ...
        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Returned: ...
        @overload
        def __get__(self, instance: None, owner: Any = ...) -> Jitted[P, Returned]: ...
        @overload
        def __get__(
            self: Jitted[Concatenate[Any, Rest], Returned], instance: object, owner: Any = ...
        ) -> Callable[Rest, Returned]: ...

else:
    Arithmetic = object

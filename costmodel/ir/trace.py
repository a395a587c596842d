"""How a kernel is described: a Python function, traced once for each combination of its static arguments.

The function receives a `Builder` and its sizes. Static sizes are real Python values and may steer
control flow; all others are `Expr` symbols. The builder records buffers, loops, guards and
statements; `Description.trace` checks the result and returns an `ir.Kernel`.
"""

from __future__ import annotations

import importlib
import inspect
import numbers
import runpy
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, get_origin

from costmodel.errors import CostModelError, DescriptionError
from costmodel.ir.builder import Builder, Static
from costmodel.ir.expressions import Divisibility, Expr
from costmodel.ir.types import Kernel
from costmodel.symbols import size

__all__ = ["Description", "described", "kernel"]

_RESERVED = frozenset({"kernel", "device", "registers", "spilled", "warm", "k", "self"})


class Description:
    """A kernel description: call `trace` with its static arguments, or hand it to `estimate`."""

    def __init__(self, function: Callable[..., None], static: Sequence[str], name: str | None) -> None:
        self.function = function
        self.name = name or function.__name__
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__wrapped__ = function
        parameters = list(inspect.signature(function).parameters.values())
        where = f"description {self.name}"
        if not parameters:
            raise DescriptionError(f"{where}: expected a first argument for the builder: def {function.__name__}(k, *, M, N)")
        if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
            raise DescriptionError(f"{where}: *args and **kwargs cannot be sizes; name each size")
        names = [p.name for p in parameters[1:]]
        for bad in (n for n in names if n in _RESERVED):
            raise DescriptionError(f"{where}: {bad!r} is reserved; rename the size")
        for missing in (s for s in static if s not in names):
            raise DescriptionError(f"{where}: static argument {missing!r} is not an argument; arguments: {', '.join(names)}")
        self.static: tuple[str, ...] = tuple(n for n in names if n in static)
        self.params: tuple[str, ...] = tuple(n for n in names if n not in static)
        self.defaults: dict[str, Any] = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
        self._choices = _choices(function, self.static)
        self._traces: dict[tuple[tuple[type, Static], ...], Kernel] = {}

    @property
    def arguments(self) -> tuple[str, ...]:
        """All argument names, static ones first."""
        return self.static + self.params

    def trace(self, **statics: Static) -> Kernel:
        """Run the description with these static values; repeated calls return the same kernel.

        Raises:
            DescriptionError: a static value is missing or unknown, or the description is malformed.
        """
        values = {**{n: self.defaults[n] for n in self.static if n in self.defaults}, **statics}
        for name in statics:
            if name not in self.static:
                raise DescriptionError(
                    f"description {self.name}: {name!r} is not static; static arguments: {', '.join(self.static) or 'none'}"
                )
        for name in self.static:
            if name not in values:
                raise DescriptionError(f"description {self.name}: static argument {name!r} has no value; pass {name}=…")
        values = {n: int(v) if isinstance(v, numbers.Integral) and not isinstance(v, bool) else v for n, v in values.items()}
        for name in self.static:
            if not isinstance(values[name], int | str):
                raise DescriptionError(
                    f"description {self.name}: static argument {name}={values[name]!r}: expected a number, a truth value or text"
                )
            if values[name] not in self._choices.get(name, (values[name],)):
                known = ", ".join(map(repr, self._choices[name]))
                raise DescriptionError(
                    f"description {self.name}: static argument {name}={values[name]!r}: expected one of {known}"
                )
        key = tuple((type(values[n]), values[n]) for n in self.static)
        if key not in self._traces:
            facts = Divisibility()
            builder = Builder(self.name, facts)
            builder.reserve(self.arguments)
            symbols = {n: Expr(size(n), facts) for n in self.params}
            self._run(builder, symbols, {n: values[n] for n in self.static})
            self._traces[key] = builder.result(self.params, tuple((n, values[n]) for n in self.static))
        return self._traces[key]

    def _run(self, builder: Builder, symbols: dict[str, Expr], statics: dict[str, Any]) -> None:
        """Call the author's function; what it raises by mistake becomes an error that says where."""
        try:
            self.function(builder, **symbols, **statics)
        except CostModelError:
            raise
        except Exception as error:
            own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == self.function.__code__.co_filename]
            line = own[-1].lineno if own else self.function.__code__.co_firstlineno
            where = f"{self.function.__code__.co_filename}:{line}"
            raise DescriptionError(f"description {self.name}: {where}: {type(error).__name__}: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        code = self.function.__code__
        return _found_again, (self.function.__module__, self.function.__qualname__, code.co_filename)

    def __repr__(self) -> str:
        return f"<description {self.name}({', '.join(self.arguments)})>"


def _choices(function: Callable[..., None], static: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Values of the static arguments that are annotated with a `Literal`."""
    try:
        hints: dict[str, Any] = {n: h for n, h in inspect.get_annotations(function).items() if n in static}
        hints = {n: eval(h, function.__globals__) if isinstance(h, str) else h for n, h in hints.items()}
    except Exception as error:
        raise DescriptionError(f"description {function.__name__}: annotation of a static argument: {error}") from error
    return {n: get_args(hint) for n, hint in hints.items() if get_origin(hint) == Literal}


def _found_again(module: str, name: str, file: str) -> Any:
    """A pickled description, looked up by name: in its module, else in its file."""
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        found = runpy.run_path(file).get(name)
    if not isinstance(found, Description):
        raise DescriptionError(
            f"description {name}: not found again in module {module} or file {file}; define it at the top level"
        )
    return found


def kernel(function: Callable[..., None] | None = None, *, static: Sequence[str] = (), name: str | None = None) -> Any:
    """Make a description of a function `f(k, *, sizes…)`.

    Args:
        function: the function, when used as a bare decorator.
        static: names of arguments whose real values the function needs (flags that change the loop nest). One with the annotation
            `Literal["row", "column"]` takes these values only.
        name: of the kernel, if not the function's.

    Example:
        >>> from costmodel import kernel
        >>> from costmodel.dtypes import f32
        >>> @kernel
        ... def scale(k, *, N, B):
        ...     x = k.buffer("x", (N,), f32)
        ...     k.require(N % B == 0)
        ...     with k.blocks(N // B) as b, k.threads(B) as t:
        ...         k.do("scale", loads=x[b * B + t], stores=x[b * B + t], work=k.add(f32))
        >>> scale.trace().name
        'scale'

    Raises:
        DescriptionError: the function's arguments cannot be sizes.
    """
    if isinstance(static, str):
        raise DescriptionError(f"@kernel(static={static!r}): expected a tuple of names, got text; write static=({static!r},)")
    if function is None:
        return lambda f: Description(f, static, name)
    return Description(function, static, name)


def described(kernel: Any) -> Description | Kernel:
    """What was given, if it is a description or a traced kernel.

    Raises:
        DescriptionError: it is neither.
    """
    if isinstance(kernel, Description | Kernel):
        return kernel
    if inspect.isroutine(kernel):
        name = getattr(kernel, "__name__", "function")
        raise DescriptionError(f"{name}: expected a description, got a plain function; decorate it with @kernel")
    if isinstance(kernel, str):
        raise DescriptionError(f"expected a description, got the name {kernel!r}; pass find_description({kernel!r})")
    raise DescriptionError(f"expected a function under @kernel or a traced kernel, got {type(kernel).__name__}")

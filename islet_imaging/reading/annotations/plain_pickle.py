"""Arrays, numbers and text out of a pickle, without ever running it.

The idea: a pickle is a program for a small stack machine; two of its instructions call functions
that the file names, which is why a pickle from a stranger is never loaded.  `pickletools` lists
the instructions without doing them.  Here they are followed by hand: containers, numbers, text and
bytes are built, a function or class that is named stays a name, and what would be a call becomes a
record of it.  Whoever wants an array asks `as_array`, which reads the record of numpy's own forms.
It fails, saying so, for instructions that data of this kind never need.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

#: numbers and text as they stand behind an instruction
_VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
)  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_FROM_BUFFER = ("numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer")
#: an array may hold this many values
_MOST = 2**33


@dataclass(frozen=True)
class Name:
    """A function or class that a pickle names; it is never looked up."""

    text: str


@dataclass
class Call:
    """What a pickle would have called, with which arguments, and the state it would have set."""

    name: Any
    arguments: Any
    state: Any = None
    items: list[Any] = field(default_factory=list)


class _Mark:
    pass


def read_plain(stream: BinaryIO) -> Any:
    r"""What a pickle holds, as plain containers, `Name` and `Call`.

    Parameters
    ----------
    stream : binary file
        At the beginning of the pickle.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If an instruction is not one of plain data and arrays.

    Examples
    --------
    A pickle that would run a command is read as a record of it:

    >>> import io
    >>> read_plain(io.BytesIO(b"cos\nsystem\n(S'echo'\ntR.")).name.text
    'os system'
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def to_mark() -> list[Any]:
        at = max(i for i, v in enumerate(stack) if isinstance(v, _Mark))
        items = stack[at + 1 :]
        del stack[at:]
        return items

    for code, given, _ in pickletools.genops(stream):
        name, argument = code.name, cast(Any, given)
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            continue
        elif name == "MARK":
            stack.append(_Mark())
        elif name == "STOP":
            return stack.pop()
        elif name == "POP":
            stack.pop()
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_SET"):
            empty: dict[str, Any] = {"EMPTY_DICT": {}, "EMPTY_TUPLE": ()}
            stack.append(empty.get(name, []))
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            items = to_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name == "DICT":
            items = to_mark()
            stack.append(_pairs(items))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if name == "APPEND" else to_mark()
            held = stack[-1]
            (held.items if isinstance(held, Call) else held).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = stack[-2:] if name == "SETITEM" else to_mark()
            if name == "SETITEM":
                del stack[-2:]
            if isinstance(stack[-1], dict):
                stack[-1].update(_pairs(items))
            else:
                stack[-1].items.extend(items)
        elif name == "GLOBAL":
            stack.append(Name(str(argument)))
        elif name == "STACK_GLOBAL":
            module, own = stack[-2:]
            stack[-2:] = [Name(f"{module} {own}")]
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = stack[-2:]
            stack[-2:] = [Call(function, arguments)]
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], Call):
                raise ValueError("a state without an object")
            stack[-1].state = state
        else:
            raise ValueError(f"the instruction {name} is not one of plain data")
    raise ValueError("it ends too early")


def _pairs(items: list[Any]) -> dict[Any, Any]:
    plain = (str, bytes, int, float, bool, type(None))
    found = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, plain):
            raise ValueError("a key that is no text or number")
        found[key] = value
    return found


def as_array(value: Any) -> NDArray[Any]:
    """The array that a record of numpy's own forms stands for.

    Raises
    ------
    ValueError
        If it is none, or one of other things than numbers.
    """
    if not isinstance(value, Call) or not isinstance(value.name, Name):
        raise ValueError("no array")
    if value.name.text in _FROM_BUFFER:
        data, dtype, shape, order = value.arguments
        return _array(data, _dtype(dtype), shape, order == "F")
    if value.name.text in _RECONSTRUCT and value.state is not None:
        _, shape, dtype, fortran, data = value.state
        return _array(data, _dtype(dtype), shape, bool(fortran))
    raise ValueError("no array")


def object_of_array(value: Any) -> Any:
    """The one object in an array of objects without axes, as ``numpy.save`` writes a dictionary."""
    if isinstance(value, Call) and value.state is not None and len(value.state) == 5:
        _, shape, _, _, data = value.state
        if tuple(shape) == () and isinstance(data, list) and len(data) == 1:
            return data[0]
    raise ValueError("no dictionary in it")


def _dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, Call) or value.name != Name("numpy dtype"):
        raise ValueError("an array of unknown type")
    text = value.arguments[0]
    order = value.state[1] if value.state else "|"
    if not isinstance(text, str) or len(text) != 2 or text[0] not in "biuf":
        raise ValueError(f"an array of {text!r:.20}, not of numbers")
    return np.dtype(f"{order if order in '<>' else '='}{text}")


def _array(data: Any, dtype: np.dtype[Any], shape: Any, fortran: bool) -> NDArray[Any]:
    if not isinstance(data, bytes | bytearray):
        raise ValueError("an array without its bytes")
    if not all(isinstance(n, int) and 0 <= n < _MOST for n in shape):
        raise ValueError("an array of no possible shape")
    found = np.frombuffer(data, dtype)
    return found.reshape(shape, order="F" if fortran else "C")

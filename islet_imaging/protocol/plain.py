"""Dataclasses from plain data and back, and YAML that is read with suspicion.

The idea: a protocol comes from strangers and from tired people, so a file is refused, with the line
where it can be named, for what YAML would swallow: a key given twice, a number that is none, a file
that unfolds into millions of entries or nests without end.  What is left is built into frozen
dataclasses by their annotations; a key that is not theirs is an error.
It fails to judge what a value means; each dataclass checks that for itself.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from islet_imaging.errors import IsletImagingError, ProtocolError

#: entries that a file may unfold into, its aliases followed
MAX_ENTRIES = 1_000_000
#: mappings and lists within each other
MAX_DEPTH = 40
#: a larger file is no protocol
MAX_BYTES = 64 * 2**20
#: what an error message shows of a value
_SHOWN = 80


def shown(value: Any) -> str:
    """A value for an error message, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list in itself
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def load_yaml(path: Path, error: type[IsletImagingError] = ProtocolError) -> Any:
    """Read a YAML file of plain data.

    Parameters
    ----------
    path : Path
        The file.
    error : type
        What is raised.

    Returns
    -------
    object
        Dictionaries, lists and scalars.

    Raises
    ------
    IsletImagingError
        Of the kind asked for: the file cannot be read, is no YAML, gives a key twice, nests deeper
        than `MAX_DEPTH` or unfolds into more than `MAX_ENTRIES` entries.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "p.yaml"
    >>> _ = file.write_text("a: {b: [1, 2.5]}")
    >>> load_yaml(file)
    {'a': {'b': [1, 2.5]}}
    """
    import yaml

    try:
        if not path.is_file() and path.exists():
            # a pipe or a device may never end
            raise error(f"{path}: this is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise error(f"{path}: more than {MAX_BYTES // 2**20} MB; this is not a protocol")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_careful_loader())  # noqa: S506
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    except IsletImagingError:
        raise
    except (
        yaml.YAMLError, UnicodeDecodeError, ValueError, OverflowError, RecursionError, TypeError,
    ) as problem:  # fmt: skip
        text = " ".join(str(problem).split())[:300]
        raise error(f"{path}: not a readable YAML file: {text}") from problem


def _careful_loader() -> Any:
    """A loader of plain YAML that counts, and knows keys that come twice."""
    import yaml

    class Careful(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            try:
                if self.depth > MAX_DEPTH:
                    raise yaml.composer.ComposerError(
                        None, None, f"nested deeper than {MAX_DEPTH}", None
                    )
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

        def get_single_node(self) -> Any:
            node = super().get_single_node()
            sizes: dict[int, int] = {}
            if node is not None and _entries(node, sizes) > MAX_ENTRIES:
                raise yaml.composer.ComposerError(
                    None, None, f"unfolds into more than {MAX_ENTRIES} entries", node.start_mark
                )
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                    continue
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Careful


def _entries(node: Any, sizes: dict[int, int]) -> int:
    """Entries below a node when every alias is followed; an alias to what holds it has no end."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = MAX_ENTRIES + 1  # until it is known: met again inside itself
    children: list[Any] = []
    if isinstance(node.value, list):
        for child in node.value:
            children += child if isinstance(child, tuple) else [child]
    sizes[id(node)] = 1 + sum(_entries(c, sizes) for c in children)
    return sizes[id(node)]


def plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as plain dictionaries, lists and scalars.

    Examples
    --------
    >>> plain({"a": (1, 2)})
    {'a': [1, 2]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def build(kind: Any, value: Any, where: str) -> Any:
    """Turn plain data into a dataclass, or into an annotation built of simple types.

    Parameters
    ----------
    kind : type
        A dataclass, a scalar type, ``Literal``, a union, ``tuple[X, ...]`` or ``Mapping[str, X]``.
    value : object
        Plain data.
    where : str
        How error messages call the place.

    Raises
    ------
    ProtocolError
        For an unknown or missing key, a value of another type, or a number that is not finite.

    Examples
    --------
    >>> build(tuple[float, ...], [1, 2.5], "here")
    (1.0, 2.5)
    """
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin is Literal:
        # YAML reads a bare off/on as a boolean
        value = {False: "off", True: "on"}.get(value, value) if isinstance(value, bool) else value
        if value not in args:
            raise ProtocolError(f"{where}: {shown(value)} is not one of {list(args)}")
        return value
    if origin in (typing.Union, types.UnionType):
        errors = []
        for option in args:
            try:
                return build(option, value, where)
            except ProtocolError as error:
                errors.append(error)
        # a number that is out of its range says more than "expected nothing"
        raise next((e for e in errors if "expected" not in str(e)), errors[-1])
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ProtocolError(f"{where}: expected a list, found {shown(value)}")
        return tuple(build(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        return {k: build(args[1], v, f"{where}.{k}") for k, v in _mapping(value, where).items()}
    return _scalar(kind, value, where)


@lru_cache(maxsize=128)
def _hints(kind: Any) -> dict[str, Any]:
    """Annotations of a dataclass, worked out once: a protocol is built for every image."""
    return typing.get_type_hints(kind)


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    given = _mapping(value, where)
    hints = _hints(kind)
    fields = dataclasses.fields(kind)
    known = [f.name for f in fields]
    unknown = [k for k in given if k not in known]
    if unknown:
        raise ProtocolError(f"{where}: unknown key {shown(unknown[0])}; known keys: {known}")
    made = {k: build(hints[k], v, f"{where}.{k}") for k, v in given.items()}
    missing = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
        and f.name not in made
    ]
    if missing:
        raise ProtocolError(f"{where}: missing key {missing[0]!r}")
    return kind(**made)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ProtocolError(f"{where}: expected a mapping, found {shown(value)}")
    found = {str(k): v for k, v in value.items()}
    if len(found) < len(value):
        raise ProtocolError(f"{where}: two keys read the same: {shown(list(value))}")
    return found


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise ProtocolError(f"{where}: the number is too large") from None
    if kind is str and value is False:
        return "off"
    if kind is types.NoneType:
        fits = value is None
    else:
        fits = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
    if not fits:
        name = "nothing" if kind is types.NoneType else kind.__name__
        raise ProtocolError(f"{where}: expected {name}, found {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ProtocolError(f"{where}: {value} is no number to compute with")
    return value

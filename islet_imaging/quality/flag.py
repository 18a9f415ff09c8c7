"""The flag: one finding about an image, a channel or a folder, in words a person can act on.

The idea: a check gives a code that scripts can rely on, a severity, and one sentence with the
number that was found, the limit it broke and what to do.  ``info`` is worth knowing, ``warning``
asks for a look before the number is used, ``block`` says that a class of numbers (the message
says which) must not be used.
It fails when a message states a finding without saying what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["info", "warning", "block"]

#: from the least to the most serious
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "block")


@dataclass(frozen=True)
class Flag:
    """One finding.

    Parameters
    ----------
    code : str
        Short, stable, lower case: what scripts and the tables' ``flags`` columns carry.
    severity : {"info", "warning", "block"}
        How serious it is.
    message : str
        One or two plain sentences: the number, the limit, what to do.
    channel : str, optional
        The channel concerned; None where the whole image is.
    image : str, optional
        The image concerned; None for the folder as a whole, or where the caller knows it.

    Examples
    --------
    >>> Flag("saturated", "warning", "0.4 % of ...", "INS").code
    'saturated'
    """

    code: str
    severity: Severity
    message: str
    channel: str | None = None
    image: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain strings, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Flag:
        """The flag that :meth:`to_dict` wrote."""
        return cls(**data)


def join_codes(flags: Iterable[Flag]) -> str:
    """The codes of some flags for a table's ``flags`` column, each once, sorted, ``;`` between.

    Examples
    --------
    >>> join_codes([Flag("thick_section", "warning", ""), Flag("jpeg", "warning", "")])
    'jpeg;thick_section'
    """
    return ";".join(sorted({f.code for f in flags}))

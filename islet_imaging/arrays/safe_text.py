"""Text in CSV files that spreadsheets leave alone.

The idea: a cell that begins like a formula gets an apostrophe in front, which spreadsheets show as
text; reading takes it away again, exactly (OWASP, CSV injection).
It fails for programs that read a CSV past `plain_text`: they see the apostrophe.
"""

from __future__ import annotations

import re

#: what spreadsheets take for the start of a formula, behind any apostrophes
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def safe_text(text: str) -> str:
    """A cell of a CSV that no spreadsheet takes for a formula; `plain_text` gives it back.

    Parameters
    ----------
    text : str
        What the cell says.

    Examples
    --------
    >>> safe_text("=1+1"), safe_text("'=1"), safe_text("a-b"), plain_text(safe_text("=1+1"))
    ("'=1+1", "''=1", 'a-b', '=1+1')
    """
    return "'" + text if _FORMULA.match(text) else text


def plain_text(text: str) -> str:
    """What `safe_text` was given.

    Parameters
    ----------
    text : str
        A cell as it stands in the file.

    Examples
    --------
    >>> plain_text("'=1+1"), plain_text("'quoted'")
    ('=1+1', "'quoted'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text

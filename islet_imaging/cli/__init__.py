"""The command line: each verb parses, calls the public function of its name and says what happened.

The idea: one file per verb, no computation here.  Exit status: 0 all went well, 1 some images
failed (named), 2 wrong use.
"""

from __future__ import annotations

import sys

# importing a verb's module adds it to the app
from islet_imaging.cli import (  # noqa: F401
    demo,
    doctor,
    evaluate,
    export,
    init,
    inspect,
    phantom,
    review,
    score,
    summarize,
    train,
)
from islet_imaging.cli.app import app, fail
from islet_imaging.errors import IsletImagingError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; a user's mistake ends in one line, not in a traceback."""
    try:
        app()
    except IsletImagingError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped; what is finished is kept, the same command goes on from there", status=130)
    except BrokenPipeError:
        sys.exit(1)

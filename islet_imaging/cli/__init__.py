"""The command line: each verb parses, calls the public function of its name and says what happened.

The idea: one file per verb, no computation here.  Exit status: 0 all went well, 1 some images
failed (named), 2 wrong use.
"""

from __future__ import annotations

import logging
import sys

# importing a verb's module adds it to the app
from islet_imaging.cli import (  # noqa: F401
    combine,
    contribute,
    demo,
    doctor,
    evaluate,
    export,
    init,
    inspect,
    phantom,
    quantize,
    review,
    score,
    summarize,
    train,
)
from islet_imaging.cli.app import app, fail
from islet_imaging.cli.signals import STOPPED
from islet_imaging.errors import Cancelled, IsletImagingError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; a user's mistake ends in one line, not in a traceback."""
    try:
        app()
    except (Cancelled, KeyboardInterrupt):
        fail(STOPPED, status=130)
    except IsletImagingError as error:
        fail(str(error))
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        where = f"{str(error.filename)[:200]}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}")
    except MemoryError:
        fail("not enough memory; use fewer --workers, or close other programs")
    except Exception as error:  # a mistake of ours: a sentence for the user, the rest with -v
        logging.getLogger(__name__).info("unexpected", exc_info=True)
        text = " ".join(str(error).split())[:200]
        fail(
            f"this should not happen ({type(error).__name__}: {text}). Please report it, with what "
            "`islet-imaging -v ...` says for the same command"
        )

"""What every command line of the toolkit does around its own `main`."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

CLOSED_PIPE = 141
"""128 + SIGPIPE, as a shell reports a program that a closed pipe ended."""
INTERRUPTED = 130
"""128 + SIGINT."""


def leave(main: Callable[[], int | None]) -> NoReturn:
    """Run a command and end the process with its exit code; None is 0.

    A reader that has seen enough (``| head``) and an interrupt end it without a traceback. Warnings
    of libraries are shown only if Python is asked for them (``-W``).
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        try:
            code = main() or 0
        except SystemExit as left:  # argparse: --help, wrong arguments
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must not be written when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CLOSED_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)

"""Errors that the commands of this room turn into one line and an exit code."""


class ModelsError(Exception):
    """Something the user can mend: a bad argument, file or graph (exit code 2)."""

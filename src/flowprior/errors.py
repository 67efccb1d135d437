"""Errors that a person caused and can mend: one line that names the value and the remedy.

Anything else that goes wrong is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

#: Exit status of a program that stopped because of its input.
USER_ERROR_STATUS = 2


class FlowpriorError(ValueError):
    """Bad input; the message is one line that names the value and the remedy."""


class UnknownNameError(FlowpriorError):
    """A name that is not registered; the message suggests the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(unknown_name_message(kind, name, known))


def unknown_name_message(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is unknown, with the nearest known name first.

    Example:
        >>> unknown_name_message("solver", "chaves", ["chavez", "map"])
        "unknown solver 'chaves'; did you mean 'chavez'? (known: chavez, map)"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"; did you mean '{near[0]}'?" if near else ";"
    return f"unknown {kind} '{name}'{guess} (known: {', '.join(names) or 'none'})"


@contextmanager
def one_line_errors(prefix: str = "flowprior") -> Iterator[None]:
    """Turn user errors and a full disk into one line on stderr and exit status 2.

    Wraps the body of every program: command line and workflow scripts alike.
    """
    try:
        yield
    except FlowpriorError as error:
        print(f"{prefix}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        raise SystemExit(USER_ERROR_STATUS) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        print(f"{prefix}: the disk is full{where}; free some space and run again", file=sys.stderr, flush=True)
        raise SystemExit(USER_ERROR_STATUS) from None

"""Plain progress of long jobs: one line that says what, how far, how well, and how long it still takes.

Two parts: `Progress` prints such lines; `job_output` sends everything that a script prints both to its log
file and to the person at the terminal.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from tqdm import tqdm

from flowprior.errors import USER_ERROR_STATUS, one_line_errors

#: Seconds between updates on a terminal, where a line replaces the one before.
TERMINAL_INTERVAL = 2.0
#: Seconds between lines in a log file or a pipe.
LINE_INTERVAL = 15.0
#: Ending of the file beside a job's log that holds the one line of a user error.
ERROR_SUFFIX = ".error"

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Progress:
    """Says "train haar_glow  1200/4000, bits_per_dim 4.31  00:40 elapsed  01:32 left" now and then.

    On a terminal a line replaces the one before every 2 s; anywhere else a line is added every 15 s.

    Args:
        label: what is being done.
        total: how many units there are; positive.
        log: where to print; None: `sys.stderr` of the moment.

    Example:
        >>> import sys
        >>> Progress("train haar_glow", total=2, log=sys.stdout).update(2, bits_per_dim=4.2)
        train haar_glow  0/2  00:00 elapsed  ? left
        train haar_glow  2/2, bits_per_dim 4.2  00:00 elapsed  00:00 left
    """

    def __init__(self, label: str, total: int, log: TextIO | None = None) -> None:
        stream = log if log is not None else sys.stderr
        terminal = stream.isatty()
        self._bar = _Bar(
            desc=label,
            total=total,
            file=stream if terminal else _Lines(stream),
            mininterval=TERMINAL_INTERVAL if terminal else LINE_INTERVAL,
            miniters=1,
            smoothing=0,
            position=0,
            # Whole lines: a log gets them too, and some terminals do not say how wide they are.
            ncols=1000,
            nrows=20,
            bar_format="{desc}  {n_fmt}/{total_fmt}{postfix}  {elapsed} elapsed  {remaining} left",
        )

    def resume(self, done: int) -> None:
        """Go on from `done` units that an earlier program did: the time left is judged by this one's own pace."""
        self._bar.n = self._bar.initial = self._bar.last_print_n = done
        self._bar.unpause()
        self._bar.start_t = self._bar.last_print_t
        self._bar.set_postfix_str("resumed")

    def update(self, done: int, **facts: Any) -> None:
        """Say that `done` of the total are done; facts such as `bits_per_dim=4.31` follow the count.

        Prints when all is done, and otherwise at most once per interval.
        """
        said = (
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
        )
        self._bar.set_postfix_str("  ".join(said), refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= self._bar.total:
            self._bar.close()


class _Bar(tqdm):
    monitor_interval = 0  # no thread that looks after it: jobs fork


class _Lines:
    """A stream without a screen, where each state of a bar is a line of its own, and no two are the same."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, ""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line and line != self._last:
            self._stream.write(f"{line}\n")
            self._last = line

    def flush(self) -> None:
        self._stream.flush()


class _Tee:
    """A text stream that writes to the terminal as it comes, and whole lines to a log file.

    What a terminal redraws in place would fill the log, so only the last state of a line is kept there.
    """

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self._terminal = terminal
        self._log = log
        self._pending = ""

    def write(self, text: str) -> int:
        self._terminal.write(text)
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._log.write(_CONTROL.sub("", line).rsplit("\r", 1)[-1] + "\n")
        if lines:
            self._log.flush()
        return len(text)

    def flush(self) -> None:
        self._terminal.flush()

    def finish(self) -> None:
        if self._pending:
            self.write("\n")

    def __getattr__(self, name: str) -> Any:  # isatty, encoding, fileno ...: those of the terminal
        return getattr(self._terminal, name)


@contextmanager
def job_output(log: str | Path, prefix: str = "flowprior") -> Iterator[None]:
    """Everything the body prints goes to the terminal and `log`; a user error is one line and exit status 2.

    For workflow scripts: `with job_output(snakemake.log[0]): ...`. The line of a user error also stands alone
    in `<log>.error`, from where the workflow repeats it when it stops. Other exceptions keep their traceback,
    which the log gets too.

    Args:
        log: the job's log file; its folder is made.
        prefix: what the line of a user error begins with.

    Raises:
        SystemExit: with status 2 after a `FlowpriorError` or a full disk.
    """
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    marker = log.with_name(log.name + ERROR_SUFFIX)
    marker.unlink(missing_ok=True)
    with log.open("w", encoding="utf-8") as file:
        out, err = _Tee(sys.stdout, file), _Tee(sys.stderr, file)
        try:
            with (
                redirect_stdout(cast(TextIO, out)),
                redirect_stderr(cast(TextIO, err)),
                one_line_errors(prefix),
            ):
                yield
        except Exception:
            file.write(traceback.format_exc())
            raise
        except SystemExit as stop:
            if stop.code == USER_ERROR_STATUS:
                file.flush()
                marker.write_text(log.read_text().strip().rsplit("\n", 1)[-1] + "\n")
            raise
        finally:
            out.finish()
            err.finish()

"""Plain progress of long jobs: one line that says what, how far, how well, and how long it still takes.

Two parts: `Progress` prints such lines; `job_output` sends everything that a script prints both to its log
file and to the person at the terminal.
"""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from flowprior.errors import USER_ERROR_STATUS, one_line_errors

#: Seconds between updates on a terminal, where a line replaces the one before.
TERMINAL_INTERVAL = 2.0
#: Seconds between lines in a log file or a pipe.
LINE_INTERVAL = 15.0
#: Ending of the file beside a job's log that holds the one line of a user error.
ERROR_SUFFIX = ".error"

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def clock(seconds: float) -> str:
    """Seconds as a person reads them.

    Example:
        >>> clock(5), clock(92), clock(3725)
        ('0:05', '1:32', '1:02:05')
    """
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Prints "train haar_glow  1200/4000  bits_per_dim 4.31  0:40 elapsed  1:32 left" now and then.

    On a terminal a line replaces the one before every 2 s; anywhere else a line is added every 15 s.

    Args:
        label: what is being done.
        total: how many units there are; positive.
        log: where to print; None: `sys.stderr` of the moment.
        now: clock in seconds, replaced in tests.

    Example:
        >>> import sys
        >>> ticks = iter([0.0, 5.0, 10.0])
        >>> progress = Progress("train haar_glow", total=2, log=sys.stdout, now=lambda: next(ticks))
        >>> progress.update(1, bits_per_dim=4.31)
        train haar_glow  1/2  bits_per_dim 4.31  0:05 elapsed  0:05 left
        >>> progress.update(2, bits_per_dim=4.2)
        train haar_glow  2/2  bits_per_dim 4.2  0:10 elapsed
    """

    def __init__(
        self,
        label: str,
        total: int,
        log: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.total = total
        self._before = 0
        self._stream = log if log is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._now = now
        self._start = now()
        self._last: float | None = None

    def resume(self, done: int) -> None:
        """Go on from `done` units that an earlier program did: the time left is judged by this one's own pace."""
        self._before = done
        self._start = self._now()
        self.update(done, resumed=True)

    def update(self, done: int, **facts: Any) -> None:
        """Say that `done` of the total are done; facts such as `bits_per_dim=4.31` follow the count.

        Prints the first time, when all is done, and otherwise at most once per interval.
        """
        moment = self._now()
        interval = TERMINAL_INTERVAL if self._terminal else LINE_INTERVAL
        finished = done >= self.total
        if self._last is not None and moment - self._last < interval and not finished:
            return
        self._last = moment
        line = self._line(done, moment - self._start, facts)
        if self._terminal:
            self._stream.write(f"\r\x1b[2K{line}" + ("\n" if finished else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _line(self, done: int, elapsed: float, facts: dict[str, Any]) -> str:
        parts = [self.label, f"{done}/{self.total}"]
        for name, value in facts.items():
            parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
        parts.append(f"{clock(elapsed)} elapsed")
        own = done - self._before
        if own > 0 and done < self.total:
            parts.append(f"{clock(elapsed / own * (self.total - done))} left")
        return "  ".join(parts)


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

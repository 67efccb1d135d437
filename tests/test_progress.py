"""Progress lines and job logs."""

import io
import sys

import pytest

from flowprior.errors import FlowpriorError
from flowprior.progress import LINE_INTERVAL, TERMINAL_INTERVAL, Progress, job_output


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


@pytest.fixture
def now(monkeypatch):
    found = Clock()
    monkeypatch.setattr("tqdm.std.time", found)
    return found


@pytest.mark.parametrize(("stream", "interval"), [(io.StringIO(), LINE_INTERVAL), (Terminal(), TERMINAL_INTERVAL)])
def test_lines_come_first_last_and_once_per_interval(stream, interval, now):
    progress = Progress("solve", total=100, log=stream)
    for done in range(1, 101):
        now.time += interval / 10
        progress.update(done)
    counts = [
        int(line.split()[1].split("/")[0]) for line in stream.getvalue().replace("\r", "\n").split("\n") if "/" in line
    ]
    assert counts[0] == 0
    assert counts[-1] == 100
    assert len(counts) == pytest.approx(11, abs=2)


def test_a_terminal_gets_one_line_that_ends_when_all_is_done():
    stream = Terminal()
    progress = Progress("solve", total=2, log=stream)
    progress.update(1)
    assert "\n" not in stream.getvalue()
    progress.update(2)
    assert stream.getvalue().count("\n") == 1


def test_time_left_is_judged_by_what_this_program_did(now):
    stream = io.StringIO()
    progress = Progress("train", total=100, log=stream)
    now.time += 300  # getting ready does not count
    progress.resume(50)
    now.time += 20
    progress.update(60)  # ten in twenty seconds: forty more take eighty
    assert "1:20 left" in stream.getvalue()


def test_facts_are_shown():
    stream = io.StringIO()
    Progress("train", total=3, log=stream).update(1, bits_per_dim=4.31251, images=7)
    assert "bits_per_dim 4.313  images 7" in stream.getvalue()


def test_job_output_goes_to_the_terminal_and_to_the_log(tmp_path, capsys):
    log = tmp_path / "logs" / "job.log"
    with job_output(log):
        print("to stdout")
        print("\r\x1b[2Khalf\r\x1b[2Kwhole", file=sys.stderr)
    out, err = capsys.readouterr()
    assert out == "to stdout\n"
    assert "whole" in err
    assert log.read_text().splitlines() == ["to stdout", "whole"]


def test_a_user_error_is_one_line_status_2_and_a_marker(tmp_path, capsys):
    log = tmp_path / "job.log"
    with pytest.raises(SystemExit) as stop, job_output(log):
        print("working")
        raise FlowpriorError("kernel size must be odd, got 4")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "flowprior: kernel size must be odd, got 4\n"
    assert (tmp_path / "job.log.error").read_text() == "flowprior: kernel size must be odd, got 4\n"
    with job_output(log):
        print("mended")
    assert not (tmp_path / "job.log.error").exists()


def test_a_bug_keeps_its_traceback(tmp_path):
    log = tmp_path / "job.log"
    with pytest.raises(ZeroDivisionError), job_output(log):
        _ = 1 / 0
    assert "ZeroDivisionError" in log.read_text()
    assert not (tmp_path / "job.log.error").exists()

"""Where the kernel is kept: nothing is loaded that another user could have written, and many may build at once."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flowprior.models.flows.evaluators import compiled, private

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
needs_compiler = pytest.mark.skipif(compiled.kernel() is None, reason="no C compiler on this machine")
STRANGER = 12345
BUILT = b"built"


class Opener:
    """Opens what the compiler below made, as the system opens libraries: by its path, and only if it is whole."""

    def dlopen(self, place):
        if Path(place).read_bytes() != BUILT:
            raise OSError("invalid ELF header")
        return place


@pytest.fixture
def loaded(monkeypatch, tmp_path, capfd):
    """Loads the kernel as a new process would, by a compiler that takes no time; gives what is said meanwhile."""
    compiler = tmp_path / "compiler"
    # What linkers leave: all that the umask allows, for a program.
    compiler.write_text("""#!/bin/sh
while [ "$1" != -o ]; do shift; done
printf built > "$2" && chmod +x "$2"
""")
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setattr(compiled, "interface", Opener)

    def load(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(tempfile, "tempdir", None)
        capfd.readouterr()
        assert compiled.kernel.__wrapped__() is not None
        return capfd.readouterr().err

    return load


@pytest.fixture
def home(tmp_path, monkeypatch, loaded):
    """A cache of this user, with the kernel built in it."""
    place = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    assert loaded() == ""
    return place


def library_in(home):
    (file,) = (home / "flowprior").iterdir()
    return file


def plant(file):
    """Put something that is no library there, and say how to know whether it was replaced."""
    file.unlink(missing_ok=True)
    file.write_bytes(b"planted")
    return file


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_what_is_made_is_this_users_alone_whatever_the_umask(umask, tmp_path, monkeypatch, loaded):
    place = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    before = os.umask(umask)
    try:
        assert loaded() == ""
        first = library_in(place).stat()
        assert loaded() == ""
    finally:
        os.umask(before)
    assert stat.S_IMODE((place / "flowprior").stat().st_mode) == 0o700
    assert stat.S_IMODE(first.st_mode) == 0o600
    assert library_in(place).stat().st_ino == first.st_ino  # not built again


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(home, mode, loaded):
    file = plant(library_in(home))
    (home / "flowprior").chmod(mode)
    said = loaded()
    assert "others may write to" in said and "chmod go-w" in said and "for this process alone" in said
    assert file.read_bytes() == b"planted"


def test_a_cache_that_all_may_write_to_is_not_used(home, loaded):
    file = plant(library_in(home))
    home.chmod(0o777)
    assert f"others may write to {home}" in loaded()
    assert file.read_bytes() == b"planted"


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o622])
def test_a_file_that_others_may_write_to_is_built_again(home, mode, loaded):
    file = library_in(home)
    before = file.stat().st_ino
    file.chmod(mode)
    assert loaded() == ""
    assert file.stat().st_ino != before and stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_damaged_file_is_built_again(home, loaded):
    file = plant(library_in(home))
    assert loaded() == ""
    assert file.read_bytes() == BUILT


def test_a_link_in_place_of_the_file_is_not_followed(home, tmp_path, loaded):
    file = library_in(home)
    aim = file.rename(tmp_path / "elsewhere.so")
    file.symlink_to(aim)
    assert loaded() == ""
    assert not file.is_symlink() and file.read_bytes() == BUILT


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_does_not_stop_it(home, kind, loaded):
    file = library_in(home)
    file.unlink()
    os.mkfifo(file) if kind == "pipe" else file.mkdir()
    said = loaded()
    assert said == "" if kind == "pipe" else "for this process alone" in said


def test_a_link_in_place_of_the_folder_is_not_followed(home, tmp_path, loaded):
    (home / "flowprior").rename(tmp_path / "elsewhere")
    (home / "flowprior").symlink_to(tmp_path / "elsewhere")
    (file,) = (tmp_path / "elsewhere").iterdir()
    plant(file)
    assert "for this process alone" in loaded()
    assert file.read_bytes() == b"planted"


@needs_root
@pytest.mark.parametrize("what", ["cache", "folder", "file"])
def test_nothing_of_another_user_is_loaded(home, what, loaded):
    file = plant(library_in(home))
    planted = {"cache": home, "folder": home / "flowprior", "file": file}[what]
    os.chown(planted, STRANGER, STRANGER)
    said = loaded()
    if what == "file":
        assert said == "" and file.stat().st_uid == 0 and file.read_bytes() == BUILT
    else:
        assert f"{planted} belongs to user {STRANGER}, not to 0" in said and file.read_bytes() == b"planted"


@needs_root
def test_as_root_with_anothers_home_nothing_is_left_there(tmp_path, loaded):
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", STRANGER, STRANGER)
    assert f"belongs to user {STRANGER}" in loaded(HOME=str(tmp_path / "home"), XDG_CACHE_HOME="")
    assert not any((tmp_path / "home").iterdir())


def test_a_guessable_place_in_the_temporary_folder_is_not_looked_at(tmp_path, loaded):
    temporary = tmp_path / "tmp"
    (temporary / f"flowprior-{os.getuid()}").mkdir(parents=True)
    (tmp_path / "file").touch()
    said = loaded(XDG_CACHE_HOME=str(tmp_path / "file"), TMPDIR=str(temporary))
    assert "for this process alone" in said
    # And what was built is gone.
    assert [path.name for path in temporary.rglob("*")] == [f"flowprior-{os.getuid()}"]


def test_a_folder_stays_the_one_that_was_looked_at(home, tmp_path):
    with private.cached() as folder:
        name = library_in(home).name
        assert folder.has(name) and not folder.has("other.so")
        (home / "flowprior").rename(tmp_path / "moved")
        (home / "flowprior").mkdir(mode=0o777)
        assert folder.has(name)
        if sys.platform == "linux":
            assert Path(folder.place(name)).samefile(tmp_path / "moved" / name)


@needs_compiler
def test_several_processes_may_build_at_once(tmp_path):
    program = "from flowprior.models.flows.evaluators import compiled; print(compiled.kernel().lanes())"
    variables = {**os.environ, compiled.MORE_FLAGS: "-O0", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=variables, **pipes) for _ in range(3)]
    ends = [process.communicate() for process in running]
    assert len({out for out, _ in ends}) == 1 and ends[0][0].strip().isdigit()
    assert not any(said for _, said in ends)
    assert library_in(tmp_path).suffix == ".so"  # and no parts

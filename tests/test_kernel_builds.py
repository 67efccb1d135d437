"""The kernel by every compiler of this machine, at every vector width, and watched by sanitizers."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_checks import check_batches, check_both_directions, check_gradients_by_weights
from pieces import FLOW_CASES, small_flow

from flowprior.models.flows.evaluators import compiled
from flowprior.models.flows.evaluators.interface import FOLDER, HEADER, interface

pytestmark = pytest.mark.slow

COMPILERS = ("gcc", "clang")
#: lanes -> flags. Without AVX four is what a register holds; sixteen are made of two where there is no AVX-512.
WIDTHS = {
    None: (),
    16: ("-DV=16",),
    8: ("-DV=8",),
    4: ("-mno-avx",) if platform.machine() in ("x86_64", "AMD64") else ("-DV=4",),
}
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")


def found(compiler):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    return compiler


@pytest.fixture(scope="module", params=[(name, width) for name in COMPILERS for width in WIDTHS])
def build(request):
    """A library, and how many lanes it is asked to have."""
    compiler, width = request.param
    return compiled.built([found(compiler)], WIDTHS[width]), width


def test_any_compiler_at_any_width_finds_what_the_flow_finds(build, monkeypatch):
    library, width = build
    assert width is None or library.lanes() == width
    monkeypatch.setattr("flowprior.models.flows.evaluators.by_kernel.kernel", lambda: library)
    for name, shape, settings in FLOW_CASES:
        check_both_directions(small_flow(name, shape, torch.float32, **settings))
        check_gradients_by_weights(small_flow(name, shape, torch.float32, **settings))
    for name, _, settings in FLOW_CASES[:4]:
        check_batches(small_flow(name, dtype=torch.float32, **settings))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_header_says_to_python_what_it_says_to_the_compiler(compiler, tmp_path):
    ffi = interface()
    facts = []
    for kind in ("Conv", "Op", "Flow"):
        facts.append((f"sizeof({kind})", ffi.sizeof(kind)))
        fields = [name for name, _ in ffi.typeof(kind).fields]
        facts += [(f"offsetof({kind}, {name})", ffi.offsetof(kind, name)) for name in fields]
    library = compiled.built([found(compiler)])
    numbers = ("TILE", "POINTS", "LEAST_SIDE", "MAX_CHANNELS", "MAX_KERNEL", "HAAR", "SPLIT", "ADDITIVE", "INVERSE")
    facts += [(name, getattr(library, name)) for name in numbers]
    source = tmp_path / "facts.c"
    checks = "".join(f'_Static_assert({what} == {value}, "{what}");\n' for what, value in facts)
    source.write_text(f'#include <stddef.h>\n#include "{HEADER}"\n{checks}')
    subprocess.run([compiler, "-std=gnu11", "-fsyntax-only", str(source)], check=True)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("flags", [["-march=x86-64"], ["-march=skylake-avx512"], ["-DV=8", "-march=x86-64"]])
def test_it_compiles_without_a_warning_for_processors_that_are_not_here(compiler, flags):
    if platform.machine() != "x86_64":
        pytest.skip("flags of another processor")
    usual = [flag for flag in compiled.FLAGS if flag not in ("-shared", "-O3")]
    command = [found(compiler), *usual, *flags, "-Wall", "-Wextra", "-Werror", "-S", "-O1", "-o", os.devnull]
    subprocess.run([*command, str(FOLDER / "passes.c")], check=True)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_environment_chooses_compiler_and_flags(compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", f"{found(compiler)} -O1")
    monkeypatch.setenv(compiled.MORE_FLAGS, "-O0 -DV=4")
    library = compiled.kernel.__wrapped__()
    assert library.lanes() == 4
    assert len(list((tmp_path / "flowprior").iterdir())) == 1


WATCHED = """
import sys
sys.path.insert(0, {tests!r})
import torch
from kernel_checks import check_batches, check_both_directions, check_gradients_by_weights
from pieces import FLOW_CASES, small_flow
from flowprior.models.flows.evaluators import by_kernel, compiled
torch.set_num_threads(1)
library = compiled.built([{compiler!r}], {flags!r})
by_kernel.kernel = lambda: library
for name, shape, settings in FLOW_CASES:
    check_both_directions(small_flow(name, shape, torch.float32, **settings))
    check_gradients_by_weights(small_flow(name, shape, torch.float32, **settings))
check_batches(small_flow("chavez", dtype=torch.float32, hidden=256))
print("done")
"""


def test_sanitizers_see_no_access_beyond_memory_and_nothing_undefined(tmp_path):
    compiler = found("gcc")
    named = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    runtime = Path(named.stdout.strip())
    if not runtime.is_absolute():
        pytest.skip("gcc has no address sanitizer here")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(runtime),
        # Python and torch leave memory to the end of the process.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    program = WATCHED.format(tests=str(Path(__file__).parent), compiler=compiler, flags=SANITIZED)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "done", done.stderr[-4000:]

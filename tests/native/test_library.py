"""Where the kernels come from, and what happens where they cannot be had."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fittingroom import native
from fittingroom.native import build as building
from fittingroom.native.library import load
from tests.processes import Child, as_someone_else, may_write_everywhere

ROOT = Path(native.__file__).parent.parent.parent
compiler = pytest.mark.skipif(not any(map(shutil.which, building.COMPILERS)), reason="no C compiler here")


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


COMPILED = TemporaryDirectory()
"""What the tests of this process have compiled; most of them need the same."""


def small_compiler(folder: Path, unknown: str = "-mavx2") -> Path:
    """The real compiler without optimisation, so that tests are quick; it is too old to know one of its arguments.

    What it has compiled once it copies: the last of its arguments is where to.
    """
    Path(COMPILED.name).chmod(0o755)
    script = f"""#!/bin/sh
case "$*" in *{unknown}*) echo "error: unrecognized option" >&2; exit 1;; esac
for last; do :; done
kept="{COMPILED.name}/$(printf %s "${{*%"$last"}}" | cksum | tr " " -)"
case "$*" in *" -c "*) if [ -f "$kept" ]; then exec cp "$kept" "$last"; fi;; esac
{shutil.which("cc") or shutil.which("gcc")} "$@" -O0 || exit
case "$*" in *" -c "*) cp "$last" "$kept.$$" && mv "$kept.$$" "$kept" || true;; esac
"""
    return program(folder, "small-cc", script)


def environment(compiler_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "CC": str(compiler_path)}


def test_switch_in_the_environment() -> None:
    library = load({"FITTINGROOM_NATIVE": "0"})
    assert library.call is None
    assert library.description == "none: switched off by FITTINGROOM_NATIVE=0"


def test_no_compiler(tmp_path: Path) -> None:
    library = load({"PATH": str(tmp_path)}, tmp_path / "cache", installed=tmp_path)
    assert library.call is None
    assert library.description.startswith("none: no compiler")


def test_compiler_that_fails_or_does_not_run(tmp_path: Path) -> None:
    failing = program(tmp_path, "failing-cc", '#!/bin/sh\necho "fatal error: out of luck" >&2\nexit 1\n')
    library = load(environment(failing), tmp_path / "cache", installed=tmp_path)
    assert "out of luck" in library.description
    broken = program(tmp_path, "broken-cc", "\x7fELF")
    assert load(environment(broken), tmp_path / "cache", installed=tmp_path).description.startswith("none: ")
    assert not list((tmp_path / "cache").glob("*")), "nothing is left behind"


@compiler
def test_builds_once_and_finds_it_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cc = environment(small_compiler(tmp_path))
    library = load(cc, cache, installed=tmp_path)
    assert library.description in native.LEVELS
    (made,) = cache.iterdir()
    before = made.stat().st_mtime_ns
    assert load(cc, cache, installed=tmp_path).call is not None
    assert made.stat().st_mtime_ns == before
    made.unlink()  # not overwritten: this process has it mapped
    made.write_bytes(b"torn")
    assert load(cc, cache, installed=tmp_path).call is not None, "a damaged file is built again"


@compiler
@pytest.mark.parametrize(("unknown", "level"), [("-mavx512bf16", "avx2"), ("-mavx2", "portable")])
def test_old_compiler_builds_the_lower_levels(tmp_path: Path, unknown: str, level: str) -> None:
    library = load(environment(small_compiler(tmp_path, unknown)), tmp_path / "cache", installed=tmp_path)
    assert library.call is not None
    assert native.LEVELS.index(library.description) <= native.LEVELS.index(level)


@compiler
def test_read_only_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # stands where a folder is needed: permissions do not stop a test that runs as root
    library = load(environment(small_compiler(tmp_path)), tmp_path / "file" / "cache", installed=tmp_path)
    assert library.call is None
    assert "cannot be used" in library.description


@compiler
@pytest.mark.parametrize("content", ["nothing", "a damaged build"])
def test_read_only_folder(content: str) -> None:
    with TemporaryDirectory() as name:  # whatever pytest makes is closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        cache, cc = folder / "cache", environment(small_compiler(folder))
        cache.mkdir()
        if content == "a damaged build":
            Child(lambda: load(cc, cache, installed=folder)).wait()  # what this process has opened it does not open again
            next(cache.iterdir()).write_bytes(b"damaged")
        cache.chmod(0o555)

        def look() -> None:
            if may_write_everywhere():
                as_someone_else()
            print(load(cc, cache, installed=folder).description)

        child = Child(look)
        assert child.wait() == 0, child.errors
    assert child.out.startswith("none: "), child.out
    assert "Permission denied" in child.out


def test_compiler_command_that_cannot_be_read(tmp_path: Path) -> None:
    assert load({"CC": "'cc"}, tmp_path, installed=tmp_path).description == "none: CC is no command: no closing quotation"


@compiler
def test_code_that_others_can_write_is_not_loaded(tmp_path: Path) -> None:
    cache, cc = tmp_path / "cache", environment(small_compiler(tmp_path))
    load(cc, cache, installed=tmp_path)
    (made,) = cache.iterdir()
    made.chmod(made.stat().st_mode | stat.S_IWOTH)
    library = load(cc, cache, installed=tmp_path)
    assert library.call is None
    assert "others can write" in library.description


@pytest.mark.slow
@compiler
def test_two_processes_compile_at_once(tmp_path: Path) -> None:
    cc = small_compiler(tmp_path)
    code = (
        "import os, pathlib, sys; from fittingroom.native.library import load;"
        "print(load(os.environ, pathlib.Path(sys.argv[1]), installed=pathlib.Path(sys.argv[1])).description)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    variables = os.environ | environment(cc)
    children = [subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {child.communicate(timeout=120)[0].strip() for child in children} <= set(native.LEVELS)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.skipif(not Path("/proc/self/maps").exists() or not native.available(), reason="needs Linux and the kernels")
def test_there_is_one_pool_of_threads() -> None:
    code = (
        "import torch; from fittingroom import native; from fittingroom.models.layers import Tail;"
        "torch.set_num_threads(2); Tail(64, norm='after')(torch.randn(8, 64, 28, 28).to(memory_format=torch.channels_last));"
        "print(len({line.split()[-1] for line in open('/proc/self/maps') if 'libgomp' in line or 'libiomp' in line or 'libomp' in line}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@compiler
@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs a checkout")
def test_built_at_installation_it_needs_no_compiler(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    subprocess.run(command, cwd=ROOT, env=os.environ | environment(small_compiler(tmp_path)), check=True, capture_output=True)
    library = load({"PATH": ""}, tmp_path / "cache", installed=tmp_path / "lib" / "fittingroom" / "native")
    assert library.description in native.LEVELS
    assert not (tmp_path / "cache").exists()


def test_installation_goes_on_without_a_compiler(tmp_path: Path) -> None:
    if not (ROOT / "setup.py").exists():
        pytest.skip("needs a checkout")
    failing = program(tmp_path, "failing-cc", "#!/bin/sh\nexit 1\n")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment(failing), check=True, capture_output=True, text=True)
    assert "the plain path will be taken" in done.stderr


@compiler
def test_build_of_another_source_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source, used in (("another", False), (building.source_hash(), True)):
        monkeypatch.setattr(building, "source_hash", lambda source=source: source)
        folder = tmp_path / source
        folder.mkdir()
        building.compile_to(folder / f"_kernels{EXTENSION_SUFFIXES[0]}", [str(small_compiler(tmp_path))])
        assert (load({"PATH": ""}, tmp_path / "cache", installed=folder).call is not None) == used

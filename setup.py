"""Builds the native kernels where there is a compiler; without one the installation goes on and the plain path is taken."""

import os
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("fittingroom", "native")


class BuildKernels(build_ext):
    """Compile with the flags that `fittingroom.native.build` has, falling back as it does."""

    def build_extension(self, ext: Extension) -> None:
        """Compile to where the extension belongs; say so and go on where that fails."""
        build = runpy.run_path(str(NATIVE / "build.py"))
        to = Path(self.get_ext_fullpath(ext.name))
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            build["compile_to"](to, build["find_compiler"](os.environ))
        except (OSError, build["Unavailable"]) as reason:
            print(f"fittingroom: no native kernels ({reason}); the plain path will be taken", file=sys.stderr)


HEADERS = [str(NATIVE / name) for name in runpy.run_path(str(NATIVE / "build.py"))["SOURCES"][1:]]

setup(
    ext_modules=[Extension("fittingroom.native._kernels", [str(NATIVE / "kernels.c")], depends=HEADERS, optional=True)],
    cmdclass={"build_ext": BuildKernels},
)

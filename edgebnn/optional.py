"""The Larq Compute Engine and TensorFlow: where pip finds a package of them, and what a command says without one.

pyproject.toml's markers tell pip the same. `python -m edgebnn.optional NAME` prints why NAME is not installed, and
nothing where it is.
"""

import importlib.util
import platform
import sys
from dataclasses import dataclass

from edgebnn.errors import UserError, exit_on_user_error

X86 = ("x86_64", "AMD64")


@dataclass(frozen=True)
class Package:
    """A package that is not published for every Python.

    Attributes:
        name: pip's name for it.
        module: the name to import.
        newest: the newest Python that it is published for, as (major, minor).
        arm_linux: whether it is published for Linux on ARM.
        pythons: the Pythons and platforms that it is published for, in words.
    """

    name: str
    module: str
    newest: tuple[int, int]
    arm_linux: bool
    pythons: str

    def unpublished(
        self,
        python: tuple[int, int] = sys.version_info[:2],
        system: str = sys.platform,
        machine: str = platform.machine(),
    ) -> str:
        """Returns why pip finds no package for this Python on this platform; "" where pip finds one."""
        if python > self.newest:
            return f"{self.name} has no package for Python {python[0]}.{python[1]}"
        if system == "linux" and machine not in X86 and not self.arm_linux:
            return f"{self.name} has no package for Linux on {machine}"
        return ""

    def missing(self) -> str:
        """Returns why the package cannot be imported; "" where it is installed."""
        if importlib.util.find_spec(self.module):
            return ""
        return self.unpublished() or f"{self.name} is not installed"


LCE_PACKAGE = Package(
    "larq-compute-engine",
    "larq_compute_engine",
    newest=(3, 12),
    arm_linux=False,
    pythons="Python 3.10 to 3.12 on Linux x86-64, macOS or Windows",
)
TENSORFLOW_PACKAGE = Package("tensorflow", "tensorflow", newest=(3, 13), arm_linux=True, pythons="Python 3.10 to 3.13")
LITERT_PACKAGE = Package(
    "ai-edge-litert", "ai_edge_litert", newest=(3, 14), arm_linux=True, pythons="Python 3.10 to 3.14"
)
PACKAGES = {package.name: package for package in (LCE_PACKAGE, TENSORFLOW_PACKAGE, LITERT_PACKAGE)}


def require(what: str, *packages: Package, install: str = "'edgebnn[export]'") -> None:
    """Returns if packages are installed, without importing them.

    Args:
        what: the file or command that needs them.
        packages: the packages.
        install: the argument of `pip install` that brings them.

    Raises:
        UserError: a package is missing.
    """
    for package in packages:
        if not package.missing():
            continue
        if unpublished := package.unpublished():
            raise UserError(f"{what} needs {package.name}, and {unpublished}; use {package.pythons}")
        raise UserError(f"{what} needs {package.name}; pip install {install}")


def main() -> None:
    """Prints why the package named on the command line is missing."""
    with exit_on_user_error():
        name = sys.argv[1] if len(sys.argv) == 2 else ""
        if name not in PACKAGES:
            raise UserError(f"usage: python -m edgebnn.optional {' | '.join(PACKAGES)}")
        if missing := PACKAGES[name].missing():
            print(missing)


if __name__ == "__main__":
    main()

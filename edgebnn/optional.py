"""The optional packages Larq Compute Engine and TensorFlow: where pip finds them, and the error if they are missing.

The markers in pyproject.toml say the same. `python -m edgebnn.optional NAME` prints why NAME is not installed. If it is
installed, nothing is printed.
"""

import importlib.util
import platform
import sys
from dataclasses import dataclass

from edgebnn.errors import UserError, exit_on_user_error

X86 = ("x86_64", "AMD64")


@dataclass(frozen=True)
class Package:
    """A package that is not published for every Python version and platform.

    Attributes:
        name: name of the package for pip.
        module: name of the module to import.
        newest: the newest Python version that it is published for, as (major, minor).
        arm_linux: whether it is published for Linux on ARM.
        intel_mac: whether it is published for macOS on Intel processors.
        pythons: the Python versions and platforms that it is published for, in words.
    """

    name: str
    module: str
    newest: tuple[int, int]
    arm_linux: bool
    pythons: str
    intel_mac: bool = True

    def unpublished(
        self,
        python: tuple[int, int] = sys.version_info[:2],
        system: str = sys.platform,
        machine: str = platform.machine(),
    ) -> str:
        """Returns why pip finds no package for a Python version and platform; "" if pip finds one."""
        if python > self.newest:
            return f"{self.name} has no package for Python {python[0]}.{python[1]}"
        if system == "linux" and machine not in X86 and not self.arm_linux:
            return f"{self.name} has no package for Linux on {machine}"
        if system == "darwin" and machine in X86 and not self.intel_mac:
            return f"{self.name} has no package for macOS on {machine}"
        return ""

    def missing(self) -> str:
        """Returns why the package cannot be imported; "" if it is installed."""
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
    "ai-edge-litert",
    "ai_edge_litert",
    newest=(3, 14),
    arm_linux=True,
    pythons="Python 3.10 to 3.14",
    intel_mac=False,
)
PACKAGES = {package.name: package for package in (LCE_PACKAGE, TENSORFLOW_PACKAGE, LITERT_PACKAGE)}


def require(what: str, *packages: Package, install: str = "'edgebnn[export]'") -> None:
    """Checks that packages are installed, without importing them.

    Args:
        what: the file or command that needs them.
        packages: the packages.
        install: the argument of `pip install` that installs them.

    Raises:
        UserError: a package is missing.
    """
    for package in packages:
        if not package.missing():
            continue
        if unpublished := package.unpublished():
            raise UserError(f"{what} needs {package.name}, but {unpublished}; use {package.pythons}")
        raise UserError(f"{what} needs {package.name}; pip install {install}")


def main() -> None:
    """Prints why the package that is named on the command line is missing."""
    with exit_on_user_error():
        name = sys.argv[1] if len(sys.argv) == 2 else ""
        if name not in PACKAGES:
            raise UserError(f"usage: python -m edgebnn.optional {' | '.join(PACKAGES)}")
        if missing := PACKAGES[name].missing():
            print(missing)


if __name__ == "__main__":
    main()

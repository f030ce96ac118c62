"""Marks of tests that need a package which is not published for every Python.

They skip where pip finds no package, and nowhere else: where pip finds one that is not installed, the test fails.
"""

import pytest

from edgebnn.optional import LCE_PACKAGE, TENSORFLOW_PACKAGE, Package


def _needs(*packages: Package) -> pytest.MarkDecorator:
    reason = next(filter(None, (package.unpublished() for package in packages)), "")
    return pytest.mark.skipif(bool(reason), reason=reason or "published for this Python")


needs_lce = _needs(LCE_PACKAGE, TENSORFLOW_PACKAGE)
needs_tensorflow = _needs(TENSORFLOW_PACKAGE)

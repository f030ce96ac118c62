"""edgebnn: a toolchain for binary neural networks, from training to devices."""

from importlib import metadata

__version__ = metadata.version("edgebnn")

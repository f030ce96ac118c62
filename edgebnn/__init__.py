"""Train-to-edge toolchain for binary neural networks."""

from importlib import metadata

__version__ = metadata.version("edgebnn")

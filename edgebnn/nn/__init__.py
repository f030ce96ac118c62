"""Binary layers and networks for training. PyTorch."""

from edgebnn.nn.layers import BinaryConv2d, RPReLU, RSign
from edgebnn.nn.network import Network
from edgebnn.nn.reactnet import BinaryUnit, ReActNet, ReActNetConfig

__all__ = ["BinaryConv2d", "BinaryUnit", "Network", "RPReLU", "RSign", "ReActNet", "ReActNetConfig"]

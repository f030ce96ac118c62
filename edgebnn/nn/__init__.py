"""PyTorch layers and networks: binary networks for training, and real-valued ResNets as teachers."""

from edgebnn.nn.bireal import BiRealConfig, BiRealNet, BiRealUnit, Sign
from edgebnn.nn.layers import BinaryConv2d, RPReLU, RSign
from edgebnn.nn.network import Network
from edgebnn.nn.reactnet import BinaryUnit, ReActNet, ReActNetConfig
from edgebnn.nn.resnet import ResNet, ResNetConfig

__all__ = [
    "BiRealConfig",
    "BiRealNet",
    "BiRealUnit",
    "BinaryConv2d",
    "BinaryUnit",
    "Network",
    "RPReLU",
    "RSign",
    "ReActNet",
    "ReActNetConfig",
    "ResNet",
    "ResNetConfig",
    "Sign",
]

"""Matches the outputs of a network with the classes of the data."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from edgebnn.errors import UserError, check

from .classifier import RUN_LINEAR, Classifier


class ClassOrder(NamedTuple):
    """How the classes of the data were matched with the outputs of a network.

    Attributes:
        outputs: number of the output of each class of the data (classes,).
        by: "name" if the network and the data have the same class names. "number" if class n of the data was matched
            with output n.
        warning: one line for the user, or empty.
    """

    outputs: Tensor
    by: Literal["name", "number"]
    warning: str = ""


def match_classes(classifier: Classifier, classes: Sequence[str], data: str) -> ClassOrder:
    """Returns the output of each class of the data.

    Args:
        classifier: the network. A network without class names takes the classes in their order.
        classes: class names of the data in the order of their numbers.
        data: the data, for messages.

    Raises:
        UserError: the numbers of outputs, labels and classes differ.
    """
    path, outputs, labels = classifier.path, classifier.outputs, classifier.info.labels
    if outputs != len(classes):
        if classifier.projects:
            remedy = f"the outputs look like a projection from pretraining: {RUN_LINEAR}"
        else:
            remedy = f"give the data that it classifies, or if it was pretrained only, {RUN_LINEAR}"
        raise UserError(f"{path} has {outputs} outputs and {data} has {len(classes)} classes; {remedy}")
    check(
        len(labels) in (0, outputs), f"{path} has {len(labels)} labels for {outputs} outputs; export or train it again"
    )
    if labels and set(labels) == set(classes):
        number = {label: output for output, label in enumerate(labels)}
        return ClassOrder(torch.tensor([number[name] for name in classes]), "name")
    # A class may have two names ("n01440764" and "tench"), so different names are no error.
    first = next((pair for pair in zip(labels, classes) if pair[0] != pair[1]), None)
    warning = first and (
        f"{path} and {data} name the classes differently ('{first[0]}', '{first[1]}'); they are matched by their order"
    )
    return ClassOrder(torch.arange(outputs), "number", warning or "")

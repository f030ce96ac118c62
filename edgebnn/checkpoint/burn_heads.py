"""Finds the classifiers in files of BURN's public code (Kim & Choi). Stage 2 of BURN's training starts from them.

    online_net.1.*        classifier.state_dict.*           on the student's features
    diff_branch_net.1.*   teacher_classifier.state_dict.*   on the features of the frozen ResNet-50

A training checkpoint has the names on the left. `extract_weights_for_multi.py` of the public code writes the names on
the right. Each classifier is a linear layer fc0, a BatchNorm bn0, a ReLU and a linear layer fc1.
"""

import re
from collections.abc import Iterable

from edgebnn.checkpoint.contents import Bundle

WHY = "a classifier of BURN's training, from which its stage 2 starts"

_CLASSIFIERS = {
    "online_net.1": "classifier",
    "classifier.state_dict": "classifier",
    "diff_branch_net.1": "target_classifier",
    "teacher_classifier.state_dict": "target_classifier",
}
_LAYERS = {"fc0": "0", "bn0": "1", "fc1": "3"}
_PATTERN = re.compile(
    rf"(?:.*\.)?({'|'.join(map(re.escape, _CLASSIFIERS))})\.(?:module\.)*({'|'.join(_LAYERS)})\.(\w+)"
)


def find_heads(bundles: Iterable[Bundle]) -> dict[str, tuple[Bundle, str]]:
    """Returns the bundle and the name of each classifier tensor, by its name in the methods `burn` and `burn-code`."""
    found = {}
    for bundle in bundles:
        for name in bundle.tensors:
            match = _PATTERN.fullmatch(".".join((*bundle.path, name)))
            if match:
                found[f"{_CLASSIFIERS[match[1]]}.{_LAYERS[match[2]]}.{match[3]}"] = (bundle, name)
    return found

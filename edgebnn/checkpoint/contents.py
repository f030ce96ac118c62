"""Finds the mappings of tensors in a published file, and restores names that wrappers changed.

Examples of such files:

{"state_dict": {...}, "optimizer": {...}}       one mapping of weights among others, at any depth
_orig_mod. _fsdp_wrapped_module. ...            added to names by torch.compile and FSDP
0.weight 1.weight 4.0.conv1.weight ...          nn.Sequential(*list(resnet.children())[:-1]), as lightly has it
layer2.0.shortcut.0.weight                      torchvision's downsample, in ResNets for CIFAR
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgebnn.errors import check

_TRANSPARENT = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Wrapper modules that only call the module inside."""


@dataclass(frozen=True)
class Bundle:
    """A mapping of tensors in a file.

    Attributes:
        path: the keys that lead to the mapping; () for the file's outermost mapping.
        tensors: the tensors by their usual names.
        names: the name in the file for each usual name.
    """

    path: tuple[str, ...]
    tensors: dict[str, Tensor]
    names: dict[str, str]


def find_bundles(data: Any) -> list[Bundle]:
    """Returns every mapping or list in a file's content that has tensors, from the outermost inwards."""
    bundles: list[Bundle] = []
    waiting: list[tuple[tuple[str, ...], Any]] = [((), data)]
    seen = {id(data)}
    for path, value in waiting:
        if isinstance(value, Mapping):
            items = {str(key): item for key, item in value.items()}
        else:
            items = {str(number): item for number, item in enumerate(value)} if isinstance(value, (list, tuple)) else {}
        tensors = {name: item for name, item in items.items() if isinstance(item, Tensor)}
        if tensors:
            names = _usual_names(tensors)
            bundles.append(Bundle(path, {usual: tensors[name] for usual, name in names.items()}, names))
        for name, item in items.items():
            # A file can contain the same mapping in several places, or inside itself.
            if isinstance(item, (Mapping, list, tuple)) and id(item) not in seen:
                seen.add(id(item))
                waiting.append(((*path, name), item))
    return bundles


def refuse_last_ckpt(data: Any, what: str) -> None:
    """Raises `UserError` if a file's content is the `last.ckpt` of a run of edgebnn."""
    if not isinstance(data, Mapping) or "pytorch-lightning_version" not in data:
        return
    state = data.get("state_dict")
    names = [str(key) for key in state] if isinstance(state, Mapping) else []
    # Other code also has an attribute `network`. The configuration and the binary units show that the run is ours.
    ours = isinstance(data.get("config"), str) and any(name.startswith("network.") for name in names)
    ours = ours or "network.units.0.conv.weight" in names
    check(
        not ours,
        f"{what} is the last.ckpt of a run, which is the state of its training; give model.safetensors beside it",
    )


def _usual_names(names: Iterable[str]) -> dict[str, str]:
    """Returns the name in the file for each usual name."""
    found: dict[str, str] = {}
    for name in names:
        parts = [part for part in name.split(".") if part not in _TRANSPARENT]
        usual = re.sub(r"(^|\.)(layer[1-4]\.\d+)\.shortcut\.", r"\1\2.downsample.", ".".join(parts))
        # If two names differ only in a wrapper, both are kept.
        found[name if usual in found else usual] = name
    return _named_children(found)


def _named_children(names: dict[str, str]) -> dict[str, str]:
    """Renames the numbered children of a ResNet to torchvision's names."""
    stages: dict[str, list[int]] = defaultdict(list)
    for name in names:
        match = re.fullmatch(r"((?:[^.]+\.)*)(\d{1,3})\.0\.conv1\.weight", name)
        if match:
            stages[match[1]].append(int(match[2]))
    children: dict[str, str] = {}
    for prefix, numbers in stages.items():
        first = min(numbers)
        # A ReLU and a max pool may be between the BatchNorm and the first stage.
        if sorted(numbers) == list(range(first, first + 4)) and first > 1 and f"{prefix}0.weight" in names:
            children |= {f"{prefix}0": f"{prefix}conv1", f"{prefix}1": f"{prefix}bn1"}
            children |= {f"{prefix}{first + stage}": f"{prefix}layer{stage + 1}" for stage in range(4)}
    pattern = re.compile(rf"^({'|'.join(map(re.escape, children))})(?=\.)")
    return {pattern.sub(lambda match: children[match[1]], name): file for name, file in names.items()}

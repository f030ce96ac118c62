"""Why a network has no use for a tensor of its file, told from the tensor's name."""

import re

COUNTERS = ("total_ops", "total_params", "n_averaged")
"""Last parts of the names under which a profiler (thop) and `AveragedModel` count; any module may have them."""

PROJECTOR = "a projector of a kind that edgebnn's networks do not have"
HEAD = "a head beside the network"
_AVERAGED = "averaged weights (EMA)"
_KEY_ENCODER = "the key encoder, which follows the trained network by momentum"
_FOLLOWING = "a network that follows the trained one by momentum"
_TEACHER = "a teacher"
_NETWORK = "(encoder|backbone|network|net|model)"

_REASONS = (
    (r"total_ops|total_params", "a profiler's counter"),
    (r"n_averaged|num_updates|steps?|global_step|iteration|epoch", "a counter"),
    (r"(\w+_)?ema(_\w+)?|avg_\w+|averaged?(_\w+)?|averaging_\w+|swa(_\w+)?|shadow(_\w+)?", _AVERAGED),
    (r"optim\w*|\w+_optimizer|lr_schedulers?|schedulers?|\w*scaler|amp", "state of the optimizer"),
    (r"callbacks|loops|rng\w*|\w+_rng_states?", "state of the training run"),
    (rf"{_NETWORK}_k|key_encoder", _KEY_ENCODER),
    (r"encoder_m|momentum\w*|\w+_momentum|target\w*", _FOLLOWING),
    (rf"teacher\w*|\w+_teacher|{_NETWORK}_t|diff_branch_net", _TEACHER),
    (r"\w*queue\w*|memory_bank", "keys that contrastive learning remembers"),
    (r"predict\w*|pred_\w+|\w+_predictor", "a predictor, which training alone uses"),
    (r"prototypes", "prototypes, which training alone uses"),
    (r"proj\w*|\w+_proj\w*|neck|mlp", PROJECTOR),
    (r"\w*classifier\w*|fc_cls|\w*head\w*|linear|fc", HEAD),
    (r"\w*loss\w*|criterion|center", "part of the loss"),
)
"""Patterns of a whole part of a name, between dots, in capitals or not, and what such a name says; the first that is
found counts."""


def explain(name: str) -> str | None:
    """Returns what a training run uses the tensors called `name` for, None if the name does not say."""
    return next((why for part, why in _REASONS if re.search(rf"(^|\.)({part})(\.|$)", name, re.IGNORECASE)), None)


def is_averaged(name: str) -> bool:
    """Returns whether the name says that a network is the running average (EMA) of another."""
    return explain(name) == _AVERAGED


def is_aside(name: str) -> bool:
    """Returns whether the name says that a network is another than the one that was trained."""
    return explain(name) in (_AVERAGED, _KEY_ENCODER, _FOLLOWING, _TEACHER)

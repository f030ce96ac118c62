"""Explains, from the name of a tensor, why a network does not use it."""

import re

COUNTERS = ("total_ops", "total_params", "n_averaged")
"""The last parts of names of counters by a profiler (thop) and by `AveragedModel`. Any module can have them."""

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
    (r"\w*queue\w*|memory_bank", "the memory of contrastive learning"),
    (r"predict\w*|pred_\w+|\w+_predictor", "a predictor, which only training uses"),
    (r"prototypes", "prototypes, which only training uses"),
    (r"proj\w*|\w+_proj\w*|neck|mlp", PROJECTOR),
    (r"\w*classifier\w*|fc_cls|\w*head\w*|linear|fc", HEAD),
    (r"\w*loss\w*|criterion|center", "part of the loss"),
)
"""Patterns of a part of a name between two dots, with the reason that such a name gives. The first match counts. Upper
and lower case are equal."""


def explain(name: str) -> str | None:
    """Returns for what training uses tensors of this name, or None if the name does not show it."""
    return next((why for part, why in _REASONS if re.search(rf"(^|\.)({part})(\.|$)", name, re.IGNORECASE)), None)


def is_averaged(name: str) -> bool:
    """Returns whether a name shows that a network is the running average (EMA) of another network."""
    return explain(name) == _AVERAGED


def is_aside(name: str) -> bool:
    """Returns whether a name shows that a network is not the trained network."""
    return explain(name) in (_AVERAGED, _KEY_ENCODER, _FOLLOWING, _TEACHER)

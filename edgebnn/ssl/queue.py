"""MoCo's queue of keys (He et al., CVPR 2020, section 3.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.errors import UserError


class KeyQueue(nn.Module):
    """The last `size` keys, as a ring of unit vectors (size, dim). It starts with random vectors.

    Both buffers are part of the state, so a resumed run has the same negatives. Any number of keys can be pushed at
    once. The ring wraps within a batch without dropping keys.
    """

    keys: Tensor
    head: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"a queue of {size} keys contains no negatives; use a size of at least 1")
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("head", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replaces the oldest keys by new keys (N, dim), which are normalised to length 1 here."""
        size = len(self.keys)
        # With more keys than places, the first keys would be overwritten at once.
        skipped = max(0, len(keys) - size)
        places = (self.head + torch.arange(skipped, len(keys), device=keys.device)) % size
        self.keys[places] = F.normalize(keys[skipped:].to(self.keys.dtype), dim=1)
        self.head.copy_((self.head + len(keys)) % size)


def check_queue(size: int, batch: int) -> None:
    """Checks that whole batches of keys fill a queue evenly, as in MoCo.

    Otherwise the queue would contain a part of a batch. With a batch larger than the queue, some keys would never be in
    it.

    Raises:
        UserError: the size is no multiple of the batch.
    """
    if size >= batch >= 1 and size % batch == 0:
        return
    # The nearest multiple, but at least one batch.
    queue = max(batch, (size + batch // 2) // batch * batch)
    batches = [number for number in range(1, min(batch, size) + 1) if size % number == 0]
    raise UserError(
        f"a queue of {size} keys does not hold whole batches of {batch}; "
        f"use a queue of {queue} or data.batch_size {batches[-1] if batches else 1}"
    )

"""MoCo's queue of keys (He et al., CVPR 2020, section 3.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.errors import UserError


class KeyQueue(nn.Module):
    """The last `size` keys, a ring of unit vectors (size, dim) that starts out random.

    Both buffers are part of the state, so a resumed run goes on with the same negatives. Any number of
    keys may be pushed at once: the ring wraps in the middle of a batch and no key of it is dropped
    (MoCo's code requires the size to divide by the batch).
    """

    keys: Tensor
    head: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"a queue of {size} keys holds no negatives; use a size of at least 1")
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("head", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replaces the oldest keys by `keys` (N, dim), oldest first, normalised to length 1 here."""
        size = len(self.keys)
        # More keys than places: the first of them would be overwritten at once.
        skipped = max(0, len(keys) - size)
        places = (self.head + torch.arange(skipped, len(keys), device=keys.device)) % size
        self.keys[places] = F.normalize(keys[skipped:], dim=1).to(self.keys.dtype)
        self.head.copy_((self.head + len(keys)) % size)

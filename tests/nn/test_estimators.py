import math

import pytest
import torch

from edgebnn.errors import UserError
from edgebnn.nn.estimators import binarize

# On each side of every corner of the three functions.
POINTS = [-3.0, -1.0001, -1.0, -0.9999, -0.5, -1e-30, -0.0, 0.0, 1e-30, 0.5, 0.9999, 1.0, 1.0001, 3.0]


def polynomial(x: float) -> float:
    """Bi-Real-Net, equation 5, piece by piece."""
    if -1 <= x < 0:
        return 2 + 2 * x
    if 0 <= x < 1:
        return 2 - 2 * x
    return 0.0


DERIVATIVES = {
    "polynomial": polynomial,
    "clipped": lambda x: 1.0 if abs(x) <= 1 else 0.0,
    "identity": lambda x: 1.0,
}


@pytest.mark.parametrize("gradient", list(DERIVATIVES))
def test_value_and_pseudo_gradient_equal_their_formulas(gradient: str) -> None:
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    out = binarize(x, gradient)  # type: ignore[arg-type]
    assert out.tolist() == [-1.0 if value < 0 else 1.0 for value in POINTS]
    upstream = torch.arange(1, len(POINTS) + 1, dtype=torch.float64)
    out.backward(upstream)
    expected = torch.tensor([DERIVATIVES[gradient](value) for value in POINTS], dtype=torch.float64) * upstream
    torch.testing.assert_close(x.grad, expected, rtol=1e-15, atol=1e-15)


def test_nan_is_minus_one() -> None:
    assert binarize(torch.tensor([math.nan, math.inf, -math.inf]), "clipped").tolist() == [-1, 1, -1]


def test_an_unknown_gradient_is_named() -> None:
    with pytest.raises(UserError, match="Unknown gradient 'ste'. Valid gradients are polynomial, clipped, identity"):
        binarize(torch.zeros(1), "ste")  # type: ignore[arg-type]

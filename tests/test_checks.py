import math

import numpy as np
import pytest
import torch

from nettrain.checks import check_range


@pytest.mark.parametrize(
    "interval, inside, outside",
    [
        ("[0, 1]", [0, 0.5, 1, True], [-1e-9, 1.0000001, math.nan, math.inf]),
        ("(0, 1]", [1e-300, 1], [0, -0.0, 1.5, math.nan]),
        ("[0, 1)", [0, -0.0, 0.999], [1, math.nan]),
        ("(0, inf)", [1e-300, 1e300], [0, math.inf, -1, math.nan]),
        ("[1, inf]", [1, math.inf], [0.5, -math.inf]),
        ("[-2, 300]", [-2, 300, np.float32(7), torch.tensor(7.0)], [-3, 301, np.float64(-2.5)]),
    ],
)
def test_the_ends_of_an_interval_are_as_its_brackets_say(interval, inside, outside):
    for value in inside:
        check_range("x", value, interval)
    for value in outside:
        with pytest.raises(ValueError) as refused:
            check_range("x", value, interval)
        assert str(refused.value) == f"x={value} is outside {interval}"


def test_a_remark_ends_the_message():
    with pytest.raises(ValueError, match=r"^n=20 is outside \[1, 16\], for 2\^n are made$"):
        check_range("n", 20, "[1, 16]", "for 2^n are made")

"""Augmentation: random changes of training images, x [n, c, h, w], that keep their class.

The functions do what they are told, image by image; `Augment` tells them, at random. Between pixels
they interpolate linearly; what comes from outside the image has the value `fill`. Coordinates are
computed in float32 for pictures of half precision and of bytes (uint8, which are rounded again);
results have the dtype of x. Other integers are refused by a TypeError, and bytes where noise is
added, whose std would have no unit.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nettrain import draws
from nettrain.checks import check_range
from nettrain.draws import Keyed
from nettrain.precision import check_floats, wide


def warp(x: Tensor, A: Tensor, b: Tensor, *, fill: float = 0.0) -> Tensor:
    """yᵢ(p) = xᵢ(Aᵢ p + bᵢ) for each pixel p = (row, column), measured from the image's centre.

    A [n, 2, 2], b [n, 2] in pixels. Bilinear: a point between four pixels is their weighted mean.
    A NaN in A or b gives NaN, in bytes 0. Raises ValueError for another shape of x and for bytes
    with a fill outside [0, 255].
    """
    n, c, h, w = _check(x, fill).shape
    image = wide(x)
    like = dict(dtype=image.dtype, device=x.device)
    rows, columns = (torch.arange(m, **like) - (m - 1) / 2 for m in (h, w))
    p = torch.stack([rows.repeat_interleave(w), columns.repeat(h)])  # [2, hw]
    q = A.to(image.dtype) @ p + b.to(image.dtype)[:, :, None]
    r = (q[:, 0] + (h - 1) / 2).clamp(-1, h)  # counted from the first pixel
    s = (q[:, 1] + (w - 1) / 2).clamp(-1, w)
    r0, s0 = r.floor(), s.floor()
    padded = F.pad(image, [1, 2, 1, 2], value=fill).flatten(2)  # all that is outside is this frame
    first = (r0.nan_to_num(-1).long() + 1) * (w + 3) + s0.nan_to_num(-1).long() + 1

    def pixel(down, right):
        place = first + down * (w + 3) + right
        return padded.gather(2, place[:, None].expand(-1, c, -1))

    u, v = (r - r0)[:, None], (s - s0)[:, None]
    top = (1 - v) * pixel(0, 0) + v * pixel(0, 1)
    bottom = (1 - v) * pixel(1, 0) + v * pixel(1, 1)
    return _like(x, (1 - u) * top + u * bottom).view(n, c, h, w)


def turn(angle: Tensor, factor: Tensor) -> Tensor:
    """Where a picture turned by angles [n] (degrees) and zoomed by factors [n] looks: A [n, 2, 2].

    A = (cos a, sin a; −sin a, cos a) / factor, the inverse of what happens to the picture.
    """
    a = wide(angle) * math.pi / 180
    cos, sin = torch.cos(a) / factor, torch.sin(a) / factor
    return torch.stack([cos, sin, -sin, cos], -1).view(-1, 2, 2)


def rotate(x: Tensor, angle: Tensor, *, fill: float = 0.0) -> Tensor:
    """Rotate each image about its centre, counter-clockwise by angle [n] in degrees."""
    return warp(x, turn(angle, torch.ones_like(angle)), angle.new_zeros(len(x), 2), fill=fill)


def flip(x: Tensor, flipped: Tensor, axis: int = -1) -> Tensor:
    """Mirror the images where flipped [n] is true: left to right, or with axis −2 upside down."""
    return torch.where(flipped.view(-1, 1, 1, 1), x.flip(axis), x)


def zoom(x: Tensor, factor: Tensor, *, fill: float = 0.0) -> Tensor:
    """Enlarge each image about its centre by factor [n] > 0; below 1 it shrinks."""
    return warp(x, turn(torch.zeros_like(factor), factor), factor.new_zeros(len(x), 2), fill=fill)


def shift(x: Tensor, by: Tensor, *, fill: float = 0.0) -> Tensor:
    """Move each image by [n, 2] pixels, down and to the right; fractions are interpolated."""
    return warp(x, torch.eye(2, device=x.device).expand(len(x), 2, 2), -wide(by), fill=fill)


def noise(x: Tensor, std: float, key: Tensor) -> Tensor:
    """y = x + std · z with z ~ N(0, 1) for each pixel, drawn from a key.  TypeError for bytes."""
    if getattr(x, "dtype", None) == torch.uint8:
        raise TypeError(f"x is {x.dtype}; give floating point numbers, as x.float() / 255")
    return (wide(check_floats("x", x)) + std * draws.normal(key, x.shape)).to(x.dtype)


def mixup(x: Tensor, y: Tensor, share: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """λ x + (1 − λ) x′ and λ y + (1 − λ) y′, of each example and its partner: Zhang et al. 2018.

    y      soft labels [n, classes]
    share  λ [n], between 0 and 1; partner [n]: the number of the example to mix with

    Raises ValueError for labels that are class numbers.
    """
    if y.ndim != 2:
        raise ValueError(f"y has shape {list(y.shape)}; give soft labels [n, classes]")
    a = share.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    b = share.view(-1, 1).to(y.dtype)
    return a * x + (1 - a) * x[partner], b * y + (1 - b) * y[partner]


def _check(x: Tensor, fill: float) -> Tensor:
    if getattr(x, "dtype", None) != torch.uint8:
        check_floats("x", x)
    else:
        check_range("fill", fill, "[0, 255]", f"the values of {x.dtype}")
    if x.ndim != 4:
        raise ValueError(f"x has shape {list(x.shape)}; give pictures [n, c, h, w]")
    return x


def _like(x: Tensor, y: Tensor) -> Tensor:
    """y in the dtype of x; where that is bytes, rounded."""
    return y.nan_to_num(0).round().to(x.dtype) if x.dtype == torch.uint8 else y.to(x.dtype)


class Augment(Keyed):
    """Change each image of a training batch at random; at evaluation y = x.

        Sequential(Augment(rotate=15, shift=2), net)

    rotate  by an angle from U(−rotate, rotate), in degrees; 0 ≤ rotate ≤ 180
    flip    left to right, with this probability
    zoom    by a factor whose logarithm is from U(−ln zoom, ln zoom); zoom ≥ 1
    shift   by U(−shift, shift) pixels, down and to the right; shift ≥ 0
    noise   standard deviation of a Gaussian; noise ≥ 0
    fill    value of what comes from outside, as the background's

    All numbers are draws of (run's seed, training passes so far, layer), see `draws.Keyed`.
    Rotation, zoom and shift are one `warp`, so that a picture is interpolated once. Raises
    ValueError for a strength outside its range.
    """

    def __init__(
        self,
        *,
        rotate: float = 0.0,
        flip: float = 0.0,
        zoom: float = 1.0,
        shift: float = 0.0,
        noise: float = 0.0,
        fill: float = 0.0,
    ):
        super().__init__()
        strengths = {"rotate": rotate, "flip": flip, "zoom": zoom, "shift": shift, "noise": noise}
        for name, value in strengths.items():
            check_range(name, value, STRENGTHS[name])
        if not math.isfinite(fill):
            raise ValueError(f"fill={fill} must be a finite number")
        self.rotate, self.flip, self.zoom, self.shift = rotate, flip, zoom, shift
        self.noise, self.fill = noise, fill

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        key = self.next_key()
        angle, log_zoom, down, right, coin = draws.uniform(key, torch.Size([5, len(x)]))
        if self.flip:
            x = flip(x, coin < self.flip)
        if self.rotate or self.shift or self.zoom != 1:
            factor = self.zoom ** (2 * log_zoom - 1)
            by = self.shift * (2 * torch.stack([down, right], 1) - 1)
            A = turn(self.rotate * (2 * angle - 1), factor)
            b = -(A @ by[:, :, None])[:, :, 0]
            x = warp(x, A, b, fill=self.fill)
        if self.noise:
            x = noise(x, self.noise, torch.cat([key, torch.ones_like(key[:1])]))
        return x

    def extra_repr(self) -> str:
        strengths = {k: getattr(self, k) for k in STRENGTHS}
        off = {"zoom": 1}
        return ", ".join(f"{k}={v}" for k, v in strengths.items() if v != off.get(k, 0))


STRENGTHS = {
    "rotate": "[0, 180]",
    "flip": "[0, 1]",
    "zoom": "[1, inf)",
    "shift": "[0, inf)",
    "noise": "[0, inf)",
}

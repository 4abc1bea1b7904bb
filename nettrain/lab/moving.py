"""Figures that move, in a page without a kernel: frames behind a slider, and races."""

import base64
import html
import io
import json
import os
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from nettrain.lab.figures import COLOURS, STYLES


def frames(
    draw: Callable[[Axes, object], None],
    values: Sequence,
    name: str,
    alt: str | Callable[[object], str],
    *,
    start: int = 0,
    panels: tuple[int, int] = (1, 1),
    figsize: tuple[float, float] = (6.0, 3.6),
    dpi: int = 90,
    labels: Sequence[str] | None = None,
    caption: str = "",
    interval: int = 150,
):
    """A figure that the reader moves: one precomputed picture per value behind a native slider.

    draw      (axes, value) -> None, draws one picture; axes is an array if there are panels
    values    what the slider runs through; name: its label; labels: how values are written
    alt       alt text of a picture: a sentence, or value -> sentence
    interval  milliseconds a picture when played

    Works without a kernel, a network or any other file; in Jupyter and Colab, where there is a
    kernel, a picture is drawn when the slider asks for it. Raises ValueError for no values.
    """
    from IPython.display import HTML

    values = list(values)
    if not values:
        raise ValueError("frames needs at least one value")
    labels = [str(v) for v in values] if labels is None else list(labels)
    if _has_kernel():
        return _live(draw, values, labels, name, start, panels, figsize)
    images = []
    for i, value in enumerate(values):
        fig, ax = plt.subplots(*panels, figsize=figsize)
        draw(ax, value)
        file = io.BytesIO()
        fig.savefig(file, format="webp", dpi=dpi, pil_kwargs={"lossless": True, "method": 6})
        plt.close(fig)
        text = alt(value) if callable(alt) else f"{alt} {name}: {labels[i]}."
        hidden = "" if i == start else " hidden"
        data = base64.b64encode(file.getvalue()).decode()
        images.append(
            f'<img alt="{html.escape(text)}" src="data:image/webp;base64,{data}"{hidden}>'
        )
    text = {"name": name, "caption": caption, "label": labels[start], "show": _SHOW}
    text = {key: html.escape(value) for key, value in text.items()}
    text["labels"] = html.escape(json.dumps(labels))
    text["button"], last, images = _BUTTON, len(values) - 1, "".join(images)
    return HTML(_FRAMES.format(**text, start=start, last=last, interval=interval, images=images))


def _has_kernel() -> bool:
    """Whether the figure is shown in a live notebook; the book's pages are read without one."""
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel") and "NETTRAIN_BUILD" not in os.environ


def _live(draw, values, labels, name, start, panels, figsize):
    """The same figure as an ipywidgets slider, drawn by the kernel."""
    from ipywidgets import SelectionSlider, interactive

    def show(index):
        draw(plt.subplots(*panels, figsize=figsize)[1], values[index])
        plt.show()

    options = [(label, i) for i, label in enumerate(labels)]
    slider = SelectionSlider(
        options=options, value=start, description=name, continuous_update=False,
        style={"description_width": "initial"},
    )  # fmt: skip
    return interactive(show, index=slider)


_SHOW = """
const f = this.closest('.nt-frames'), text = JSON.parse(f.dataset.labels)[this.value];
f.querySelectorAll('img').forEach((img, i) => { img.hidden = i != this.value; });
f.querySelector('output').value = text;
this.setAttribute('aria-valuetext', text);
"""


_RUNS, _RESTS = "M1.5 1h2.5v8H1.5zM6 1h2.5v8H6z", "M2 .5 9.5 5 2 9.5z"  # two bars, a triangle


# signs are drawn, since a font may lack them or show them as emoji
_PLAY = f"""
const f = this.closest('figure'), s = f.querySelector('input');
const face = (word, d) => {{
  this.setAttribute('aria-label', word); this.querySelector('path').setAttribute('d', d);
}};
const stop = () => {{ clearInterval(f.timer); f.timer = null; face('Play', '{_RESTS}'); }};
if (f.timer) {{ stop(); return; }}
if (s.value == s.max) s.value = -1;
face('Pause', '{_RUNS}');
f.timer = setInterval(() => {{
  if (+s.value >= +s.max) {{ stop(); return; }}
  s.value = +s.value + 1; s.dispatchEvent(new Event('input'));
}}, +f.dataset.interval);
"""


_BUTTON = f"""<button type="button" aria-label="Play" onclick="{html.escape(_PLAY)}"><svg
 viewBox="0 0 10 10" width="14" height="14" fill="currentColor" aria-hidden="true"><path
 d="{_RESTS}"/></svg></button>"""


_FRAMES = """<figure class="nt-frames" data-labels="{labels}" data-interval="{interval}">
<div class="nt-controls">{button}
<label>{name} <input type="range" min="0" max="{last}" value="{start}" aria-valuetext="{label}"
 oninput="{show}"></label> <output>{label}</output></div>
<div>{images}</div><figcaption>{caption}</figcaption></figure>"""


def race(
    surface: tuple[np.ndarray, np.ndarray, np.ndarray],
    paths: dict[str, np.ndarray],
    alt: str,
    *,
    levels: Sequence[float] | int = 14,
    shown: Sequence[str] = (),
    goal: tuple[float, float] | None = None,
    figsize: tuple[float, float] = (6.4, 4.0),
    caption: str = "",
    interval: int = 80,
):
    """Paths on the contours of a surface, to be played, with a box to tick for each path.

    surface  x [m, n], y [m, n] and heights z [m, n]; the axes end where x and y do
    paths    name -> points [T + 1, 2], all of the same length; NaN where a path has diverged
    levels   of the contours; shown: the paths ticked at first (default: all); goal: marked by +

    The page draws given points and computes none. Works without a kernel, a network or any other
    file. Raises ValueError for no paths or unequal lengths.
    """
    from IPython.display import HTML

    if len({len(p) for p in paths.values()}) != 1:
        raise ValueError("race needs one or more paths of the same length")
    x, y, z = (np.asarray(a) for a in surface)
    fig, ax = plt.subplots(figsize=figsize)
    ax.contour(x, y, z, levels, colors="0.75", linewidths=0.7)
    if goal:
        ax.plot(*goal, "k+", ms=11)
    ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    file = io.BytesIO()
    fig.savefig(file, format="webp", dpi=110, pil_kwargs={"lossless": True, "method": 6})
    width, height = fig.get_size_inches() * 72
    (left, bottom), (right, top) = ax.get_position().get_points() * (width, height)
    lines, boxes = [], []
    for k, (name, points) in enumerate(paths.items()):
        points = np.asarray(points, dtype=float)
        lost = np.cumsum(~np.isfinite(points).all(1)) > 0  # a diverged path stays where it was
        points = points[np.where(lost, max(lost.argmax() - 1, 0), np.arange(len(points)))]
        at = ax.transData.transform(points) * 72 / fig.dpi
        at = np.clip(np.stack([at[:, 0], height - at[:, 1]], 1), -9999, 9999)
        text = " ".join(f"{u:.1f},{v:.1f}" for u, v in at)
        colour, on = COLOURS[k % len(COLOURS)], name in (shown or paths)
        dashes = " ".join(map(str, STYLES[(k + k // len(COLOURS)) % len(STYLES)]))
        u, v = at[-1]
        lines.append(
            f'<g data-name="{name}" data-path="{text}"{"" if on else " hidden"}><polyline fill='
            f'"none" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dashes}" '
            f'points="{text}"/><circle r="3.5" fill="{colour}" cx="{u:.1f}" cy="{v:.1f}"/></g>'
        )
        boxes.append(
            f'<label><input type="checkbox" value="{name}" oninput="{html.escape(_TICK)}"'
            f'{" checked" if on else ""}> {name} <svg viewBox="0 0 30 4" width="30" height="4" '
            f'aria-hidden="true"><path d="M0 2h30" stroke="{colour}" stroke-width="2.5" '
            f'stroke-dasharray="{dashes}"/></svg></label>'
        )
    plt.close(fig)
    return HTML(
        _RACE.format(
            last=at.shape[0] - 1, interval=interval, button=_BUTTON, caption=caption,
            move=html.escape(_MOVE), boxes="\n".join(boxes), lines="".join(lines),
            alt=html.escape(alt), image=base64.b64encode(file.getvalue()).decode(),
            width=f"{width:g}", height=f"{height:g}", left=f"{left:.1f}", top=f"{height - top:.1f}",
            inner=f"{right - left:.1f}", outer=f"{top - bottom:.1f}",
        )
    )  # fmt: skip


_MOVE = """
const f = this.closest('figure'), t = +this.value;
f.querySelectorAll('g[data-path]').forEach(g => {
  const p = g.dataset.path.split(' ').slice(0, t + 1), c = g.querySelector('circle');
  g.querySelector('polyline').setAttribute('points', p.join(' '));
  [c.cx.baseVal.value, c.cy.baseVal.value] = p[t].split(',').map(Number);
});
f.querySelector('output').value = t;
"""


_TICK = """
this.closest('figure').querySelector(`g[data-name="${this.value}"]`)
  .toggleAttribute('hidden', !this.checked);
"""


_RACE = """<figure class="nt-frames nt-race" data-interval="{interval}">
<div class="nt-controls">{button}
<label>step <input type="range" min="0" max="{last}" value="{last}" oninput="{move}"></label>
<output>{last}</output></div>
<fieldset class="nt-choice"><legend>Show</legend>
{boxes}</fieldset>
<svg role="img" aria-label="{alt}" viewBox="0 0 {width} {height}">
<image href="data:image/webp;base64,{image}" width="{width}" height="{height}"/>
<svg x="{left}" y="{top}" width="{inner}" height="{outer}" viewBox="{left} {top} {inner} {outer}">
{lines}</svg></svg>
<figcaption>{caption}</figcaption></figure>"""

"""Pictures and plots as text that a page can hold: data URIs and inline SVG.

Plots have no background, and their lines and letters take the colour of the text around them, so
they are at home on a light page and on a dark one.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from PIL import Image
from torch import Tensor

__all__ = [
    "animation",
    "curve_chart",
    "fan_chart",
    "heat_map",
    "loss_curve",
    "path_map",
    "picture",
    "plan_map",
    "scatter",
    "scatter_axes",
]

_MOST = 512  # rows or tokens of a plan that are drawn, which has some hundred pixels for them

INK = "#010203"  # stands for the colour of the text around
BLUE = "#4a8fe0"  # reads well on white and on black
LINES = (BLUE, "#e08a3c", "#4fae6a", "#d9534f", "#9a78d0", "#8c8c8c", "#c9a227", "#3fb5b5")
SIDE = 64  # longer sides are reduced to this
LOSSLESS = 32  # pictures with longer sides are JPEG
POINTS, BINS = 2000, 500  # of a loss curve: as it is up to so many, else in bins


def picture(pixels: Tensor, levels: int, side: int = SIDE) -> str:
    """A picture as a data URI: PNG up to 32 x 32 pixels, else JPEG of at most `side` x `side`.

    Args:
        pixels: integers 0 .. levels - 1, shape (C, H, W); with C = 3 it is RGB, else its first
            channel is shown.
        levels: number of values of a pixel, >= 2.
        side: the most pixels of a side; larger pictures are made smaller.
    """
    scaled = (pixels.float() * (255 / (levels - 1))).round().to(torch.uint8)
    rows = scaled.permute(1, 2, 0).numpy() if len(scaled) == 3 else scaled[0].numpy()
    image = Image.fromarray(np.ascontiguousarray(rows))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(image.size) <= LOSSLESS:
        kind = "png"
        image.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.save(buffer, "JPEG", quality=88, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def heat_map(times: Sequence[float], shares: Tensor, bound: float) -> str:
    """A distribution over denoising steps, as SVG: time falls to the right, colour is a share.

    Args:
        times: edges of the steps, falling, N + 1 of them.
        shares: per step and bin, shape (N, bins), as `bit_histogram` returns them.
        bound: the bins cover -bound .. bound.
    """
    figure = Figure((4.1, 2.9), layout="constrained")
    axes = figure.add_subplot()
    edges = torch.linspace(-bound, bound, shares.shape[1] + 1)
    mesh = axes.pcolormesh(
        np.asarray(times),
        edges.numpy(),
        shares.T.clamp_min(1e-4).numpy(),
        norm=LogNorm(1e-4, 1),
        cmap="viridis",
        rasterized=True,
    )
    axes.set(xlabel="time t", ylabel="value", xlim=(max(times), min(times)))
    bar = figure.colorbar(mesh, pad=0.02, aspect=30)
    bar.ax.set_title("share", fontsize=8, color=INK)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    return _svg(figure, axes)


def plan_map(times: Tensor, *, small: bool = False) -> str:
    """The times of tokens after each step, as SVG: columns are tokens, and steps go down.

    Args:
        times: shape (N, T), in [0, 1].
        small: to stand beside others, without a bar that says which colour is which time.
    """
    figure = Figure((2.3, 2.0) if small else (4.1, 2.9), layout="constrained")
    axes = figure.add_subplot()
    rows, tokens = times.shape
    edges = [np.linspace(0, size, min(size, _MOST) + 1) for size in (rows, tokens)]
    shown = times[edges[0][:-1].astype(int)][:, edges[1][:-1].astype(int)].flip(0).numpy()
    mesh = axes.pcolormesh(edges[1], edges[0], shown, vmin=0, vmax=1, cmap="viridis")
    mesh.set_rasterized(True)
    axes.set_yticks([rows, rows - rows // 2, 0], ["0", f"{rows // 2:,}", f"{rows:,}"])
    axes.set(xlabel="token", ylabel="step", xlim=(0, tokens), ylim=(0, rows))
    axes.xaxis.set_major_locator(MaxNLocator(4 if small else 8, integer=True))
    if not small:
        bar = figure.colorbar(mesh, pad=0.02, aspect=30)
        bar.ax.set_title("time", fontsize=8, color=INK)
        bar.ax.tick_params(colors=INK, labelsize=8)
        bar.outline.set_visible(False)
    return _svg(figure, axes)


def fan_chart(known: Tensor, truth: Tensor | None, paths: Tensor, title: str) -> str:
    """Sampled paths of one column, as SVG: median, 50 % and 90 % of them, and three of them.

    Args:
        known: what went before, shape (T,).
        truth: what came, shape (H,), or None.
        paths: shape (P, H).
        title: above it.
    """
    figure = Figure((3.5, 2.3), layout="constrained")
    axes = figure.add_subplot()
    past, ahead = np.arange(1 - len(known), 1), np.arange(0, paths.shape[1] + 1)
    last = known[-1:].double()
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]).double()
    ranks = torch.quantile(paths.double(), levels, dim=0)
    fan = torch.cat((last.expand(5, 1), ranks), 1).numpy()
    for low, high, label, alpha in ((0, 4, "90 %", 0.22), (1, 3, "50 %", 0.38)):
        axes.fill_between(
            ahead, fan[low], fan[high], color=BLUE, alpha=alpha, linewidth=0, label=label
        )
    for path in paths[:3].double():
        axes.plot(ahead, torch.cat((last, path)).numpy(), color=BLUE, alpha=0.5, linewidth=0.6)
    axes.plot(ahead, fan[2], color=BLUE, linewidth=1.6, label="median")
    line = known if truth is None else torch.cat((known, truth))
    axes.plot(
        np.arange(past[0], past[0] + len(line)), line.numpy(), color=INK, linewidth=1, label="real"
    )
    axes.axvline(0, color=INK, alpha=0.3, linewidth=0.6)
    axes.set_title(title, fontsize=9, color=INK, parse_math=False)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    # Below the axes: within them it would lie on what is known.
    figure.legend(frameon=False, labelcolor=INK, fontsize=7, ncols=4, loc="outside lower center")
    return _svg(figure, axes)


def path_map(
    paths: Tensor,
    title: str,
    *,
    walls: Tensor | None = None,
    driven: Tensor | None = None,
    goal: Tensor | None = None,
) -> str:
    """Sampled paths in the plane from one start, as SVG: colour is time, a line what came of it.

    Args:
        paths: shape (P, H, 2), the start first.
        title: above it.
        walls: bool, shape (rows, columns), unit cells around the origin, the first row on top.
        driven: the path that was taken, shape (T, 2).
        goal: shape (2,).
    """
    figure = Figure((3.3, 3.0), layout="constrained")
    axes = figure.add_subplot()
    if walls is not None:
        rows, columns = walls.shape
        box = (-columns / 2, columns / 2, -rows / 2, rows / 2)
        shade = np.zeros((rows, columns, 4))
        shade[..., 3] = 0.35 * walls.numpy()
        shade[..., :3] = 0.5
        axes.imshow(shade, extent=box, interpolation="nearest")
    for path in paths.numpy():
        pieces = LineCollection(
            [path[i : i + 2] for i in range(len(path) - 1)],
            array=np.arange(len(path) - 1),
            cmap="viridis",
            linewidth=0.9,
            alpha=0.8,
            rasterized=True,
        )
        axes.add_collection(pieces)
    axes.autoscale_view()
    bar = figure.colorbar(pieces, pad=0.02, aspect=30)
    bar.ax.set_title("step", fontsize=8, color=INK)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_visible(False)
    if driven is not None:
        axes.plot(*driven.T.numpy(), color=INK, linewidth=1.3)
    axes.plot(*paths[0, 0].numpy(), "o", color=INK, markersize=4)
    if goal is not None:
        axes.plot(*goal.numpy(), "*", color="#d9534f", markersize=11)
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=9, color=INK)
    return _svg(figure, axes)


def scatter(
    values: Tensor, title: str, groups: Tensor | None = None, *, named: bool = False
) -> str:
    """Points in the plane, as SVG, in a colour for each group.

    Args:
        values: shape (N, D); the first two coordinates are shown.
        title: above it.
        groups: int64, shape (N,).
        named: put the number of each group where the mean of its points is.
    """
    axes = scatter_axes(values, title, groups, named=named)
    assert isinstance(axes.figure, Figure)
    return _svg(axes.figure, axes)


def scatter_axes(
    values: Tensor, title: str, groups: Tensor | None = None, *, named: bool = False
) -> Axes:
    """What `scatter` draws, before it is text."""
    figure = Figure((3.5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    groups = torch.zeros(len(values), dtype=torch.int64) if groups is None else groups
    numbers = sorted(set(groups.tolist()))
    colours = list(LINES) if len(numbers) <= len(LINES) else _colours(len(numbers))
    for number, colour in zip(numbers, colours, strict=False):
        x, y = values[groups == number, :2].T.numpy()
        axes.scatter(x, y, s=3, color=colour, alpha=0.6, linewidths=0, rasterized=True)
        if named:
            place = (float(x.mean()), float(y.mean()))
            axes.text(*place, str(number), color=INK, fontsize=8, ha="center", va="center")
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=9, color=INK, parse_math=False)
    return axes


def _colours(count: int) -> list[tuple[float, ...]]:
    """As many different colours, without the ends of the map, which are near black."""
    return [tuple(colour) for colour in colormaps["turbo"](np.linspace(0.05, 0.95, count))]


def loss_curve(steps: Sequence[float], losses: Sequence[float]) -> str:
    """The loss and its running mean over a fiftieth of the run, as SVG.

    The scale is logarithmic if the loss is positive and falls by more than a factor of 4. Of a long
    run, of more than 2,000 updates, 500 bins are drawn: of each its lowest and highest loss.

    Args:
        steps: numbers of the updates, at least one.
        losses: of each of them.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(losses, dtype=float)
    window = max(len(y) // 50, 1)
    total = np.concatenate(([0.0], y.cumsum()))
    ends = np.arange(1, len(y) + 1)
    starts = np.maximum(ends - window, 0)
    mean = (total[ends] - total[starts]) / (ends - starts)

    figure = Figure((5.4, 2.7), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    bins = BINS if len(y) > POINTS else len(y)
    first = np.linspace(0, len(y), bins, endpoint=False).astype(int)
    if bins < len(y):
        low, high = (reduce.reduceat(y, first) for reduce in (np.minimum, np.maximum))
        label = "lowest to highest"
        axes.fill_between(x[first], low, high, color=BLUE, alpha=0.3, linewidth=0, label=label)
    elif window > 1:
        axes.plot(x, y, color=BLUE, alpha=0.4, linewidth=0.7, label="each update")
    else:
        axes.plot(x, y, color=BLUE, linewidth=1.4, marker=".", label="each update")
    if window > 1:
        rows, label = np.append(first, len(y) - 1), f"mean of {window:,} updates"
        axes.plot(x[rows], mean[rows], color=BLUE, linewidth=1.6, label=label)
    if y.min() > 0 and y.max() > 4 * y.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:.6g}")
    axes.set(xlabel="update", ylabel="loss")
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8.5)
    return _svg(figure, axes)


def curve_chart(
    at: Sequence[float],
    lines: Mapping[str, Sequence[Sequence[float]]],
    title: str,
    *,
    errors: Mapping[str, Sequence[float] | None] | None = None,
    real: Sequence[float] | None = None,
    logarithmic: bool = False,
    wide: bool = False,
    axis: str = "frame",
    beside: str = "held-out real",
) -> str:
    """Quantities over time, as SVG: of each the mean of its runs, and from lowest to highest.

    Of a single run the band is one of errors, where there are some.

    Args:
        at: n places.
        lines: by label, n values for each run.
        title: above it.
        errors: by label, n standard errors of a single run.
        real: n values of what is real, in the colour of the text.
        logarithmic: whether the scale is, if all values are positive.
        wide: twice as wide.
        axis: what the places are; frames are whole numbers.
        beside: what `real` is called.
    """
    figure = Figure((7.2 if wide else 3.5, 3.4 if wide else 2.2), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    for i, (label, runs) in enumerate(lines.items()):
        y, colour = np.asarray(runs, dtype=float), LINES[i % len(LINES)]
        error, low, high = (errors or {}).get(label), y.min(0), y.max(0)
        if len(y) == 1 and error is not None:
            low, high = y[0] - np.asarray(error), y[0] + np.asarray(error)
        if (low < high).any():
            axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
        style = "-" if i < len(LINES) else "--"
        axes.plot(at, y.mean(0), style, color=colour, linewidth=1.5, label=label)
    if real is not None:
        axes.plot(at, real, color=INK, linewidth=1, linestyle=":", label=beside)
    lowest = min(np.min(runs) for runs in lines.values())
    if logarithmic and lowest > 0 and (real is None or min(real) > 0):
        axes.set_yscale("log")
    axes.set_title(title, fontsize=9, color=INK, parse_math=False)
    axes.set(xlabel=axis)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6 if wide else 4, integer=axis == "frame"))
    axes.xaxis.set_major_formatter("{x:,.0f}" if axis == "frame" else "{x:g}")
    axes.legend(frameon=False, labelcolor=INK, fontsize=7)
    return _svg(figure, axes)


def animation(content: bytes) -> str:
    """An animated WebP as a data URI."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"


def _svg(figure: Figure, axes: Axes) -> str:
    axes.tick_params(which="both", colors=INK, labelsize=8.5)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=9)
    axes.spines[:].set(color=INK, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    buffer = io.StringIO()
    # Letters stay letters: they take the page's font and colour, and can be searched.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "noiseloom"}):
        figure.savefig(buffer, format="svg", transparent=True, dpi=160, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace("xlink:href", "href").replace(INK, "currentColor")
    # Names would repeat from plot to plot; a page needs no name spaces.
    return re.sub(r' xmlns(:\w+)?="[^"]*"|(?<=<g) id="[^"]*"', "", text)

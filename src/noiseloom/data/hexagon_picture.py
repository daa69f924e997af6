"""Benzenoids as a picture: a drawing of hexagons for each, side by side, as SVG."""

import math
from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from noiseloom.data.hexagons import centres

__all__ = ["hexagon_picture"]

_SIDE, _TEXT = 150, 18  # of a drawing and of the line below it, in pixels
_FILL, _LINE = "#cfe0f3", "#28527a"
_CORNERS = [
    (math.cos(math.pi / 6 + k * math.pi / 3), math.sin(math.pi / 6 + k * math.pi / 3))
    for k in range(6)
]


def hexagon_picture(cells: Tensor, captions: Sequence[str], columns: int = 8) -> str:
    """An SVG of benzenoids, row by row, all at one scale, each with its longer axis across.

    Args:
        cells: int64, shape (N, h, 2).
        captions: N lines of text, written below.
        columns: how many are side by side.

    Example:
        >>> hexagon_picture(torch.tensor([[[0, 0], [1, 0]]]), ["1.236"]).count("<polygon")
        2
    """
    if len(captions) != len(cells):
        raise ValueError(f"{len(captions)} captions for {len(cells)} structures")
    flat = centres(cells)
    flat = flat - flat.mean(1, keepdim=True)
    if len(cells):
        flat = flat @ torch.linalg.eigh(flat.mT @ flat).eigenvectors.flip(-1)
    reach = float(flat.abs().amax()) + 1.2 if len(cells) else 1.0
    unit, across = _SIDE / (2 * reach), max(1, min(columns, len(cells)))
    body = []
    for i, (places, caption) in enumerate(zip(flat.tolist(), captions, strict=True)):
        left, top = i % across * _SIDE, i // across * (_SIDE + _TEXT)
        axes = _lattice(places)
        for x, y in places:
            points = " ".join(
                f"{left + _SIDE / 2 + unit * (x + a):.1f},{top + _SIDE / 2 + unit * (y + b):.1f}"
                for a, b in axes
            )
            body.append(f'<polygon points="{points}"/>')
        body.append(
            f'<text x="{left + _SIDE / 2:.0f}" y="{top + _SIDE + _TEXT - 6:.0f}">'
            f"{escape(caption)}</text>"
        )
    down = -(-len(cells) // across) * (_SIDE + _TEXT)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across * _SIDE} {max(down, 1)}" '
        f'fill="{_FILL}" stroke="{_LINE}" stroke-linejoin="round" font-family="sans-serif" '
        f'font-size="13" text-anchor="middle"><title>{len(cells)} benzenoids</title>'
        f"{''.join(body)}</svg>"
    ).replace("<text ", f'<text stroke="none" fill="{_LINE}" ')


def _lattice(places: list[list[float]]) -> list[tuple[float, float]]:
    """The corners of a hexagon, turned as the lattice of the centres is."""
    turn = 0.0
    for x, y in places[1:]:
        dx, dy = x - places[0][0], y - places[0][1]
        if abs(math.hypot(dx, dy) - 3**0.5) < 0.1:
            turn = math.atan2(dy, dx)
    return [
        (a * math.cos(turn) - b * math.sin(turn), a * math.sin(turn) + b * math.cos(turn))
        for a, b in _CORNERS
    ]

"""E(n)-equivariant networks for points in space, which may have features of their own.

Pairs of points exchange messages that depend on distances and features alone, and points move along
the lines between them (V. Garcia Satorras, E. Hoogeboom, M. Welling, 2021, "E(n) equivariant graph
neural networks", arXiv 2102.09844, Eq. 3-6, in the form of E. Hoogeboom et al., 2022, 2203.17003,
Eq. 12, with a gate on every message and lines divided by their length + 1):

    m_ij = silu(U silu(A h_i + B h_j + C d_ij)),    g_ij = sigmoid(w m_ij)
    h_i <- h_i + V silu(V' [h_i, mean_j g_ij m_ij, a_i])
    x_i <- x_i + mean_j s_ij (x_i - x_j) / (|x_i - x_j| + 1) + sum_k c_ik M^k x_i,    s_ij = v m_ij

So what is said of features stays the same, and what is said of positions turns with them, for every
rotation, reflection, translation and order of the points. Unlike there,

- features are normalised, and modulated by what is known beside them (log-SNR, class), first;
- d_ij are waves of distances: now, at first, and of an estimate, along whose lines points move too;
- M is the second moment of the points about their centre, of trace 1, c_ik = C' LN(h_i), k = 0, 1,
  2 (any function of M that turns with it is such a polynomial), and a_i are its invariants and
  those of x_i. That points lie in a plane shows in their distances at second order only: of 256
  molecules sampled after 1,000 updates 217 are not flat without these terms, 5 with them;
- means are over the other real points. Padding takes no part in anything, exactly.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.conditions import check_names
from noiseloom.nets.geometry import DISTANCES, INVARIANTS, Lines, moments
from noiseloom.nets.layers import initialise, zero
from noiseloom.nets.nodes import (
    Clock,
    hidden_padding,
    masked_mean,
    real_nodes,
    real_pairs,
    take_estimate,
    take_parts,
)
from noiseloom.nets.trunk import modulate, norm

__all__ = ["EGNN", "PointEncoder"]

State: TypeAlias = Tensor | dict[str, Tensor]


class EGNN(nn.Module):
    """An equivariant network `(x, log_snr, cond) -> outputs` for points, some of them padding.

    A state is positions (B, N, 3) whose common centre means nothing; or, with `kinds`, a dict of
    these as "positions" and of features (B, N, F) as "kinds", with a log-SNR for each. The output,
    in the same form, is 0 at initialisation and in padding, and its positions have mean 0.

    Args:
        kinds: F, features of a point; 0 for positions alone.
        out_kinds: features of the prediction, F by default.
        width: W, of the features of points inside.
        pair_width: of messages, W / 2 by default: there are N times as many of these.
        depth: number of layers.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        self_conditioning: whether it takes an estimate beside the state.

    Raises:
        ValueError: a size below 1, or an odd width.

    Example:
        >>> net = EGNN(kinds=2, width=16, depth=1)
        >>> x = {"positions": torch.zeros(4, 5, 3), "kinds": torch.zeros(4, 5, 2)}
        >>> y = net(x, {"positions": torch.zeros(4), "kinds": torch.zeros(4)})
        >>> {name: tuple(part.shape) for name, part in y.items()}
        {'positions': (4, 5, 3), 'kinds': (4, 5, 2)}
    """

    def __init__(
        self,
        kinds: int = 0,
        out_kinds: int | None = None,
        *,
        width: int = 128,
        pair_width: int | None = None,
        depth: int = 6,
        num_classes: int | None = None,
        self_conditioning: bool = False,
    ) -> None:
        super().__init__()
        self.body = _Body(kinds, width, pair_width, depth, depth, num_classes, self_conditioning)
        self.output = nn.Linear(width, kinds if out_kinds is None else out_kinds) if kinds else None
        initialise(self)
        zero(self.body.modulation, *self.body.still)
        if self.output is not None:
            zero(self.output)

    def forward(self, x: State, log_snr: State, cond: Mapping[str, Any] | None = None) -> State:
        """Predict.

        Args:
            x: state of unit variance, shape (B, N, 3), or {"positions", "kinds"}.
            log_snr: float32, shape (B,), in [-20, 20]; of parts by name, of kinds also (B, N).
            cond: "mask", bool of shape (B, N), True for a real point; "label" (B,); "estimate" like
                x; "dropout" is taken and not used.

        Returns:
            Positions (B, N, 3), or {"positions", "kinds"}, of shapes (B, N, 3), (B, N, out_kinds).

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        h, moved, mask = self.body(x, log_snr, cond or {})
        positions = hidden_padding(moved - masked_mean(moved, mask)[:, None], mask)
        if self.output is None:
            return positions
        return {"positions": positions, "kinds": hidden_padding(self.output(h), mask)}


class PointEncoder(nn.Module):
    """One vector for a set of points, however they lie: the mean of the features of all.

    It sees what `EGNN` sees, at any noise level: the network of a model of properties. As it is
    made it is a random function of the distances and of the points' kinds, number and noise level.

    Args:
        kinds: F, features of a point; 0 for positions alone.
        width: W, of the vector too.
        pair_width: of messages, W / 2 by default.
        depth: number of layers.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.

    Example:
        >>> PointEncoder(width=16, depth=1)(torch.zeros(4, 5, 3), torch.zeros(4)).shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        kinds: int = 0,
        *,
        width: int = 128,
        pair_width: int | None = None,
        depth: int = 6,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        # Nothing would see where the points of the last layer go.
        self.body = _Body(kinds, width, pair_width, depth, depth - 1, num_classes, False)
        initialise(self)
        zero(*self.body.still)

    def forward(self, x: State, log_snr: State, cond: Mapping[str, Any] | None = None) -> Tensor:
        """Embed: shape (B, W). Arguments and errors are those of `EGNN.forward`."""
        h, _, mask = self.body(x, log_snr, cond or {})
        return masked_mean(h, mask)


class _Body(nn.Module):
    """From a state to the features of its points (B, N, W), how far they moved, and the mask.

    Points move in the first `moves` layers.
    """

    def __init__(
        self,
        kinds: int,
        width: int,
        pair_width: int | None,
        depth: int,
        moves: int,
        num_classes: int | None,
        self_conditioning: bool,
    ) -> None:
        super().__init__()
        pair_width = width // 2 if pair_width is None else pair_width
        if min(width, pair_width, depth) < 1 or kinds < 0:
            raise ValueError(
                f"a network of width {width}, pair_width {pair_width}, depth {depth} and {kinds} "
                "kinds: sizes must be at least 1, and kinds at least 0"
            )
        self.kinds, self.self_conditioning = kinds, self_conditioning
        self.clock = Clock(2 if kinds else 1, width, num_classes)
        # Its kinds, the estimate's, and the number of points, which means do not show.
        self.input = nn.Linear(kinds * (1 + self_conditioning) + 1, width)
        self.modulation = nn.Linear(width, 2 * width * depth)
        # What no layer changes is read for all of them at once.
        self.first = nn.Linear((1 + self_conditioning) * DISTANCES, pair_width * depth, bias=False)
        self.layers = nn.ModuleList(
            _Layer(width, pair_width, 1 + self_conditioning, i < moves) for i in range(depth)
        )

    @property
    def still(self) -> list[nn.Module]:
        """The parts that move points, which are zero at initialisation."""
        moving = [m for layer in self.layers for m in (layer.move, layer.bend)]
        return [m for m in moving if isinstance(m, nn.Module)]

    def forward(
        self, x: State, log_snr: State, cond: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        check_names(cond, ("mask", "label", "estimate", "dropout"))
        names = ("positions", "kinds") if self.kinds else None
        (places, *kinds), clocks = take_parts(x, names, "x"), take_parts(log_snr, names, "log_snr")
        self._check(places, kinds, clocks)
        mask = real_nodes(cond, places)
        places = hidden_padding(places, mask)
        drawn, seen = [Lines.between(places)], [hidden_padding(part, mask) for part in kinds]
        guess = take_estimate(cond, [places, *kinds], names, self.self_conditioning)
        if guess is not None:
            drawn.append(Lines.between(hidden_padding(guess[0], mask)))
            seen += [hidden_padding(part, mask) for part in guess[1:]]
        count = mask.sum(1).clamp(min=1).to(places.dtype).log()
        h = self.input(torch.cat((*seen, count[:, None, None].expand(*mask.shape, 1)), -1))
        shown = self.modulation(self.clock(clocks, cond)).chunk(2 * len(self.layers), -1)
        pairs = real_pairs(mask)
        share = (pairs / pairs.sum(2, keepdim=True).clamp(min=1)).to(places.dtype)[..., None]
        first = self.first(torch.cat([lines.waves() for lines in drawn], -1))
        now, apart = places, first.chunk(len(self.layers), -1)
        for layer, *each in zip(self.layers, shown[::2], shown[1::2], apart, strict=True):
            shift, scale, own = each
            h, now = layer(h, now, modulate(h, shift, scale), own, drawn[1:], share, mask)
        return h, now - places, mask

    def _check(self, places: Tensor, kinds: list[Tensor], clocks: list[Tensor]) -> None:
        fits = places.ndim == 3 and places.shape[2] == 3 and clocks[0].shape == places.shape[:1]
        for part, clock in zip(kinds, clocks[1:], strict=True):
            fits = fits and part.shape == (*places.shape[:2], self.kinds)
            fits = fits and clock.shape in (places.shape[:1], places.shape[:2])
        if not fits:
            shapes = [tuple(v.shape) for v in (places, *kinds)]
            times = [tuple(v.shape) for v in clocks]
            wanted = f" and kinds (B, N, {self.kinds})" if self.kinds else ""
            raise ValueError(
                f"a state of shapes {shapes} and log-SNRs of shapes {times}: expected positions "
                f"(B, N, 3){wanted}, and log-SNRs (B,), of kinds also (B, N)"
            )


class _Layer(nn.Module):
    """One round of messages, after which the points move, if they do."""

    def __init__(self, width: int, pair_width: int, frames: int, moves: bool) -> None:
        super().__init__()
        self.here = nn.Linear(width, pair_width)
        self.there = nn.Linear(width, pair_width, bias=False)
        self.apart = nn.Linear(DISTANCES, pair_width, bias=False)
        self.message = nn.Linear(pair_width, pair_width)
        self.gate = nn.Linear(pair_width, 1)
        self.inner = nn.Linear(width + pair_width + INVARIANTS, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.move = nn.Linear(pair_width, frames, bias=False) if moves else None
        self.bend = nn.Linear(width, 3) if moves else None

    def forward(
        self,
        h: Tensor,
        now: Tensor,
        shown: Tensor,
        first: Tensor,
        guessed: list[Lines],
        share: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Features and positions.

        Args:
            h: features (B, N, W).
            now: positions (B, N, 3).
            shown: features, normalised and modulated.
            first: what distances at first say (B, N, N, pair_width).
            guessed: the lines of an estimate, if there is one.
            share: 1 / (number of other real points) for pairs of these, otherwise 0 (B, N, N, 1).
            mask: bool (B, N).
        """
        lines = Lines.between(now)
        ends = self.here(shown)[:, :, None] + self.there(shown)[:, None]
        u = ends + first + self.apart(lines.waves())
        m = functional.silu(self.message(functional.silu(u)))  # (B, N, N, pair_width)
        got = ((self.gate(m).sigmoid() * share).mT @ m)[:, :, 0]  # a sum of products over j
        invariants, powers = moments(now, mask)
        h = h + self.outer(functional.silu(self.inner(torch.cat((shown, got, invariants), -1))))
        if self.move is None or self.bend is None:
            return h, now
        now = now + (self.bend(norm(h))[..., None] * powers).sum(2)
        s = self.move(m) * share
        for i, (way, length) in enumerate((lines, *guessed)):
            now = now + (s[..., i : i + 1] * way / (length + 1)).sum(2)
        return h, now

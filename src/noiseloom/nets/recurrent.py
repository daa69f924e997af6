"""A recurrent network: the belief about the past is a state of fixed size.

The form in which Diffusion Forcing was published (B. Chen et al., 2024, arXiv:2407.01392, section
3.2 and appendix B.1): a deterministic latent z_t = f(z_{t-1}, x_t, k_t), fed with noisy tokens and
their levels, and a head that reads the prediction from z_t. A token at level 0 makes it a Bayes
filter's posterior update, one of pure noise its prediction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry
from noiseloom.nets.inputs import Inputs
from noiseloom.nets.layers import Dropout, initialise, perceptron, zero
from noiseloom.nets.past import alone

__all__ = ["Recurrent"]


class Recurrent(nn.Module):
    """A recurrent network `(x, log_snr, cond) -> Tensor` for sequences (B, T, D), left to right.

    With u_t the embedding of token and action, and (shift, scale) from log-SNR and class,

        u_t <- u_t (1 + scale) + shift,    u_t <- u_t + mlp(u_t)
        z_t^i = GRU_i(z_t^{i-1}, z_{t-1}^i),    z_t^0 = u_t,    i = 1 .. depth
        output = W (z_t^depth + mlp(z_t^depth)) + b

    The states before the first token are learnt; the output is 0 at initialisation.

    Args:
        in_features: D, features of a token, without the estimate's.
        out_features: features of the prediction.
        width: features W of a state.
        depth: number of GRU cells, one upon the other.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        action_features: A, features of the action that comes with a token; 0 for none.
        self_conditioning: whether it takes an estimate beside the state.
        dropout: rate before and after every cell.

    Attributes:
        causal: True: no token sees a later one.
        memory: tokens that a cache has to hold, 1.

    Example:
        >>> net = Recurrent(3, 3, width=16)
        >>> y, new = net(torch.zeros(2, 5, 3), torch.zeros(2, 5), {"cache": {}})
        >>> y.shape, new["tokens"]["states"].shape
        (torch.Size([2, 5, 3]), torch.Size([2, 5, 1, 16]))
    """

    causal = True
    memory = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        width: int,
        depth: int = 1,
        num_classes: int | None = None,
        action_features: int = 0,
        self_conditioning: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(in_features, width, num_classes, action_features, self_conditioning)
        self.film = nn.Linear(width, 2 * width)
        self.before = perceptron(width)
        self.cells = nn.ModuleList(nn.GRUCell(width, width) for _ in range(depth))
        self.dropouts = nn.ModuleList(Dropout(dropout, i) for i in range(depth + 1))
        self.initial = nn.Parameter(torch.zeros(depth, width))
        self.after = perceptron(width)
        self.output = nn.Linear(width, out_features)
        initialise(self)
        zero(self.film, self.output)

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Any] | None = None
    ) -> Tensor | tuple[Tensor, Carry]:
        """Predict.

        Args:
            x: state of unit variance, shape (B, T, D): the whole history, or the tokens that
                follow those in the cache.
            log_snr: float32, shape (B,) or (B, T), in [-20, 20].
            cond: as for `CausalTransformer`, but "cache" is {"tokens": {"states": z}} with z of
                shape (B, n, depth, W), of which the last token counts; padding leaves the states
                as they are; "position" makes no difference, the states know no positions; tokens
                "alone" begin at the state after the cached token before them.

        Returns:
            Shape (B, T, out_features); with "cache", that and the states after each token, a tree
            like the cache.

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        cond = cond or {}
        z = self._past(x, cond)
        h, embedding = self.inputs(x, log_snr, cond, 0 if z is None else z.shape[1])
        shift, scale = self.film(embedding).chunk(2, -1)
        h = torch.addcmul(shift, h, 1 + scale)
        h = h + self.before(h)
        states = self._run(h, z, cond)
        h = self.dropouts[-1](states[:, :, -1], cond.get("dropout"))
        y: Tensor = self.output(h + self.after(h))
        return y if cond.get("cache") is None else (y, {"tokens": {"states": states}})

    def blank(self, x: Tensor) -> Carry:
        """The cache to begin with: the learnt states before the first token.

        Args:
            x: a state, shape (B, T, D).
        """
        return {"tokens": {"states": self.initial.repeat(len(x), 1, 1, 1)}}

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Refuse new cells, which are never the identity. See `noiseloom.training.Heir`."""
        cells, before = len(self.cells), len(old.get("initial", self.initial))
        if cells > before:
            raise ValueError(
                f"a recurrent network of depth {cells} cannot start as one of depth {before}: a "
                "new cell changes what passes through it; keep depth as it was"
            )
        return dict(old)

    def _run(self, h: Tensor, past: Tensor | None, cond: Mapping[str, Any]) -> Tensor:
        """The states after each token, shape (B, T, depth, W)."""
        mask = cond.get("mask")
        real = None if mask is None else mask[:, -h.shape[1] :, None]
        each = [None] * h.shape[1] if real is None else real.unbind(1)
        single = alone(h, cond, 0 if past is None else past.shape[1])
        states = []
        # Rounding errors of a state are carried on: it stays in the precision of the weights.
        with torch.autocast(h.device.type, enabled=False):
            h = h.to(self.initial.dtype)
            for i, cell in enumerate(self.cells):
                z = self.initial[i].expand(len(h), -1)
                h = self.dropouts[i](h, cond.get("dropout"))
                if single and past is not None:
                    h = _next(cell, h, torch.cat((z[:, None], past[:, :-1, i]), 1), real)
                else:
                    z, steps = z if past is None else past[:, -1, i], []
                    for u, known in zip(h.unbind(1), each, strict=True):
                        z = _next(cell, u, z, known)
                        steps.append(z)
                    h = torch.stack(steps, 1)
                states.append(h)
        return torch.stack(states, 2)

    def _past(self, x: Tensor, cond: Mapping[str, Any]) -> Tensor | None:
        """The cached states, or None where there are none."""
        if not cond.get("cache"):
            return None
        z: Tensor = cond["cache"]["tokens"]["states"]
        depth, width = self.initial.shape
        if z.ndim != 4 or z.shape[1] < 1 or z.shape != (len(x), z.shape[1], depth, width):
            raise ValueError(
                f"cached states of shape {tuple(z.shape)} for a state of shape {tuple(x.shape)}: "
                f"expected ({len(x)}, n, {depth}, {width}) with n at least 1"
            )
        return z


def _next(cell: nn.Module, u: Tensor, z: Tensor, real: Tensor | None) -> Tensor:
    """The states after tokens, of shape (..., W), from those before; padding keeps them."""
    after: Tensor = cell(u.reshape(-1, u.shape[-1]), z.reshape(-1, z.shape[-1])).view_as(u)
    return after if real is None else torch.where(real, after, z)

"""Small networks for vectors: a residual perceptron, and an encoder of discrete codes."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.codes import CodeEmbedding, CodeHead, check_told, informative
from noiseloom.nets.conditions import with_estimate
from noiseloom.nets.layers import Embedding, initialise, zero

__all__ = ["MLP", "VectorEncoder"]


class MLP(nn.Module):
    """A residual perceptron `(x, log_snr, cond) -> Tensor` for vectors (B, D).

    Each block is h + W_2 SiLU(W_1 h + A e + C c) with e the embedding of log-SNR and class, and c
    the sum of the codes' vectors. W_2 of all blocks, C and the output are 0 at initialisation, so a
    network that starts from one without codes begins exactly there. Codes that say nothing (m = 0
    or k = 1) have no path at all.

    Args:
        in_features: D, features of a state, without the estimate's.
        out_features: features of the prediction.
        width: W inside.
        depth: number of blocks.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        codes: (m, k), number of latents and of the codes of each; None for a network without.
        self_conditioning: whether it takes an estimate beside the state.

    Example:
        >>> import torch
        >>> net = MLP(2, 2, width=16, depth=1, codes=(1, 8))
        >>> net(torch.zeros(5, 2), torch.zeros(5), {"codes": torch.zeros(5, 1, 8)}).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        width: int = 96,
        depth: int = 3,
        num_classes: int | None = None,
        codes: tuple[int, int] | None = None,
        self_conditioning: bool = False,
    ) -> None:
        super().__init__()
        self.in_features, self.self_conditioning = in_features, self_conditioning
        self.known = codes
        self.embedding = Embedding(width, width, num_classes)
        self.input = nn.Linear(in_features * (1 + self_conditioning), width)
        self.inner = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.outer = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.output = nn.Linear(width, out_features)
        initialise(self)
        zero(self.output)
        # After all else: what is drawn for that is the same with codes and without.
        self.codes = CodeEmbedding(*codes, width) if informative(codes) else None
        told = [nn.Linear(width, width, bias=False) for _ in range(depth if self.codes else 0)]
        self.told = nn.ModuleList(told)
        zero(self.told)

    def forward(
        self, x: Tensor, log_snr: Tensor, cond: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Predict.

        Args:
            x: state of unit variance, shape (B, D).
            log_snr: float32, shape (B,), in [-20, 20].
            cond: "label" (B,), "codes" (B, m, k), "estimate" like x; "dropout" keys are not needed.

        Returns:
            Shape (B, out_features).

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        cond = cond or {}
        if x.ndim != 2 or x.shape[1] != self.in_features or log_snr.shape != x.shape[:1]:
            raise ValueError(
                f"a state of shape {tuple(x.shape)} and a log-SNR of shape {tuple(log_snr.shape)}: "
                f"expected (B, {self.in_features}) and (B,)"
            )
        check_told(cond, ("label", "estimate", "dropout"), len(x), self.known)
        h = self.input(with_estimate(x, cond, self.self_conditioning, dim=1))
        e = self.embedding(log_snr, cond)
        c = self.codes(cond, len(x)).sum(1) if self.codes is not None else None
        for i, (inner, outer) in enumerate(zip(self.inner, self.outer, strict=True)):
            z = inner(torch.cat((h, e), 1))
            z = z if c is None else z + self.told[i](c)
            h = h + outer(functional.silu(z))
        y: Tensor = self.output(functional.silu(h))
        return y


class VectorEncoder(nn.Module):
    """Logits of discrete codes from vectors: (B, D) to (B, m, k).

    Args:
        features: D.
        m: number of latents.
        k: number of codes of each.
        width: of the layers.
        depth: number of layers, the logits' among them, >= 2.
        scale: the vectors are divided by it first: their standard deviation.
    """

    def __init__(
        self, features: int, m: int, k: int, *, width: int = 96, depth: int = 3, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.scale = scale
        sizes = (features, *[width] * (depth - 1))
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = CodeHead(width, m, k)

    def forward(self, clean: Tensor) -> Tensor:
        """Logits of clean vectors."""
        h = clean / self.scale
        for layer in self.layers:
            h = functional.silu(layer(h))
        logits: Tensor = self.head(h)
        return logits

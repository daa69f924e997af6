"""The small parts that the reference networks share.

Every network here is called `network(x, log_snr, cond=None)` with a state of unit variance, the
log-SNR ln(alpha^2 / sigma^2) in [-20, 20] and a mapping of conditions; these are the pieces that
read the last two. Checks are of shapes, and of values on the CPU only: a forward pass does not wait
for the device.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.rng import Rng

__all__ = ["Dropout", "Embedding", "GroupNorm", "fourier", "initialise", "perceptron", "zero"]


def fourier(log_snr: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Fourier features of the log-SNR.

    sin(w_i log_snr) and cos(w_i log_snr), with w_i spaced geometrically from 1/16 to 16 rad per
    nat: the longest wave (100) covers the whole range [-20, 20], the shortest (0.4) resolves a
    tenth of a nat.

    Args:
        log_snr: float, any shape, in nats.
        width: number of features, even.
        dtype: type of the result.

    Returns:
        Shape log_snr.shape + (width,).
    """
    exponents = torch.linspace(-1, 1, width // 2, dtype=dtype, device=log_snr.device)
    angles = log_snr.to(dtype)[..., None] * 16**exponents
    return torch.cat((angles.sin(), angles.cos()), -1)


class Embedding(nn.Module):
    """What a network knows beside its state: the log-SNR and a class, as one activated vector.

        SiLU(W_2 SiLU(W_1 fourier(log_snr)) + e_label)

    which is the paper's one-hot label between its two dense layers, written as an embedding (T.
    Chen, R. Zhang, G. Hinton, 2022, "Analog Bits", arXiv:2208.04202, released code).

    Args:
        features: number of Fourier features.
        width: width E of the vector.
        num_classes: K, or None for an unconditional network. Label K is the null class.
    """

    def __init__(self, features: int, width: int, num_classes: int | None = None) -> None:
        super().__init__()
        if min(features, width) < 1:
            raise ValueError(f"a width must be above 0, got {min(features, width)}")
        if features % 2:
            raise ValueError(f"a width of {features} is odd, and Fourier features come in pairs")
        self.features, self.num_classes = features, num_classes
        self.first = nn.Linear(features, width)
        self.second = nn.Linear(width, width)
        self.label = None if num_classes is None else nn.Embedding(num_classes + 1, width)

    def forward(self, log_snr: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """Embed.

        Args:
            log_snr: shape (B,) or (B, T).
            cond: "label", int64 of shape (B,), in 0 .. K; absent means K for all.

        Returns:
            Shape log_snr.shape + (E,).

        Raises:
            ValueError: a label for an unconditional network, not of shape (B,), or beyond K.
        """
        h = self.first(fourier(log_snr, self.features, self.first.weight.dtype))
        h = self.second(functional.silu(h))
        label = cond.get("label")
        if self.label is None:
            if label is not None:
                raise ValueError(
                    f"a label of shape {tuple(label.shape)} for an unconditional network: "
                    "build it with num_classes, or leave the label out"
                )
            return functional.silu(h)
        if label is None:
            return functional.silu(h + self.label.weight[-1])
        if label.shape != log_snr.shape[:1]:
            raise ValueError(
                f"a label of shape {tuple(label.shape)} beside a log-SNR of shape "
                f"{tuple(log_snr.shape)}: expected ({log_snr.shape[0]},)"
            )
        # A GPU's own bounds check stops it later.
        if label.device.type == "cpu" and not torch.compiler.is_compiling() and len(label):
            low, high, null = int(label.min()), int(label.max()), self.label.num_embeddings - 1
            if low < 0 or high > null:
                raise ValueError(
                    f"labels must be in 0 .. {null - 1}, or {null} for none, got values from "
                    f"{low} to {high}"
                )
        e = self.label(label)
        return functional.silu(h + (e if log_snr.ndim == 1 else e[:, None]))

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """Old classes keep their vectors and so does the null class, which new ones start as.

        Beside an unconditional network all classes start at zero. See `noiseloom.training.Heir`.

        Raises:
            ValueError: there are fewer classes than the old.
        """
        if self.label is None:
            return dict(old)
        if "label.weight" not in old:
            return {**old, "label.weight": torch.zeros_like(self.label.weight)}
        *_, null = table = old["label.weight"]
        count, wanted = len(table) - 1, self.label.num_embeddings - 1
        if count > wanted:
            raise ValueError(
                f"a network of {wanted} classes cannot start as one of {count}: keep the classes "
                "that one knows"
            )
        places = classes if classes is not None and len(classes) == count else range(count)
        new = null.repeat(wanted + 1, 1)
        new[list(places)] = table[:-1]
        return {**old, "label.weight": new}


class Dropout(nn.Module):
    """Dropout whose mask is a pure function of (key of the sample, layer, position).

    Sample 17 loses the same activations alone, in a batch of 100, or on rank 1 of 2: two
    data-parallel processes get the losses of one with the same global batch. It works in training
    mode only, and costs nothing where the rate is 0.

    Args:
        rate: probability of losing an activation, in [0, 1).
        layer: index of the layer, which tells its masks from other layers'.
    """

    def __init__(self, rate: float, layer: int) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout rate must be in [0, 1), got {rate}")
        self.rate, self.layer = rate, layer
        # Hashed once, here: names cannot be hashed inside a compiled graph.
        self.salt = int(Rng(0).fold("dropout", layer).key) % 2**31

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Drop and rescale.

        Args:
            x: activations, shape (B, ...).
            keys: int64, shape (B,), one key per sample (`cond["dropout"]`).

        Raises:
            ValueError: no keys in training, or keys of another shape.
        """
        if not self.training or self.rate == 0:
            return x
        if keys is None:
            raise ValueError(
                f"dropout {self.rate} in training needs one key per sample: "
                'pass cond["dropout"], int64 of shape (B,), or call .eval()'
            )
        if keys.shape != x.shape[:1]:
            raise ValueError(
                f"dropout keys of shape {tuple(keys.shape)} for activations of shape "
                f"{tuple(x.shape)}: expected ({x.shape[0]},)"
            )
        kept = (_hash(keys, x.shape, self.salt) & 0xFFFFFF) >= round(self.rate * 2**24)
        return torch.where(kept, x * (1 / (1 - self.rate)), 0)

    def extra_repr(self) -> str:
        """The options, for `print(network)`."""
        return f"rate={self.rate}, layer={self.layer}"


class GroupNorm(nn.Module):
    """Group normalisation and feature-wise modulation (FiLM) in one multiply-add per number.

        y = (x - mean) / sqrt(var + 1e-5) * weight + bias,    y (1 + scale) + shift

    with min(channels / 4, 32) groups (fewer where that does not divide the channels). Under
    `torch.compile` the moments of a group are put together from those of its channels by the law of
    total variance, mean(var_c) + var(mean_c): reductions then run along the pixels of channels-last
    memory, and everything else is one fused pass. Eager code is better served by one large kernel.

    Args:
        channels: number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        most = max(1, min(channels // 4, 32))
        self.groups = next(g for g in range(most, 0, -1) if channels % g == 0)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, film: Tensor | None = None) -> Tensor:
        """Normalise, then modulate.

        Args:
            x: shape (B, C, H, W).
            film: (scale, shift) side by side, shape (B, 2 C).
        """
        if not torch.compiler.is_compiling():
            y = functional.group_norm(x, self.groups, self.weight, self.bias, 1e-5)
            if film is None:
                return y
            scale, shift = film[..., None, None].to(y.dtype).chunk(2, 1)
            return torch.addcmul(shift, y, 1 + scale)
        z = x.to(torch.promote_types(x.dtype, torch.float32))
        moments = torch.var_mean(z, (2, 3), correction=0)
        var, mean = (m.reshape(len(x), self.groups, -1) for m in moments)
        between, mean = torch.var_mean(mean, -1, correction=0, keepdim=True)
        spread = torch.rsqrt(var.mean(-1, keepdim=True) + between + 1e-5)
        gain = spread * self.weight.reshape(self.groups, -1)
        a, b = gain.flatten(1), self.bias - (mean * gain).flatten(1)
        if film is not None:
            scale, shift = film.to(a.dtype).chunk(2, 1)
            a, b = a * (1 + scale), torch.addcmul(shift, b, 1 + scale)
        return (z * a[..., None, None] + b[..., None, None]).to(x.dtype)


def perceptron(width: int) -> nn.Sequential:
    """Linear, GELU, linear, four times as wide between: the second branch of a residual block."""
    return nn.Sequential(
        nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
    )


def initialise(network: nn.Module) -> None:
    """Weights of variance 2 / (fan in + fan out), biases zero, embeddings of deviation 0.02."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)


def zero(*modules: nn.Module) -> None:
    """Set every parameter to zero, so that a branch starts without effect."""
    for module in modules:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)


def _hash(keys: Tensor, shape: torch.Size, salt: int) -> Tensor:
    """32 random bits for each position of each sample, as int32.

    In 32 bits, which GPUs multiply several times faster than the 64 of `noiseloom.rng`: dropout is
    drawn anew for every activation of every layer.
    """
    low, high = ((keys << 32) >> 32).int(), (keys >> 32).int()
    # The layer's salt belongs to the key: on positions it would only permute another layer's mask.
    key = _mix(_mix(_mix(high) ^ low) ^ salt).reshape(-1, *[1] * (len(shape) - 1))
    positions = torch.arange(shape[1:].numel(), dtype=torch.int32, device=keys.device)
    return _mix(_mix(positions.reshape(shape[1:])) ^ key)


def _mix(z: Tensor) -> Tensor:
    # A bijection of 32 bits, "lowbias32" (C. Wellons, 2018). int32 shifts are arithmetic: the masks
    # make them logical.
    z = (z ^ ((z >> 16) & 0xFFFF)) * 0x7FEB352D
    z = (z ^ ((z >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return z ^ ((z >> 16) & 0xFFFF)

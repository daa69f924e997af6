"""The autoregressive model of tokens, which users would take instead of a diffusion.

    ln p(x) = sum_i ln p(x_i | x_<i)

by the causal network that the diffusions have, told no time: everything else is equal.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.carry import append_tokens
from noiseloom.class_denoiser import absent_classes
from noiseloom.priors.choice import check_choice, choose
from noiseloom.rng import Rng

__all__ = ["NextToken"]


class NextToken(nn.Module):
    """p(x_i | x_<i) of sequences (B, T) of classes 0 .. K - 1.

    Args:
        network: causal, with a cache, `(x, log_snr, cond) -> logits`, of K + 1 features a token
            (the last is the start's) and K out, such as `nets.CausalTransformer`; it is shown
            classes if it has `reads_classes`, else one-hot vectors.
        num_classes: K.
        sizes: classes of each place, where there are fewer than K.
    """

    network: Any
    absent: Tensor | None

    def __init__(
        self, network: nn.Module, num_classes: int, sizes: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes
        self.register_buffer("absent", absent_classes(sizes, num_classes), persistent=False)

    def conditionals(self, tokens: Tensor, dropout: Tensor | None = None) -> Tensor:
        """The ln p(x_i = . | x_<i) of all places in one pass, shape (B, T, K)."""
        start = torch.full_like(tokens[:, :1], self.num_classes)
        before = self._shown(torch.cat((start, tokens[:, :-1]), 1))
        cond = {} if dropout is None else {"dropout": dropout}
        logits: Tensor = self.network(before, self._clock(before), cond)
        return self._present(logits.float(), 0).log_softmax(-1)

    def log_prob(self, tokens: Tensor, dropout: Tensor | None = None) -> Tensor:
        """The exact log-probability, nats, shape (B,)."""
        nats = self.conditionals(tokens, dropout).gather(-1, tokens[..., None])
        return nats[..., 0].sum(1)

    @torch.no_grad()
    def sample(
        self,
        length: int,
        rng: Rng,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        known: tuple[Tensor, Tensor] | None = None,
        absent: Tensor | None = None,
    ) -> Tensor:
        """Draw token by token; the network reads each once, and remembers it.

        Args:
            length: T.
            rng: one key per sample (B,).
            temperature: of each factor, >= 0.
            top_p: mass of the nucleus of each, in (0, 1].
            known: tokens (B, T) and where they are known, bool (B, T): these are put where they
                belong as the model comes to them. A prefix is conditioned on exactly; what comes
                before a known token does not know of it.

            absent: classes that are not to be drawn, bool (B, T, K).

        Returns:
            int64, shape (B, T).

        Raises:
            ValueError: logits that are not numbers.
        """
        check_choice(temperature, top_p)
        assert isinstance(rng.root, Tensor)
        device = next(self.parameters()).device
        count = len(rng.root)
        u = rng.uniform((count, length), device=device)
        token = torch.full((count, 1), self.num_classes, device=device)
        cache, made = self.network.blank(self._shown(token)), []
        given = None if known is None else tuple(v.to(device) for v in known)
        for i in range(length):
            shown = self._shown(token)
            position = torch.full((), i, device=device)
            told = {"cache": cache, "position": position}
            logits, new = self.network(shown, self._clock(shown), told)
            cache = append_tokens(cache, new, self.network.memory)
            logits = self._present(logits.float(), i)[:, 0]
            if absent is not None:
                logits = logits.masked_fill(absent[:, i], -torch.inf)
            z = choose(logits, u[:, i], temperature, top_p)
            if given is not None:
                z = torch.where(given[1][:, i], given[0][:, i], z)
            token = z[:, None]
            made.append(token)
        if not logits.isfinite().any(-1).all():
            raise ValueError("the model's logits are not numbers: try an earlier checkpoint")
        return torch.cat(made, 1)

    def _shown(self, tokens: Tensor) -> Tensor:
        if getattr(self.network, "reads_classes", False):
            return tokens
        weight = next(self.parameters())
        return functional.one_hot(tokens, self.num_classes + 1).to(weight.dtype)

    def _clock(self, shown: Tensor) -> Tensor:
        """No time is told."""
        return shown.new_zeros(len(shown), dtype=next(self.parameters()).dtype)

    def _present(self, logits: Tensor, first: int) -> Tensor:
        if self.absent is None:
            return logits
        return logits.masked_fill(self.absent[first : first + logits.shape[1]], -torch.inf)

"""The autoregressive model of tokens, which users would take instead of a diffusion.

    ln p(x) = sum_i ln p(x_i | x_<i)

by the causal network that the diffusions have, told no time: all else is equal, but
for learnt places, which diffusions have beside rotary ones.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.carry import Carry, append_tokens, gather
from noiseloom.class_denoiser import absent_classes
from noiseloom.priors.choice import check_choice, choose
from noiseloom.rng import Rng
from noiseloom.shapes import Cond

__all__ = ["NextToken", "Writing"]


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

    def conditionals(
        self, tokens: Tensor, dropout: Tensor | None = None, cond: Cond | None = None
    ) -> Tensor:
        """The ln p(x_i = . | x_<i) of all places in one pass, shape (B, T, K).

        Args:
            tokens: the rows, (B, T).
            dropout: keys (B,), needed in training where the rate is not 0.
            cond: what the network is told besides, batch first.
        """
        tokens = tokens.long()
        start = torch.full_like(tokens[:, :1], self.num_classes)
        before = self._shown(torch.cat((start, tokens[:, :-1]), 1))
        told = {**(cond or {}), **({} if dropout is None else {"dropout": dropout})}
        logits: Tensor = self.network(before, self._clock(before), told)
        return self._present(logits.float(), 0).log_softmax(-1)

    def log_prob(
        self, tokens: Tensor, dropout: Tensor | None = None, cond: Cond | None = None
    ) -> Tensor:
        """The exact log-probability, nats, shape (B,)."""
        nats = self.conditionals(tokens, dropout, cond).gather(-1, tokens.long()[..., None])
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
        writing: "Writing | None" = None,
        end: int | None = None,
    ) -> Tensor:
        """Draw token by token; the network reads each once, and remembers it.

        Args:
            length: T >= 0.
            rng: one key per sample (B,).
            temperature: of each factor, >= 0.
            top_p: mass of the nucleus of each, in (0, 1].
            known: tokens (B, T) and where they are known, bool (B, T): these are put where they
                belong as the model comes to them. A prefix is conditioned on exactly; what comes
                before a known token does not know of it.

            absent: classes that are not to be drawn, bool (B, T, K).
            writing: what it is told, and how it is guided; by default nothing.
            end: the class after which there is no other: it is repeated, and nothing more is asked
                once all rows have come to it.

        Returns:
            int64, shape (B, T).

        Raises:
            ValueError: logits that are not numbers, one key for all, or a length below 0.
        """
        check_choice(temperature, top_p)
        if not isinstance(rng.root, Tensor):
            raise ValueError(
                "rows are drawn by one key per sample, as Rng(0).samples(8) has, got one for all"
            )
        if length < 0:
            raise ValueError(f"length must be at least 0, got {length}")
        device = next(self.parameters()).device
        count = len(rng.root)
        u = rng.uniform((count, length), device=device)
        token = torch.full((count, 1), self.num_classes, device=device)
        writing = writing or Writing(self)
        writing.begin(count)
        made = []
        given = None if known is None else tuple(v.to(device) for v in known)
        for i in range(length):
            logits = writing.next(token)
            if absent is not None:
                logits = logits.masked_fill(absent[:, i], -torch.inf)
            z = choose(logits, u[:, i], temperature, top_p)
            if given is not None:
                z = torch.where(given[1][:, i], given[0][:, i], z)
            if end is not None:
                z = torch.where(token[:, 0] == end, end, z)
            token = z[:, None]
            made.append(token)
            if end is not None and bool((token == end).all()):
                made += [token] * (length - i - 1)
                break
        if made and not logits.isfinite().any(-1).all():
            raise ValueError("the model's logits are not numbers: try an earlier checkpoint")
        return torch.cat([token[:, :0], *made], 1)

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


class Writing:
    """Rows that an autoregressive model is writing: what it remembers of them, token by token.

        ln p = scale ln p(x_i | x_<i, all) + (1 - scale) ln p(x_i | x_<i, without `drop`) + const

    Args:
        model: of the rows.
        cond: what it is told, batch first.
        scale: of classifier-free guidance; 1 is with all conditions, 0 without those in `drop`, and
            each of the two takes one call a token.
        drop: the conditions that guidance leaves out.

    References:
        J. Ho, T. Salimans, 2022, arXiv 2207.12598, Eq. 6, of logits.
    """

    def __init__(
        self,
        model: NextToken,
        cond: Cond | None = None,
        *,
        scale: float = 1.0,
        drop: Sequence[str] = (),
    ) -> None:
        told = dict(cond or {})
        null = {name: value for name, value in told.items() if name not in drop}
        sides = ((scale, told), (1 - scale, null))
        self.model, self.sides = model, [(w, told) for w, told in sides if w != 0]
        self.caches: list[Carry] = []
        self.place = 0

    def begin(self, count: int) -> None:
        """Forget all, and get ready for so many rows."""
        device = next(self.model.parameters()).device
        token = torch.full((count, 1), self.model.num_classes, device=device)
        self.caches = [self.model.network.blank(self.model._shown(token)) for _ in self.sides]
        self.place = 0

    def next(self, token: Tensor) -> Tensor:
        """Logits (B, K) of what follows a token, int64 (B, 1), the start K first."""
        model, said = self.model, []
        shown = model._shown(token)
        position = torch.full((), self.place, device=token.device)
        for i, (_, cond) in enumerate(self.sides):
            told = {**cond, "cache": self.caches[i], "position": position}
            logits, new = model.network(shown, model._clock(shown), told)
            self.caches[i] = append_tokens(self.caches[i], new, model.network.memory)
            said.append(model._present(logits.float(), self.place)[:, 0])
        self.place += 1
        if len(said) == 1:
            return said[0]
        never = torch.stack([logits == -torch.inf for logits in said]).any(0)
        logs = [logits.log_softmax(-1).masked_fill(never, 0) for logits in said]
        total = sum(w * log for (w, _), log in zip(self.sides, logs, strict=True))
        assert isinstance(total, Tensor)
        return total.masked_fill(never, -torch.inf)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, int64 (n,), of which some may be there several times."""
        self.caches = [gather(cache, rows) for cache in self.caches]
        self.sides = [
            (w, {n: v[rows] if isinstance(v, Tensor) else v for n, v in cond.items()})
            for w, cond in self.sides
        ]

"""A denoiser and the encoder of its discrete latents: one model, trained and saved together."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from noiseloom.carry import Carry
from noiseloom.denoiser import Denoiser
from noiseloom.diffusion import Prediction
from noiseloom.latents.relaxation import Temperature, constant_temperature, one_hot, perturbed
from noiseloom.latents.usage import (
    Restart,
    UsageBonus,
    dead_codes,
    entropy,
    mutual_information,
    perplexity,
)
from noiseloom.rng import Rng
from noiseloom.shapes import Cond

__all__ = ["Latent", "Splits"]

_MEMORY = 0.98  # of the running shares, per update
_LATENTS = 16  # that training's records have by themselves


@runtime_checkable
class Splits(Protocol):
    """A module with something for each code, which can be split in two."""

    def split_code(self, dead: Tensor, source: Tensor, where: Tensor, rng: Rng) -> None:
        """Let code `dead[i]` of latent i begin again as a copy of `source[i]`, if `where[i]`.

        Args:
            dead: int64, shape (m,).
            source: int64, shape (m,).
            where: bool, shape (m,).
            rng: of what tells the two apart; its keys have shape (1,).
        """


class Latent(nn.Module):
    """A denoiser with discrete latents.

    A call is passed through to the denoiser, whose network reads `cond["codes"]`: so it can be
    wrapped, and can hold wrappers, as any denoiser. `latent_loss` trains both. All that changes as
    training goes on (temperature, bonus, restarts) is a function of a buffer that counts, so that a
    run resumes exactly.

    Args:
        denoiser: reads `cond["codes"]`, (B, m, k); an absent key, and a sample of zeros, is null.
        encoder: `(clean) -> logits` of shape (B, m, k); or with a parameter named `cond` too, which
            in training is given keys of its dropout, `cond["dropout"]`. It may be compiled.
        m: number of latents, >= 0.
        k: number of codes of each, >= 1. The codes of a sample hold m log2(k) bits.
        updates: of the whole training, >= 1.
        accumulate: losses per update.
        temperature: of the relaxation; by default 1 throughout, as in the paper.
        hard: straight-through codes instead of soft ones.
        drop: share of samples whose codes are dropped, in [0, 1].
        bonus: on the use of codes, or None, as in the paper.
        restart: of codes that are not used, or None, as in the paper.
        labels: number of classes, where `latent_loss` is given labels to compare the codes with.

    Attributes:
        usage: running mean of q, the encoder's probabilities, shape (m, k).

    References:
        Y. Xu, G. Corso, T. Jaakkola, A. Vahdat, K. Kreis, 2024, "DisCo-Diff", arXiv 2407.03300,
        Section 3.1 and Algorithm 1.
    """

    passes: Tensor
    usage: Tensor
    doubt: Tensor
    by_label: Tensor

    def __init__(
        self,
        denoiser: nn.Module,
        encoder: nn.Module,
        *,
        m: int,
        k: int,
        updates: int,
        accumulate: int = 1,
        temperature: Temperature | None = None,
        hard: bool = False,
        drop: float = 0.1,
        bonus: UsageBonus | None = None,
        restart: Restart | None = None,
        labels: int = 0,
    ) -> None:
        super().__init__()
        if m < 0 or k < 1 or updates < 1 or accumulate < 1:
            raise ValueError(
                "latents need m >= 0, k >= 1, updates >= 1 and accumulate >= 1, got "
                f"m {m}, k {k}, updates {updates}, accumulate {accumulate}"
            )
        if not 0 <= drop <= 1:
            raise ValueError(f"drop must be in [0, 1], got {drop}")
        self.denoiser, self.encoder = denoiser, encoder
        self.takes_cond = _takes_cond(encoder)
        self.m, self.k, self.updates, self.accumulate = m, k, updates, accumulate
        self.temperature = temperature or constant_temperature()
        self.hard, self.drop, self.bonus, self.restart = hard, drop, bonus, restart
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.register_buffer("usage", torch.full((m, k), 1 / k))
        self.register_buffer("doubt", torch.full((m,), math.log(k)))  # running mean of H(q)
        if labels:
            self.register_buffer("by_label", torch.full((m, k, labels), 1 / (k * labels)))
        self.labels = labels

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """What the denoiser says."""
        inner: Denoiser = self.denoiser
        return inner(x, t, cond, carry, rng)

    def logits(self, clean: Tensor, cond: Cond | None = None) -> Tensor:
        """What the encoder says of clean states, shape (B, m, k).

        Args:
            clean: x_0, shape (B, ...).
            cond: what it is told besides, if it takes conditions.

        Raises:
            ValueError: the encoder is for another m or k.
        """
        told = {"cond": cond} if self.takes_cond else {}
        found: Tensor = self.encoder(clean, **told)
        if found.shape != (len(clean), self.m, self.k):
            raise ValueError(
                f"the encoder's logits have shape {tuple(found.shape)}: expected "
                f"{(len(clean), self.m, self.k)} for m {self.m} and k {self.k}"
            )
        return found

    @torch.no_grad()
    def encode(self, clean: Tensor, rng: Rng | None = None) -> Tensor:
        """Codes of clean states, int64 of shape (B, m): a draw of q, or its mode without `rng`."""
        logits = self.logits(clean)
        return (logits if rng is None else perturbed(logits, rng)).argmax(-1)

    def given(self, indices: Tensor) -> Tensor:
        """The condition `codes` of indices (B, m).

        Raises:
            ValueError: codes for another m, or out of range.
        """
        if indices.ndim != 2 or indices.shape[1] != self.m:
            raise ValueError(
                f"codes of shape {tuple(indices.shape)}: this model has {self.m} a sample"
            )
        return one_hot(indices, self.k)

    @property
    def progress(self) -> Tensor:
        """Share of the updates that have been made, a scalar on the device, at most 1."""
        return (self._made() / self.updates).clamp(max=1)

    @torch.no_grad()
    def begin(self) -> None:
        """What is due before an update: codes that are not used begin again."""
        rule = self.restart
        if rule is None or not self.m or self.k < 2:
            return
        # All on the device: whether a code is dead is never asked by the host.
        made = self._made()
        due = (self.passes % self.accumulate == 0) & (made % rule.every == 0) & (made > 0)
        share, dead = self.usage.min(-1)
        half, source = self.usage.max(-1)
        half = (half + share) / 2
        where = due & (self.progress < rule.until) & (share < rule.below / self.k)
        # No key of the samples': all processes restart alike.
        rng = Rng(0).fold("restart").each("update", made[None])
        parts = (module for module in self.modules() if isinstance(module, Splits))
        for i, module in enumerate(parts):
            module.split_code(dead, source, where, rng.fold("part", i))
        rows = torch.arange(self.m, device=dead.device)
        for code in (dead, source):
            self.usage[rows, code] = torch.where(where, half, self.usage[rows, code])

    @torch.no_grad()
    def end(self, q: Tensor, labels: Tensor | None) -> None:
        """Count a loss, and take its batch into the running means; see `report`."""
        q = q.detach().float()
        rate = (1 - _MEMORY) / self.accumulate
        self.usage.lerp_(_everywhere(q.mean(0)), rate)
        self.doubt.lerp_(_everywhere(entropy(q).mean(0)), rate)
        if self.labels and labels is not None:
            of = nn.functional.one_hot(labels, self.labels).to(q.dtype)
            self.by_label.lerp_(_everywhere(torch.einsum("bmk,bl->mkl", q, of) / len(q)), rate)
        self.passes += 1

    def report(self) -> dict[str, Tensor]:
        """Numbers about the codes, scalars on the device, for a training's records.

        Temperature; perplexity, the mean over latents, and of each of several, at most 16; dead
        codes, of all; information I(z_i; x) in bits, summed over latents and of the least, and the
        perplexity of that one; mutual information with the labels, the mean over latents. They are
        of running means over some 50 updates.
        """
        if not self.m:
            return {}
        information = (entropy(self.usage) - self.doubt) / math.log(2)
        used = perplexity(self.usage)
        found = {
            "temperature": self.temperature(self.progress),
            "perplexity": used.mean(),
            "dead_codes": dead_codes(self.usage).sum().float(),
            "information": information.sum(),
            "least_information": information.min(),
            # Gathered: an index would be asked for by the host.
            "least_informed_perplexity": used.gather(0, information.argmin(0, True))[0],
        }
        if self.m > 1:
            found |= {f"perplexity_{i}": used[i] for i in range(min(self.m, _LATENTS))}
        if self.labels:
            found["mutual_information"] = mutual_information(self.by_label).mean()
        return found

    def _made(self) -> Tensor:
        """Number of the updates that have been made."""
        return self.passes.div(self.accumulate, rounding_mode="floor")

    def inherit(
        self, old: Mapping[str, Tensor], classes: Sequence[int] | None
    ) -> dict[str, Tensor]:
        """A new training counts from 0, whatever its weights. See `noiseloom.training.Heir`.

        Raises:
            ValueError: other numbers of latents or codes; new logits of zero are a share of q.
        """
        m, k = old["usage"].shape if "usage" in old else (self.m, self.k)
        if (m, k) != (self.m, self.k):
            raise ValueError(
                f"codes of m {self.m}, k {self.k} cannot start as those of m {m}, k {k}, as the "
                "encoder would pick new ones at once: keep m and k as they were"
            )
        return {**old, **{name: b.clone() for name, b in self.named_buffers(recurse=False)}}


def _takes_cond(encoder: nn.Module) -> bool:
    """Whether there is a parameter of that name; others have values of the encoder's own."""
    # The signature of a compiled module is that of none: its original has it.
    own = getattr(encoder, "_orig_mod", encoder)
    return "cond" in inspect.signature(own.forward).parameters


def _everywhere(mean: Tensor) -> Tensor:
    """The mean over all processes, whose parts of a batch are equally large."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean

"""Discrete latents of rows of tokens, on top of any state of theirs: `--state latent`.

An encoder reads the clean row and picks m codes of k values; the denoiser of `latent_base`, which
else knows of a noisy row no more than itself, is told them (`TwoStages`). What a row costs in bits
then has two parts, given its codes and for them (`latent_bound`). The prior knows nothing of what a
template says, so what is drawn in gaps is told no codes, unless they are given.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from noiseloom.bound import nats_bound
from noiseloom.latents import (
    Latent,
    Temperature,
    annealed_temperature,
    dead_codes,
    information,
    latent_bound,
    perplexity,
)
from noiseloom.nets import RowEncoder
from noiseloom.recipes.recipe import Facts, Given, Parts
from noiseloom.recipes.two_stages import NoPriorError, TwoStages
from noiseloom.rng import Rng

__all__ = ["LatentRows", "Way"]

_MOST = 4096  # logits of a row's codes

Way: TypeAlias = Literal["drawn", "surest", "none"]
"""Which codes a bound is with: a draw of the encoder's, its surest, or none."""


@dataclass(frozen=True)
class LatentRows(TwoStages):
    """Options of the state latent; those of `TwoStages` too, which say nothing of other states.

    Attributes:
        latent_base: the state that is told codes, where `state` is latent.
        relaxation_start: temperature of the relaxation at first.
        relaxation_end: from 70 % of training on.
        encoder_width: features of the encoder's tokens, a multiple of 4 and of `heads`; by default
            about half of the width.
        encoder_depth: its blocks.
        code_depth: blocks of attention between the codes before they are read.
    """

    latent_base: Literal["masked", "uniform", "marginal", "bits", "onehot", "embedding"] = "masked"
    m: int = 2
    k: int = 8
    hard: bool = True
    bonus: float = 0.03
    penalty: float = 0.03
    fade: float = 3.0
    relaxation_start: float = 1.0
    relaxation_end: float = 1.0
    encoder_width: int | None = None
    encoder_depth: int = 2
    code_depth: int = 1
    prior_steps: int = 500
    prior_width: int = 32
    prior_depth: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.coded:
            return
        if self.codes == "oracle":
            raise ValueError("codes oracle are for pictures and points: bits are of drawn codes")
        if self.m < 1 or self.k < 2 or self.m * self.k > _MOST:
            raise ValueError(
                f"state latent needs m >= 1, k >= 2 and m k <= {_MOST}, got m {self.m}, k {self.k}"
            )
        for name in ("encoder_width", "encoder_depth"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.code_depth < 0:
            raise ValueError(f"code_depth must be at least 0, got {self.code_depth}")
        self.relaxation()  # which refuses temperatures that are none

    def relaxation(self) -> Temperature:
        """As the options say."""
        return annealed_temperature(self.relaxation_start, self.relaxation_end)

    @property
    def network_codes(self) -> dict[str, Any]:
        """Options of the transformer that reads the codes, if there are any."""
        return {"codes": (self.m, self.k), "code_depth": self.code_depth} if self.coded else {}

    def row_encoder(
        self, features: int, facts: Facts, width: int, heads: int, *, alike: bool
    ) -> RowEncoder:
        """The encoder of a denoiser of that width, for classes or vectors of so many features."""
        unit = math.lcm(4, heads)
        half = unit * max(1, round(width / 2 / unit))
        return RowEncoder(
            features,
            self.m,
            self.k,
            places=None if alike else facts["length"],
            width=half if self.encoder_width is None else self.encoder_width,
            depth=self.encoder_depth,
            heads=heads,
        )

    def codes_for(self, parts: Parts, given: Given, rng: Rng) -> dict[str, Tensor]:
        """The condition of rows that are drawn, those of a template among them.

        Raises:
            NoPriorError: codes of a prior are wanted, and there is none.
            ValueError: gaps are to be filled without codes, which training never dropped.

        Warns:
            UserWarning: gaps are filled without codes, and nobody asked for that.
        """
        if "known" not in given or "codes" in given:
            return self.told_codes(parts, {}, given, rng)
        if isinstance(parts.denoiser, Latent) and not self.knows_none:
            raise ValueError(
                "codes of a prior know nothing of what is known: give some (--codes-from FILE), or "
                "train a model that does without codes at times, --code-drop 0.1"
            )
        if isinstance(parts.denoiser, Latent) and self.codes != "none":
            warnings.warn(
                "what is filled in is told no codes: those of a prior know nothing of what is "
                "known; give some with --codes-from FILE",
                stacklevel=2,
            )
        return {}

    def log_prior(self, parts: Parts) -> Callable[[Tensor], Tensor]:
        """The ln p(z) of the law that samples' codes are drawn from.

        Raises:
            NoPriorError: it is the prior's, and there is none.
        """
        model, prior = parts.denoiser, parts.prior
        assert isinstance(model, Latent)
        if self.codes != "marginal":
            if prior is None:
                raise NoPriorError(named=self.prior != "none")
            return prior.log_prob
        usage = model.usage.double().clamp_min(1e-30)
        nats = (usage / usage.sum(-1, keepdim=True)).log()
        return lambda z: nats[torch.arange(z.shape[1], device=z.device), z].sum(1)

    def coded_nats(
        self,
        parts: Parts,
        rows: Tensor,
        rng: Rng,
        way: Way,
        **options: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        """Nats of rows (B, T) given their codes, by each call (calls, B), and of the codes (B,)."""
        model = parts.denoiser
        assert isinstance(model, Latent)
        core: Any = model.denoiser
        if way == "none":
            nats = nats_bound(core, parts.diffusion, rows, rng, **options)
            return nats, torch.zeros_like(nats[0])
        return latent_bound(
            core,
            parts.diffusion,
            rows,
            rng,
            logits=model.logits(self.clean(parts, {"tokens": rows})),
            log_prior=self.log_prior(parts),
            surest=way == "surest",
            **options,
        )

    @torch.no_grad()
    def usage_of_rows(self, parts: Parts, tokens: Tensor) -> dict[str, float]:
        """How codes of rows (B, T) are used, and how many bits they tell of a row, I(z_i; x)."""
        model = parts.denoiser
        assert isinstance(model, Latent)
        rows = torch.split(tokens.to(model.usage.device), 128)
        q = torch.cat(
            [model.logits(self.clean(parts, {"tokens": r})).softmax(-1).double() for r in rows]
        )
        share = q.mean(0)
        return {
            "perplexity": float(perplexity(share).mean()),
            "dead_codes": float(dead_codes(share).sum()),
            "information": float(information(q).sum()),
        }

"""What models of rows of tokens are judged by besides their samples: bits per token.

A bound, by `nats_bound` or `latent_bound`, and exact of the autoregressive state.

They are bits of one law, that of the moves from noise to data as they become ever smaller: shared
by all tokens, and of codes noisy (`ddpm-small`, `ddpm`). With the exact denoiser other ways of
drawing lead to the same law, and with any other they do not: token by token, back up in between, by
the flow. A figure beside samples of another law would be taken for theirs, so there is none, but
where all that differs is a default (the flow, and estimates that are handed on): then it is said.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noiseloom.bound import nats_bound
from noiseloom.class_denoiser import CodeDenoiser
from noiseloom.data import Split
from noiseloom.data.tokens import evenly
from noiseloom.latents import Latent
from noiseloom.metrics.rows import mean_and_error
from noiseloom.next_token import NextToken
from noiseloom.plan import SamplingPlan
from noiseloom.progress import tell
from noiseloom.recipes.class_options import CODES, ClassOptions
from noiseloom.recipes.class_pieces import end_of, mean_bits
from noiseloom.recipes.latent_rows import Way
from noiseloom.recipes.recipe import Facts, Given, Parts
from noiseloom.rng import Rng

__all__ = ["ROW", "SEEN", "ClassBits"]

ROW = 32
"""Tokens of a row that is drawn once for its bound; shorter ones are drawn more often."""

SEEN = 256
"""Training rows whose bits are measured beside those of held-out ones, at most."""

MODEL: dict[str, tuple[object, ...]] = {
    "plan": ("uniform", "karras", "full-sequence"),
    "rest": (0, None),
    "td": (0,),
    "churn": (0,),
    "restarts": ((),),
    "resample": (1,),
    "guidance": (1,),
    "momentum": (0,),
    "self_guidance": (0, 1),
    "code_guidance": (1,),
    "code_temperature": (1,),
    "code_top_p": (1,),
    "unmask": ("random",),
    "temperature": (1,),
    "top_p": (1,),
    "beams": (1,),
}
"""Options of drawing, and the values by which samples are draws of the model that bits are of.

`sampler` is none of them: its default is the flow, and `caveat` says so.
"""
_NOISY = ("ddpm", "ddpm-small")


@dataclass(frozen=True)
class ClassBits(ClassOptions):
    """Options of `ClassOptions`."""

    def bits(
        self, parts: Parts, tokens: Tensor, rng: Rng, end: int | None = None
    ) -> tuple[float, float]:
        """Bits per token of rows, and their standard error: a bound, or exact if autoregressive.

        With an `end`, of sequences, what fills rows up after the first one is no token.
        """
        return mean_bits(self.nats(parts, tokens, rng)[-1].sum(0), tokens, end)

    @torch.no_grad()
    def nats(
        self,
        parts: Parts,
        tokens: Tensor,
        rng: Rng,
        way: Way | None = None,
        beside: Given | None = None,
    ) -> Tensor:
        """Nats of rows (N, T), and beside them those of their codes, shape (calls, 2, N).

        The last counts; a self-conditioned model is first called once, told no estimate.

        Args:
            parts: of the model.
            tokens: the rows.
            rng: one key.
            way: which codes; by default drawn, or none where `codes` says so.
            beside: what stands beside the rows, as in a batch.
        """
        device = next(parts.denoiser.parameters()).device
        whole, found = parts.denoiser.eval(), []
        way = way or ("none" if self.codes == "none" else "drawn")
        codec = parts.codec if isinstance(parts.codec, CodeDenoiser) else None
        options: dict[str, Any] = {"codec": codec, "points": self.levels, "each": True}
        options["passes"] = 2 if self.share else 1
        for start in range(0, len(tokens), 128):
            tell("bits of rows", start, len(tokens))
            rows = tokens[start : start + 128].to(device)
            keys = rng.samples(len(rows), start, device)
            others = {n: v[start : start + 128].to(device) for n, v in (beside or {}).items()}
            model, cond = self.reading(whole, others)
            if isinstance(model, NextToken):
                told, paid = -model.log_prob(rows, cond=cond).double()[None], torch.zeros(())
            elif isinstance(model, Latent):
                told, paid = self.coded_nats(parts, rows, keys, way, **options)
            else:
                told, paid = (
                    nats_bound(model, parts.diffusion, rows, keys, cond=cond, **options),
                    torch.zeros(()),
                )
            found.append(torch.stack((told, paid.to(told).expand_as(told)), 1))
        return torch.cat(found, 2).cpu()

    def examine(self, parts: Parts, facts: Facts, data: Split[Any], rng: Rng) -> dict[str, float]:
        """Bits per token of held-out rows; a bound, but of the autoregressive state.

        None where samples are no draws of the model (`unlike`), or are led by a guide: bits beside
        them would be taken for theirs.

        Sequences have as many tokens as symbols, and their end, and `bits_per_row` beside it.

        Of a self-conditioned model it is that of two calls at a level, as it is trained, and there
        is that of one call beside it (`noiseloom.bound`). Of the state latent with codes as the
        encoder draws them, `codes` of these bits for the codes; and with its surest ones, and with
        none, if training dropped codes. Where samples are told none, it is with none alone.

        Bounds are means over several draws of each row where there are fewer than `judged`, or rows
        are shorter than `ROW` tokens: as many as make up so many rows of so many tokens.
        Training rows, at most `SEEN`, have `bits_per_token_seen`: far less, and the model has
        learnt rows by heart.
        """
        held, seen = data.held_out, data.train
        others = held[evenly(len(held), self.judged)]
        tokens, key, end = others.pop("tokens"), rng.fold("bits"), end_of(facts)
        draws = max(self.judged // len(tokens), self.judged * ROW // tokens.numel(), 1)
        draws = 1 if isinstance(parts.denoiser, NextToken) else draws

        def nats_of(way: Way | None = None) -> Tensor:
            """Means over draws of the rows, (calls, 2, N)."""
            several = {n: v.repeat(draws, *[1] * (v.ndim - 1)) for n, v in others.items()}
            found = self.nats(parts, tokens.repeat(draws, 1), key, way, several)
            return found.reshape(*found.shape[:2], draws, len(tokens)).mean(2)

        found = super().examine(parts, facts, data, rng)
        if self.unlike or parts.steering is not None:
            return found | (self.usage_of_rows(parts, tokens) if self.coded else {})
        first, nats = nats_of()[[0, -1]]
        found["bits_per_token"], error = mean_bits(nats.sum(0), tokens, end)
        if not math.isnan(error):
            found["bits_per_token_se"] = error
        shown = seen[evenly(len(seen), min(self.judged, SEEN))]
        each = self.nats(parts, learnt := shown.pop("tokens"), rng.fold("train"), beside=shown)
        found["bits_per_token_seen"], error = mean_bits(each[-1].sum(0), learnt, end)
        if not math.isnan(error):
            found["bits_per_token_seen_se"] = error
        if end is not None:
            found["bits_per_row"], error = mean_and_error(nats.sum(0) / math.log(2))
            found |= {} if math.isnan(error) else {"bits_per_row_se": error}
        if self.share:
            found["bits_per_token_one_call"], _ = mean_bits(first.sum(0), tokens, end)
        if not self.coded:
            return found
        found["bits_per_token_codes"], _ = mean_bits(nats[1], tokens, end)
        ways: tuple[Way, ...] = ("surest", "none") if self.knows_none else ("surest",)
        ways = () if self.codes == "none" else ways
        for way in ways:
            found[f"bits_per_token_{way}"], _ = mean_bits(nats_of(way)[-1].sum(0), tokens, end)
        return found | self.usage_of_rows(parts, tokens)

    @property
    def unlike(self) -> str:
        """The options by which samples are no draws of the model, as they are typed, or ""."""
        idle = {*self.idle, *(("plan",) if self.by_file else ())}
        if self.plan in ("uniform", "karras"):
            idle |= {"rest"}  # of tokens with times of their own
        found = [
            f"--{name.replace('_', '-')} {_typed(getattr(self, name))}"
            for name, like in MODEL.items()
            if getattr(self, name) not in like and name not in idle
        ]
        if self.by_file and "plan" not in self.idle:
            plan = SamplingPlan.load(self.plan)
            if not plan.gapless:
                found.append(f"--plan {self.plan}, whose rows have gaps,")
            elif not plan.shared:
                found.append(f"--plan {self.plan}, whose tokens have times of their own,")
        return " and ".join(found)

    @property
    def caveat(self) -> str:
        """That samples are not of the model that bits are of: then there are none.

        Of a self-conditioned model there are some, and of codes that are drawn by the flow, and it
        is said what they are of.
        """
        if self.unlike:
            return (
                f"samples with {self.unlike} are no draws of the model: they have no bits_per_token"
            )
        flow = self.base in CODES and self.sampler not in _NOISY
        handed = self.share > 0 and self.self_guidance != 1
        if self.state == "autoregressive" or not (flow or handed):
            return ""
        by = f"by the flow (--sampler {self.sampler})"
        draws = " ".join((*["--self-guidance 1"] * handed, *["--sampler ddpm-small"] * flow))
        if not handed:
            return (
                f"bits_per_token of codes is of noisy moves, which {draws} draws from; their "
                f"samples here are drawn {by}, whose law is another where the denoiser is not exact"
            )
        return (
            "bits_per_token of self-conditioned models is of two calls at a level, which "
            f"{draws} draws from; their samples here are drawn with estimates that are "
            f"handed from step to step{', and ' + by if flow else ''}, which has no bound"
        )


def _typed(value: object) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return json.dumps(value, separators=(",", ":"))
    return f"{value:g}" if isinstance(value, float) else str(value)

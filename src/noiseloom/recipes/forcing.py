"""Diffusion Forcing: a noise level per token, and the order of denoising chosen when sampling.

B. Chen et al., 2024, "Diffusion Forcing: Next-token Prediction Meets Full-Sequence Diffusion",
arXiv 2407.01392. From top to bottom: the options, Algorithm 1 (the loss) with its two baselines as
options, and the plans of Algorithm 2. Recipes for a data set say what a token is and load it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.denoiser import Preconditioned
from noiseloom.nets import CausalTransformer, Recurrent, Transformer
from noiseloom.noise import SCHEDULES, Schedule
from noiseloom.objective import Weight, denoising_loss, eps_weight, min_snr_weight, v_weight
from noiseloom.plan import SamplingPlan
from noiseloom.plan_file import PLAN_FILES
from noiseloom.recipes.recipe import Facts, Parts, Recipe
from noiseloom.rng import Rng
from noiseloom.tokens import (
    TeacherForced,
    forcing_times,
    fused_snr_weight,
    missing,
    sigmoid_weight,
)
from noiseloom.training import Loss

__all__ = ["DiffusionForcing", "token_plan"]

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class DiffusionForcing(Recipe):
    """A sequence model of tokens, each with its own noise level.

    Attributes:
        plan: the order in which tokens become certain: autoregressive, full-sequence, pyramid:U,
            trapezoid:U (U steps per token), chunked:N, or a file (`SamplingPlan.load`); auto is
            autoregressive for a causal network and full-sequence for another.
        rest: time that finished tokens wait at until all are done; null for 0.1, or for 0 of a plan
            from a file, and where teacher forcing has never shown the network a noisy past.
        forcing: times of the tokens in training: independent (Diffusion Forcing), full-sequence or
            teacher-forcing (the baselines). Teacher forcing trains every token after a clean past,
            in two passes; with network bidirectional, which has no past, one token of a sequence.
        network: causal (a transformer), recurrent (the paper's form), or bidirectional.
        schedule: of the noise.
        target: what the network predicts.
        weight: of the squared error: min-snr, fused-snr (a clean past counts as signal), sigmoid,
            or that of the target (target).
        snr_decay: of fused-snr, in [0, 1).
        snr_variant: fused-snr as in the released code, or as in the paper.
        clock: largest |log-SNR| that the network is told, at most 20; times beyond are told as it.
        self_conditioning: share of the batch with a first pass; 0 for none.
        width: features of a token inside the network.
        depth: blocks, or recurrent cells.
        heads: attention heads.
        dropout: rate in the network.
    """

    paths: ClassVar[tuple[str, ...]] = ("plan",)

    plan: str = "auto"
    rest: float | None = None
    forcing: Literal["independent", "full-sequence", "teacher-forcing"] = "independent"
    network: Literal["causal", "recurrent", "bidirectional"] = "causal"
    schedule: Literal["cosine", "scaled-cosine", "sigmoid", "linear", "ddpm", "rectified-flow"] = (
        "cosine"
    )
    target: Literal["x0", "eps", "v"] = "v"
    weight: Literal["target", "min-snr", "fused-snr", "sigmoid"] = "min-snr"
    snr_decay: float = 0.9
    snr_variant: Literal["code", "paper"] = "code"
    clock: float = 20.0
    self_conditioning: float = 0.0
    width: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.self_conditioning <= 1:
            raise ValueError(f"self_conditioning must be in [0, 1], got {self.self_conditioning}")
        for name in ("dropout", "snr_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")

    @property
    def tokens(self) -> int:
        """T, tokens of a sequence."""
        raise NotImplementedError

    @property
    def clean_past(self) -> bool:
        """Whether training reads the clean tokens first, and each noisy one after these."""
        return self.forcing == "teacher-forcing" and self.network != "bidirectional"

    @property
    def kind_of_times(self) -> str:
        """Of the noisy tokens in training, one of `TIMES`: after a clean past, independent."""
        return "independent" if self.clean_past else self.forcing

    def past_time(self, given: float | None, usual: float) -> float:
        """The time at which finished tokens are seen: as given, or else as in training."""
        if given is not None:
            return given
        return 0.0 if self.forcing == "teacher-forcing" else usual

    @property
    def resting(self) -> float:
        """The time that `rest` stands for."""
        return self.past_time(self.rest, 0.0 if self.by_file else 0.1)

    def check_plan(self) -> None:
        """A file is read when it is needed: a run must open where its plan is not."""
        if self.plan != "auto" and not self.by_file:
            token_plan(self.plan, self.sampling_steps, self.tokens)

    @property
    def order(self) -> str:
        """The name that `plan` stands for."""
        if self.plan != "auto":
            return self.plan
        return "full-sequence" if self.network == "bidirectional" else "autoregressive"

    def named_plan(self, schedule: Schedule) -> SamplingPlan:
        """The plan that `plan` names, for sequences of this length."""
        return token_plan(self.order, self.sampling_steps, self.tokens)

    def plan_among(self, schedule: Schedule, known: Sequence[int], at: float = 0.0) -> SamplingPlan:
        """The plan of the tokens that are drawn, among those that are known and stay at a time.

        A file may have columns for the former alone, or for all; those of known tokens are held.
        """
        drawn = [i for i in range(self.tokens) if i not in known]
        plan = token_plan(self.order, self.sampling_steps, len(drawn), among=self.tokens)
        plan = self.complete(plan, schedule)
        if plan.t.shape[-1] == self.tokens:
            return plan.hold(known, at)
        return plan.among(self.tokens, drawn, at)

    @property
    def held_at(self) -> float:
        """The time at which known tokens are held beside others: clean."""
        return 0.0

    def plan_beside(self, schedule: Schedule, known: Sequence[int]) -> SamplingPlan:
        """The plan of what is filled in, among what is known."""
        return self.plan_among(schedule, known, self.held_at)

    def make_network(
        self, features: int, num_classes: int | None, action_features: int = 0
    ) -> nn.Module:
        """The network for tokens of so many features, and so many of what comes with a token."""
        common: dict[str, Any] = {
            "width": self.width,
            "depth": self.depth,
            "num_classes": num_classes,
            "self_conditioning": self.self_conditioning > 0,
            "dropout": self.dropout,
        }
        common["action_features"] = action_features
        if self.network == "bidirectional":
            return Transformer(
                features, features, heads=self.heads, max_length=self.tokens, **common
            )
        if self.network == "recurrent":
            return Recurrent(features, features, **common)
        return CausalTransformer(features, features, heads=self.heads, window=self.tokens, **common)

    def make_trained(
        self, features: int, num_classes: int | None, action_features: int = 0
    ) -> nn.Module:
        """What is trained: the network as a denoiser, self-conditioned or not."""
        network = self.make_network(features, num_classes, action_features)
        schedule = SCHEDULES[self.schedule]
        denoiser = Preconditioned(network, schedule, target=self.target, clock=self.clock)
        return SelfConditioned(denoiser) if self.self_conditioning else denoiser

    def make_weight(self) -> Weight | None:
        """Of the squared error of x_0, by log-SNR."""
        if self.weight == "min-snr":
            return min_snr_weight()
        if self.weight == "sigmoid":
            return sigmoid_weight()
        if self.weight == "fused-snr":
            return fused_snr_weight(
                self.snr_decay,
                target=self.target,
                variant=self.snr_variant,
                clean_past=self.clean_past,
            )
        return {"x0": None, "eps": eps_weight, "v": v_weight}[self.target]

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """Algorithm 1: a time for every token, one noise, one prediction, a weight each.

        Of a causal network that is teacher-forced, each prediction is after a clean past. Tokens
        that are missing are at time 1, or no part of that past, and count for nothing: a sample
        with fewer tokens has a smaller loss.
        """
        weight = self.make_weight()

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
            clean = self.clean(parts, batch)
            t, counted = self.times(clean, rng.fold("time"))
            clean = self.shown(clean, t, counted, facts)
            told = self.told(batch, facts, rng)
            real, share = self.real(batch), None
            if real is not None:
                there = real.reshape(*real.shape, *[1] * (clean.ndim - 2))
                clean = torch.where(there, clean, 0)  # at time 1 some schedules leave a trace
                asked = torch.ones_like(real) if counted is None else counted
                t, counted = missing(t, asked, real)
                share = counted.sum(1) / asked.sum(1)
            if self.clean_past:
                model, told = TeacherForced(model), {**told, "past": clean}
                told |= {} if real is None else {"mask": real}
            found = denoising_loss(
                model,
                parts.diffusion,
                clean,
                t,
                told,
                rng,
                rows=rows,
                self_conditioning=self.self_conditioning,
                weight=weight,
                counted=counted,
            )
            return found if share is None else found * share

        return loss

    def real(self, batch: dict[str, Tensor]) -> Tensor | None:
        """Which tokens of a training batch are there, bool (B, T); None for all."""
        return None

    def times(self, clean: Tensor, rng: Rng) -> tuple[Tensor, Tensor | None]:
        """Times of the tokens of a training batch, and which of them count (None: all)."""
        kind = self.kind_of_times
        t, counted = forcing_times(kind, clean.shape[:2], rng, clean.device)
        return t, counted if kind == "teacher-forcing" else None

    def shown(self, clean: Tensor, t: Tensor, counted: Tensor | None, facts: Facts) -> Tensor:
        """The clean tokens of a training batch as they are shown: as they are."""
        return clean

    def check_order(self, schedule: Schedule) -> None:
        """Nothing more: `sample` warns of a plan that this network samples with a bias."""


def token_plan(name: str, steps: int, tokens: int, among: int | None = None) -> SamplingPlan:
    """The plan of a name.

    Args:
        name: full-sequence, autoregressive, pyramid:U, trapezoid:U, chunked:N, or a .json or .csv
            file.
        steps: S, per token; a file has its own.
        tokens: T, that are drawn.
        among: tokens of the sequence that they are part of, whose others are known: a file may be
            of all of these instead.

    Raises:
        ValueError: a name that is none, or a file whose rows are not (1, T), or are for another
            number of tokens, or do not lead each from 1 to 0 (those that are known are held
            afterwards).

    Example:
        >>> len(token_plan("pyramid:2", 10, 4))
        16
    """
    kind, _, value = name.partition(":")
    if Path(name).suffix in PLAN_FILES:
        plan = SamplingPlan.load(name)
        row = tuple(plan.t.shape[1:])
        if len(row) != 2 or row[0] != 1:  # (T,) would be a time for each of so many samples
            raise ValueError(
                f"{name}: its rows have shape {row}, and a time per token has shape (1, {tokens}): "
                "write each row as [[...]], with two pairs of brackets"
            )
        if row[1] not in (1, tokens, among):
            all_ = f" that are drawn, or of all {among}" if among not in (None, tokens) else ""
            raise ValueError(
                f"{name} is a plan for other sequences than of {tokens} tokens{all_}: {plan}"
            )
        try:
            plan.check_whole()  # other tokens would come out as noise
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return plan
    try:
        if kind in ("full-sequence", "autoregressive") and not value:
            make = SamplingPlan.full_sequence if kind[0] == "f" else SamplingPlan.autoregressive
            return make(steps, tokens)
        if kind in ("pyramid", "trapezoid"):
            ramp = SamplingPlan.pyramid if kind[0] == "p" else SamplingPlan.trapezoid
            return ramp(steps, tokens, _number(float, value, "U steps per token, as in pyramid:2"))
        if kind == "chunked":
            chunk = _number(int, value, "N tokens in a chunk, as in chunked:2")
            return SamplingPlan.chunked(steps, tokens, chunk)
    except ValueError as error:
        raise ValueError(f"plan {name!r}: {error}") from error
    raise ValueError(
        f"there is no plan {name!r}: choose auto, full-sequence, autoregressive, pyramid:U, "
        "trapezoid:U, chunked:N, or a .json or .csv file"
    )


def _number(kind: type[N], value: str, wanted: str) -> N:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"it needs {wanted}") from None

"""Context-guided diffusion of benzenoids, whose true property is known of whatever is drawn.

L. Klarner, T. Rudner, G. Morris, C. Deane, Y. W. Teh, 2024, "Context-Guided Diffusion for
Out-of-Distribution Molecular and Protein Design", arXiv 2407.11942, Section 5.2, on data that need
no download: all cata-condensed benzenoids of a number of rings, as the centres of their rings, with
the exact Hueckel gap. The model and its guides learn from one cluster of them, in which there is no
small gap; guides learn what they do not know from the others, without labels.

    noise    EDM's (T. Karras et al., 2022, 2206.00364), on points of zero centre
    network  E(n)-equivariant, self-conditioned on its estimate
    draw     DDPM along Karras' levels; points within 0.15 bond lengths of a lattice snap to it
    guide    mean and variance of the gap at any level of noise, of an invariant network
    judge    the gap of every structure that was drawn, computed
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.data import Benzenoids, Split, snap
from noiseloom.denoiser import Preconditioned
from noiseloom.diffusion import GaussianDiffusion, ZeroCentre
from noiseloom.encodings import Standardised
from noiseloom.nets import EGNN
from noiseloom.noise import EDM, Schedule
from noiseloom.objective import denoising_loss, edm_weight, log_normal_times
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.benzenoid_sets import drawn_report, keep_at, part
from noiseloom.recipes.guided_benzenoids import GuidedBenzenoids
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts, Recipe
from noiseloom.rng import Rng
from noiseloom.sampling import sample
from noiseloom.training import Loss

__all__ = ["ContextBenzenoids"]


@dataclass(frozen=True)
class ContextBenzenoids(GuidedBenzenoids, Recipe):
    """Options of `Recipe` and `GuidedBenzenoids`, and of the network.

    Attributes:
        width: features of a ring in the network.
        depth: its layers.
        self_conditioning: share of updates that see an estimate.
        noise_mean: mean of ln(sigma / deviation of the data) in training.
        noise_std: deviation of that.
    """

    name: ClassVar[str] = "context-benzenoids"
    summary: ClassVar[str] = (
        "benzenoids as rings in space, led to small Hueckel gaps that are known"
    )
    shows: ClassVar[Any] = "benzenoids"

    steps: int = 5000
    batch_size: int = 64
    learning_rate: float = 1e-3
    beta2: float = 0.99
    decay: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = 0.999
    threads: int = 1
    conditional: bool = False
    plan: str = "karras"
    sampling_steps: int = 100
    sampler: Literal["ddim", "ddpm", "ddpm-small", "heun", "heun-edm", "dpm++2m"] = "ddpm-small"
    samples: int = 512

    width: int = 64
    depth: int = 4
    self_conditioning: float = 0.9
    noise_mean: float = -1.0
    noise_std: float = 1.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conditional:
            raise ValueError("context-benzenoids is told no classes: leave conditional off")
        self.check_rings()
        if min(self.width, self.depth) < 1 or self.width % 2:
            raise ValueError(
                f"width must be even and above 0, depth at least 1, got {self.width}, {self.depth}"
            )
        if not 0 <= self.self_conditioning <= 1:
            raise ValueError(f"self_conditioning must be in [0, 1], got {self.self_conditioning}")
        if not 0 < self.noise_std <= 3:
            raise ValueError(f"noise_std is that of ln sigma, in (0, 3], got {self.noise_std}")

    def load(self, data: str | None) -> Split[Benzenoids]:
        """All benzenoids of so many rings: one part to train on, the others held out.

        Args:
            data: a file of `noiseloom record benzenoids`, which is faster; None to enumerate them.
        """
        keep_at(data, self.rings)
        try:
            train, held = (part(self.rings, self.split, word) for word in ("train", "others"))
        except (OSError, ValueError):  # a file that is none is not looked at again
            keep_at(None, self.rings)
            raise
        return Split(train, held)

    def recall(self, data: str | None) -> None:
        """Read them where the run has read them, as long as that file is there."""
        keep_at(data if data and Path(data).is_file() else None, self.rings)

    def introduce(self, data: Split[Benzenoids]) -> str:
        """How many there are, and their gaps."""
        told = [
            f"{len(own):,} {what}, gaps {float(own.gaps.min()):.3f} to {float(own.gaps.max()):.3f}"
            for own, what in ((data.train, "to train on"), (data.held_out, "held out"))
        ]
        return f"benzenoids of {self.rings} rings: {'; '.join(told)}"

    def facts(self, data: Split[Benzenoids]) -> Facts:
        """Rings, and the deviation of their centres along each axis, in bond lengths."""
        every = data.train[torch.arange(len(data.train))]["positions"].double()
        return {"rings": self.rings, "std": float(every.square().mean().sqrt())}

    def fits(self, facts: Facts, own: Facts) -> None:
        """The number of rings must be the same."""
        if facts["rings"] != own["rings"]:
            raise ValueError(f"the run draws {own['rings']} rings, and the data {facts['rings']}")

    def drawn_as(self, facts: Facts) -> str | None:
        """Benzenoids."""
        return "benzenoids"

    def build(self, facts: Facts) -> Parts:
        """An equivariant network in EDM's preconditioning, of states of unit deviation."""
        schedule = EDM(self.sigma_max / facts["std"])
        told = self.self_conditioning > 0
        network = EGNN(width=self.width, depth=self.depth, self_conditioning=told)
        denoiser: nn.Module = Preconditioned(network, schedule, target="edm")
        denoiser = SelfConditioned(denoiser) if told else denoiser
        codec = Standardised((0.0,) * 3, (facts["std"],) * 3)
        return Parts(denoiser, GaussianDiffusion(schedule, ZeroCentre()), codec)

    def clean(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """The centres of the rings."""
        return parts.codec.encode(batch["positions"])

    def told(self, batch: dict[str, Tensor], facts: Facts, rng: Rng) -> dict[str, Tensor]:
        """Nothing: all structures have as many rings."""
        return {}

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """The squared error, at EDM's times and weights."""

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
            clean = self.clean(parts, batch)
            t = log_normal_times(
                (len(clean),),
                rng.fold("time"),
                parts.diffusion.schedule,
                mean=self.noise_mean,
                std=self.noise_std,
                device=clean.device,
            )
            return denoising_loss(
                model,
                parts.diffusion,
                clean,
                t,
                {},
                rng,
                rows=rows,
                self_conditioning=self.self_conditioning,
                weight=edm_weight(1.0),
            )

        return loss

    def named_plan(self, schedule: Schedule) -> SamplingPlan:
        """Karras' levels from the schedule's own first one."""
        if self.plan != "karras":
            return super().named_plan(schedule)
        first = float(schedule(torch.ones((), dtype=torch.float64))[1])
        return SamplingPlan.karras(self.sampling_steps, schedule, sigma_max=first)

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """From noise of zero centre along the plan, led by a guide if there is one."""
        device = next(parts.denoiser.parameters()).device
        denoiser = self.make_denoiser(parts.denoiser, {}).eval()
        assert isinstance(rng.root, Tensor)
        x = torch.empty(len(rng.root), facts["rings"], 3, device=device)
        x = parts.diffusion.prior(x, rng.fold("prior"))
        plan = self.make_plan(parts.diffusion.schedule)
        denoiser, solver = parts.steered(denoiser, self.make_solver())
        return sample(denoiser, parts.diffusion, plan, x, cond={}, rng=rng, solver=solver)

    def evaluate(
        self, draw: Callable[..., Tensor], data: Split[Benzenoids], rng: Rng
    ) -> dict[str, float]:
        """How many are valid, different and new, and their true gaps (`drawn_report`)."""
        return drawn_report(snap(draw({"row": torch.arange(self.samples)})), self.rings, self.split)

    @property
    def usage(self) -> str:
        """Draw, and take points for structures."""
        return (
            'drawn = run.samples({"row": torch.arange(16)}, seed=1)  # centres of rings\n'
            "print(noiseloom.data.snap(drawn).keys)"
        )

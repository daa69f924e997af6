"""DisCo-Diff for numbers: what recipes with learnt discrete latents of Gaussian states share.

Y. Xu, G. Corso, T. Jaakkola, A. Vahdat, K. Kreis, 2024, "DisCo-Diff: Enhancing Continuous Diffusion
Models with Discrete Latents", arXiv 2407.03300.

The first of the `TwoStages` is EDM's (T. Karras et al., 2022, arXiv 2206.00364), whose denoiser is
told codes. A recipe brings its data, a network that reads codes, an encoder and a codec.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.data import Split
from noiseloom.denoiser import Preconditioned
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Codec
from noiseloom.latents import (
    Temperature,
    annealed_temperature,
    constant_temperature,
    latent_loss,
)
from noiseloom.noise import EDM
from noiseloom.objective import denoising_loss, edm_weight, log_normal_times
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts, channels_last
from noiseloom.recipes.sampling import Coding
from noiseloom.recipes.two_stages import TwoStages
from noiseloom.rng import Rng
from noiseloom.sampling import sample
from noiseloom.training import Loss

__all__ = ["Coded", "evenly"]


@dataclass(frozen=True)
class Coded(TwoStages, Coding):
    """Discrete latents of states that EDM makes; options of `TwoStages` and `Coding` too.

    Attributes:
        m: number of latents; 0 is the plain denoiser.
        temperature: of the relaxation, constant (the paper's) or annealed.
        temperature_start: at first, or throughout.
        temperature_end: of an annealed one, from 70 % of training on.
        noise_mean: mean of ln sigma in training.
        noise_std: deviation of ln sigma in training.
        data_std: of the states, along each axis.
    """

    data_std: ClassVar[float] = 0.5

    m: int = 10
    temperature: Literal["constant", "annealed"] = "constant"
    temperature_start: float = 1.0
    temperature_end: float = 0.3
    noise_mean: float = -1.2
    noise_std: float = 1.2

    def __post_init__(self) -> None:
        super().__post_init__()
        Coding.__post_init__(self)
        for name in ("momentum", "self_guidance"):
            if getattr(self, name):
                raise ValueError(f"{name} needs a model that is self-conditioned on its estimate")
        if not -6 <= self.noise_mean <= 4:
            raise ValueError(f"noise_mean is that of ln sigma, in [-6, 4], got {self.noise_mean}")
        if not 0 < self.noise_std <= 3:
            raise ValueError(f"noise_std is that of ln sigma, in (0, 3], got {self.noise_std}")

    def make_network(self, facts: Facts, codes: tuple[int, int] | None) -> nn.Module:
        """The network, which reads `cond["codes"]`, (B, m, k), if codes is (m, k)."""
        raise NotImplementedError

    def make_encoder(self, facts: Facts) -> nn.Module:
        """The encoder: clean states to logits (B, m, k)."""
        raise NotImplementedError

    def make_codec(self, facts: Facts) -> Codec:
        """Data to state and back."""
        raise NotImplementedError

    def shape(self, parts: Parts, facts: Facts) -> tuple[int, ...]:
        """The shape of one state; by default that of an encoded picture."""
        one = parts.codec.encode(torch.zeros(1, *facts["shape"], dtype=torch.uint8))
        return tuple(one.shape[1:])

    def build(self, facts: Facts) -> Parts:
        """EDM's denoiser, and with codes their encoder."""
        schedule = EDM()
        network = self.make_network(facts, (self.m, self.k) if self.m else None)
        trained: nn.Module = Preconditioned(network, schedule, target="edm", data_std=self.data_std)
        if self.m:
            trained = self.make_latent(trained, self.make_encoder(facts), facts)
        return Parts(trained, GaussianDiffusion(schedule), self.make_codec(facts))

    def relaxation(self) -> Temperature:
        """As the options say."""
        if self.temperature == "annealed":
            return annealed_temperature(self.temperature_start, self.temperature_end)
        return constant_temperature(self.temperature_start)

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """Eq. 3, at EDM's times and weights."""
        weight, schedule = edm_weight(self.data_std), parts.diffusion.schedule

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
            clean, cond = self.clean(parts, batch), self.told(batch, facts, rng)
            t = log_normal_times(
                (len(clean),),
                rng.fold("time"),
                schedule,
                mean=self.noise_mean,
                std=self.noise_std,
                device=clean.device,
            )
            options: dict[str, Any] = {"rows": rows, "weight": weight}
            if not self.m:
                return denoising_loss(model, parts.diffusion, clean, t, cond, rng, **options)
            options["labels"] = batch["label"]
            return latent_loss(model, parts.diffusion, clean, t, cond, rng, **options)

        return loss

    @property
    def caveat(self) -> str:
        """That comparisons by evaluations go without restarts, where other samples do not."""
        put_back = {"restarts": bool(self.restarts), "resample": self.resample > 1}
        names = " and ".join(name for name, on in put_back.items() if on)
        if not names or not self.evaluations:
            return ""
        return (
            "comparisons by evaluations count calls of the network, and are drawn without "
            f"{names}: only the other samples are drawn with that"
        )

    def attached(
        self, parts: Parts, facts: Facts, given: Given, data: Split[Any], rng: Rng
    ) -> Given:
        """With `codes` oracle also codes of held-out samples, of the classes that are asked for.

        Each is told as often as any other of its class, but for one time.

        Raises:
            ValueError: no held-out sample is of a class that is asked for.
        """
        if self.codes != "oracle" or not self.coded:
            return given
        held, rows = data.held_out, torch.empty_like(given["label"])
        if self.classes_told(facts) is None:
            rows = evenly(len(held), len(rows), rng.fold("rows"))
        else:
            classes = held[torch.arange(len(held))]["label"]
            for label in sorted(set(given["label"].tolist())):
                pool, where = (classes == label).nonzero()[:, 0], given["label"] == label
                if not len(pool):
                    raise ValueError(
                        f"no held-out sample has class {held.classes[label]!r}, whose codes are "
                        "wanted: draw with other --codes"
                    )
                rows[where] = pool[evenly(len(pool), int(where.sum()), rng.fold("rows", label))]
        codes = self.encoded(parts, facts, held, rng.fold("codes"), rows=rows).codes
        return {**given, "codes": codes}

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """Algorithm 3, with codes that are given, int64 (B, m) under "codes", or drawn."""
        device = next(parts.denoiser.parameters()).device
        cond = self.cond(given["label"].to(device), facts) if "label" in given else {}
        cond |= self.told_codes(parts, cond, given, rng)
        denoiser = self.make_denoiser(parts.denoiser, cond).eval()
        assert isinstance(rng.root, Tensor)
        x = torch.empty(len(rng.root), *self.shape(parts, facts), device=device)
        x = channels_last(parts.diffusion.prior(x, rng.fold("prior")))
        plan, solver = self.make_plan(parts.diffusion.schedule), self.make_solver()
        return sample(denoiser, parts.diffusion, plan, x, cond=cond, rng=rng, solver=solver)


def evenly(size: int, count: int, rng: Rng) -> Tensor:
    """So many rows of a set in random order, each as often as any other but for one time."""
    return rng.permutation(size).repeat(-(-count // size))[:count]

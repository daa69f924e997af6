"""A recipe of one's own: own pictures and own network, and nothing to change in the package.

noiseloom train ./examples/my_recipe.py --out runs/stripes
noiseloom sample runs/stripes --recipe ./examples/my_recipe.py --label across
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import noiseloom as nl
from noiseloom.data import Images, Split
from noiseloom.objective import uniform_times
from noiseloom.training import Loss


class Network(nn.Module):
    """Any module (x, log_snr, cond) that returns something like x."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.clock, self.label = nn.Linear(1, width), nn.Embedding(2, width)
        self.inner = nn.Conv2d(channels, width, 15, padding=7)
        self.outer = nn.Conv2d(width, channels, 15, padding=7)

    def forward(self, x: Tensor, log_snr: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """An estimate of the clean state."""
        shift = self.clock(log_snr[:, None] / 10) + self.label(cond["label"])
        y: Tensor = self.outer(torch.relu(self.inner(x) + shift[:, :, None, None]))
        return y


@dataclass(frozen=True)
class Stripes(nl.Recipe):
    """Pictures of 8 x 8 pixels and 4 levels, striped across or down."""

    name, summary = "stripes", "stripes across or down, drawn by two convolutions"
    steps: int = 400
    samples: int = 100
    width: int = 64

    def load(self, data: str | None) -> Split:
        """Where the pictures come from."""
        down = nl.Rng(0).integers(4, (400, 1, 1, 8)).expand(-1, -1, 8, -1).to(torch.uint8)
        labels = torch.arange(400) % 2
        pixels = torch.where(labels[:, None, None, None] == 0, down.mT, down)
        images = Images(pixels, labels, ("across", "down"), levels=4)
        return Split(images.select(range(360)), images.select(range(360, 400)))

    def build(self, facts: nl.Facts) -> nl.Parts:
        """Codec, network and noise."""
        codec, schedule = nl.Bits(facts["levels"], "gray", axis=1), nl.Cosine()
        denoiser = nl.Preconditioned(Network(codec.width, self.width), schedule)
        return nl.Parts(denoiser, nl.GaussianDiffusion(schedule), codec)

    def loss(self, parts: nl.Parts, facts: nl.Facts) -> Loss:
        """What is minimised, one number per picture."""

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: nl.Rng, rows: Tensor) -> Tensor:
            x, cond = parts.codec.encode(batch["pixels"]), {"label": batch["label"]}
            t = uniform_times((len(x),), rng.fold("time"), x.device)
            return nl.denoising_loss(model, parts.diffusion, x, t, cond, rng)

        return loss

    def draw(
        self, parts: nl.Parts, facts: nl.Facts, labels: Tensor | None, rng: nl.Rng
    ) -> Iterator[nl.Step]:
        """How samples come from noise."""
        assert labels is not None
        device = next(parts.denoiser.parameters()).device
        shape = torch.empty(len(labels), 2, 8, 8, device=device)
        x, cond = parts.diffusion.prior(shape, rng.fold("prior")), {"label": labels.to(device)}
        plan, solver = self.make_plan(parts.diffusion.schedule), self.make_solver()
        return nl.sample(
            parts.denoiser, parts.diffusion, plan, x, cond=cond, rng=rng, solver=solver
        )

    def evaluate(
        self, draw: Callable[[Tensor], Tensor], data: Split, rng: nl.Rng
    ) -> dict[str, float]:
        """How good they are: the share of pixels that equal the one above."""
        pixels = draw(torch.ones(self.samples, dtype=torch.int64))
        return {"striped": float((pixels[:, :, 1:] == pixels[:, :, :-1]).float().mean())}

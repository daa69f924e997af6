"""A recipe of one's own: `noiseloom train ./examples/my_recipe.py --out runs/stripes`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import noiseloom as nl
from noiseloom.data import Images, Split


class Network(nn.Sequential):
    """Any module (x, log_snr, cond): this one sees noise level and class as further channels."""

    def forward(self, x: Tensor, log_snr: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Something like x."""
        seen = torch.stack((log_snr / 10, cond["label"]), 1)[:, :, None, None]
        return super().forward(torch.cat((x, seen.expand(-1, -1, *x.shape[2:])), 1))


@dataclass(frozen=True)
class Stripes(nl.Recipe):
    """Pictures of 8 x 8 pixels and 4 levels, striped across or down."""

    name, summary = "stripes", "stripes across or down, drawn by two convolutions"
    steps: int = 400
    width: int = 64  # an option: --width 32

    def load(self, data: str | None) -> Split:
        """Where the pictures come from."""
        down = nl.Rng(0).integers(4, (400, 1, 1, 8)).expand(-1, -1, 8, -1).to(torch.uint8)
        pixels, labels = torch.cat((down[:200].mT, down[200:])), torch.arange(400) // 200
        images = Images(pixels, labels, ("across", "down"), levels=4)
        return Split(images.select(range(20, 380)), images.select([*range(20), *range(380, 400)]))

    def build(self, facts: nl.Facts) -> nl.Parts:
        """Codec, network and noise."""
        codec, schedule = nl.Bits(facts["levels"], "gray", axis=1), nl.Cosine()
        inner = nn.Conv2d(codec.width + 2, self.width, 15, padding=7)
        outer = nn.Conv2d(self.width, codec.width, 15, padding=7)
        denoiser = nl.Preconditioned(Network(inner, nn.ReLU(), outer), schedule)
        return nl.Parts(denoiser, nl.GaussianDiffusion(schedule), codec)

    def evaluate(self, draw: Callable[..., Tensor], data: Split, rng: nl.Rng) -> dict[str, float]:
        """How good samples are: the share of pixels that equal the one above."""
        pixels = draw(torch.ones(self.samples, dtype=torch.int64))
        return {"striped": float((pixels[:, :, 1:] == pixels[:, :, :-1]).float().mean())}

"""DisCo-Diff for pictures: a U-Net that attends to the codes of an encoder of patches.

Y. Xu, G. Corso, T. Jaakkola, A. Vahdat, K. Kreis, 2024, "DisCo-Diff: Enhancing Continuous Diffusion
Models with Discrete Latents", arXiv 2407.03300, Section 3.3. Pixels are real numbers, under EDM's
preconditioning, times, weights and sampler (T. Karras et al., 2022, arXiv 2206.00364). With
`--m 0` it is EDM; what encoder and attention have on top, a wider plain network may have too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.data import Images, Split
from noiseloom.encodings import Scaled
from noiseloom.latents import Latent, code_report
from noiseloom.metrics import Features, noised, set_distances
from noiseloom.nets import ImageEncoder, UNet
from noiseloom.nets.code_attention import check_groups
from noiseloom.priors import MEASURED
from noiseloom.recipes.by_calls import Compared, by_evaluations
from noiseloom.recipes.code_examination import code_sources, code_times, errors, paths
from noiseloom.recipes.coded import Coded, evenly
from noiseloom.recipes.picture_networks import mirrored, picture_unet
from noiseloom.recipes.recipe import Facts, Findings, Parts
from noiseloom.rng import Rng
from noiseloom.training import Loss

__all__ = ["CodedPictures"]

_SIGMAS = (0.2, 1.0, 5.0)  # of errors and curvatures: textures, shapes, and what it is
_NOISE = 0.2  # deviation of the noised anchor's, in units of the range of a pixel
_ERRORS, _PATHS = 500, 16  # pictures that these are measured on


@dataclass(frozen=True)
class CodedPictures(Coded):
    """Discrete latents of pictures; options of `Coded` too.

    Attributes:
        groups: how many latents each stage of the U-Net's way up reads, from the coarsest to the
            finest, m in all; [] for all latents at every stage, down and up.
        flip: mirror half of the pictures.
        width: of the network's first stage, and of the codes' vectors.
        multipliers: widths of the stages over `width`.
        blocks: residual blocks per stage.
        attention: side of the largest feature maps that get self-attention; 0 for none.
        head_width: channels per attention head.
        dropout: rate in the network.
        code_depth: blocks of attention between the codes before they are read.
        encoder_patch: side of the encoder's patches.
        encoder_width: of its tokens.
        encoder_depth: its blocks.
        encoder_heads: its attention heads.
        encoder_dropout: rate in it.
    """

    centre: ClassVar[float] = 0.0

    groups: tuple[int, ...] = ()
    flip: bool = False
    width: int = 96
    multipliers: tuple[int, ...] = (1, 2, 3)
    blocks: int = 2
    attention: int = 16
    head_width: int = 48
    dropout: float = 0.0
    code_depth: int = 2
    encoder_patch: int = 8
    encoder_width: int = 192
    encoder_depth: int = 6
    encoder_heads: int = 3
    encoder_dropout: float = 0.0

    plan: str = "karras"
    sampling_steps: int = 20
    sampler: Literal["ddim", "ddpm", "ddpm-small", "heun", "heun-edm", "dpm++2m"] = "heun-edm"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "groups", tuple(self.groups))  # files have lists
        for name in ("width", "blocks", "head_width", "encoder_patch", "encoder_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"multipliers must be one or more, above 0, got {self.multipliers}")
        check_groups(self.groups or None, (self.m, self.k), len(self.multipliers))

    def features(self) -> Features:
        """The feature network in which samples are compared."""
        raise NotImplementedError

    def make_codec(self, facts: Facts) -> Scaled:
        """Pixels as real numbers."""
        return Scaled(facts["levels"], centre=self.centre)

    def make_network(self, facts: Facts, codes: tuple[int, int] | None) -> UNet:
        """The U-Net."""
        channels, *size = facts["shape"]
        return picture_unet(
            channels,
            channels,
            size,
            width=self.width,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention=self.attention,
            head_width=self.head_width,
            num_classes=self.classes_told(facts),
            dropout=self.dropout,
            codes=codes,
            code_groups=self.groups or None,
            code_depth=self.code_depth,
        )

    def make_encoder(self, facts: Facts) -> nn.Module:
        """The encoder of patches."""
        channels, *size = facts["shape"]
        if any(side % self.encoder_patch for side in size):
            raise ValueError(
                f"pictures of {size[0]} x {size[1]} pixels are no multiple of encoder_patch "
                f"{self.encoder_patch}: choose another size, or other patches"
            )
        return ImageEncoder(
            channels,
            self.m,
            self.k,
            patch=self.encoder_patch,
            width=self.encoder_width,
            depth=self.encoder_depth,
            heads=self.encoder_heads,
            dropout=self.encoder_dropout,
            scale=self.data_std,
        )

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """Eq. 3, of pictures half of which are mirrored if so asked."""
        inner = super().loss(parts, facts)

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
            if self.flip:
                batch = {**batch, "pixels": mirrored(batch["pixels"], rng.fold("flip"))}
            return inner(model, batch, rng, rows)

        return loss

    def views(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """Pictures as they are, and mirrored if half of them are."""
        mirror = {**batch, "pixels": batch["pixels"].flip(-1)}
        return [batch, mirror] if self.flip else [batch]

    @torch.no_grad()
    def examine(
        self, parts: Parts, facts: Facts, data: Split[Images], rng: Rng
    ) -> dict[str, float]:
        """Use of the codes, and errors, paths and samples by few evaluations, with and without.

        Distances are to the training pictures, of as many samples as `samples` says, with classes
        and oracle codes of held-out pictures, each as often as any other; by the fewest and the
        middle one of the evaluations also of pictures trained on (training, the paper's oracle).
        Their anchors are as many held-out pictures, and these with noise; where there are fewer,
        all, without a Frechet distance, which depends on how many they are.

        An interruption ends the comparisons, and keeps those that were made (`Findings.cut`).
        """
        if self.classes_told(facts) is not None:
            data = replace(
                data, train=_known(data.train, facts), held_out=_known(data.held_out, facts)
            )
        found, held = super().examine(parts, facts, data, rng), data.held_out
        rows = evenly(len(held), self.samples, rng.fold("held out"))
        kinds = code_sources(self, parts, facts, held, rows, rng)
        if isinstance(parts.denoiser, Latent):
            found |= self.usage_of_codes(parts, data.train, rng.fold("usage"))
        codes = kinds.get("oracle", {}).get("codes")
        some, codes = held[rows[:_ERRORS]], None if codes is None else codes[:_ERRORS]
        of = errors(self, parts, facts, some, codes, _SIGMAS, rng.fold("errors"))
        found |= {name: value / held.pixels[0].numel() for name, value in of.items()}
        if not self.evaluations:
            return found
        own = rng.fold("trained on")
        seen = evenly(len(data.train), self.samples, own)
        if isinstance(parts.denoiser, Latent):
            codes = self.encoded(parts, facts, data.train, own, rows=seen).codes
            kinds["training"] = {"label": data.train[seen]["label"], "codes": codes}
        few = {kind: {n: v[:_PATHS] for n, v in g.items()} for kind, g in kinds.items()}
        few.pop("training", None)
        wanted = sorted(set(self.evaluations))
        only = {"training": sorted({wanted[0], wanted[len(wanted) // 2]})}
        total = sum(len(only.get(kind, wanted)) for kind in kinds)
        made = 0
        try:
            found |= paths(self, parts, facts, few, _SIGMAS, rng.fold("paths"))
            found |= code_times(self, parts, facts, held, rows[:_ERRORS], rng.fold("times"))
            distances = self._distances(data, rows, rng)
            key = rng.fold("sampling")
            for part in by_evaluations(self, parts, facts, kinds, key, only=only):
                found[f"ms_{part.name}"] = 1000 * part.seconds / len(part.samples)
                found |= {**part.costs(), **distances(part)}
                made += 1
        except KeyboardInterrupt:
            return Findings(found, {}, {"comparisons": (made, total)})
        return found

    def _distances(
        self, data: Split[Images], rows: Tensor, rng: Rng
    ) -> Callable[[Compared], dict[str, float]]:
        """What says how far samples are from the training pictures, and how far their anchors."""
        features, held = self.features(), data.held_out
        real = features(data.train.pixels)

        def measured(pixels: Tensor) -> dict[str, float]:
            return set_distances(features(pixels.to(torch.uint8)), real, rng.fold("distances"))

        pixels = held.pixels[rows[: len(held)]]
        noise = noised(pixels, held.levels, _NOISE, rng.fold("noise"))
        anchors = {"_held_out": measured(pixels), "_noised": measured(noise)}

        def distances(part: Compared) -> dict[str, float]:
            found = {}
            for suffix, far in {"": measured(part.samples), **anchors}.items():
                for key, value in far.items():
                    if key == "fd" and suffix and len(pixels) < self.samples:
                        continue
                    kind, _, error = key.partition("_")
                    name = f"{kind}_{features.name}_{part.name}{error and '_se'}{suffix}"
                    found[name] = value
            return found

        return distances

    @torch.no_grad()
    def usage_of_codes(self, parts: Parts, data: Images, rng: Rng) -> dict[str, float]:
        """`code_report` of pictures that were trained on, at most 4,000."""
        model = parts.denoiser
        assert isinstance(model, Latent)
        labels, q = [], []
        for rows in torch.split(rng.permutation(len(data))[:MEASURED], _ERRORS):
            batch = {name: value.to(model.usage.device) for name, value in data[rows].items()}
            labels.append(batch["label"])
            q.append(model.logits(self.clean(parts, batch)).softmax(-1))
        return code_report(torch.cat(q), torch.cat(labels), len(data.classes), rng.fold("chance"))


def _known(data: Images, facts: Facts) -> Images:
    """Pictures with their classes numbered as the model knows them, which others' are by name."""
    classes = facts["classes"]
    places = torch.tensor([classes.index(name) for name in data.classes])
    return replace(data, labels=places[data.labels], classes=tuple(classes))

"""What is trained of a guide, and by which losses: the model with its term, and what comes before.

Noise is put on inside of the loss (`context.guide_loss`); contexts are drawn anew at every update.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom import training
from noiseloom.context import (
    Context,
    Guide,
    GuideEnsemble,
    Term,
    draw_context,
    guide_loss,
    make_regulariser,
    noised,
)
from noiseloom.context.losses import TimeSampler
from noiseloom.context.regulariser import frozen
from noiseloom.guide_folder import guidable, make_guide
from noiseloom.guide_material import Material
from noiseloom.recipes import GuideTraining
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.shapes import State, first_part
from noiseloom.terminal import say
from noiseloom.training import Data, Loss, checkpoint

__all__ = ["Pretrained", "Trained", "make_trained", "train_guide"]

_SAMPLES = 1000
"""Context structures that scales of pretraining's targets are measured on."""


class Trained(nn.Module):
    """A guide, and the term of its loss, whose weights are trained and kept with it.

    Args:
        guide: one, or several.
        term: the regulariser, perhaps a module itself.
    """

    def __init__(self, guide: Guide | GuideEnsemble, term: Term | None) -> None:
        super().__init__()
        self.guide, self.term = guide, term

    def apart(self) -> Sequence[nn.Module]:
        """Guides of an ensemble, none of which is to know of the others."""
        return self.guide.guides if isinstance(self.guide, GuideEnsemble) else ()


class Pretrained(nn.Module):
    """A guide's network, on its way to know the structures of a context before any label.

        |W e(x_t, t) + b - z(x_0)|^2 / F,    z = (r(x_0) - mean) / deviation

    e is the network's embedding of a noised structure, r that of a random network of the same kind,
    which is not trained, of the clean one: the network learns to see through noise what tells
    structures apart. How the paper pre-trained is not known; this target is free, and is one for
    whatever states and symmetries a network has.

    Args:
        guide: whose network is trained.
        random: r.
        features: F.
        rng: key of W.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, guide: Guide, random: nn.Module, features: int, rng: Rng) -> None:
        super().__init__()
        self.guide, self.random = guide, random
        with rng.torch():
            self.head = nn.Linear(features, features)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    @torch.no_grad()
    def embedded(self, clean: State, cond: dict[str, Tensor]) -> Tensor:
        """r(x_0), shape (B, F)."""
        first = first_part(clean)
        seen, log_snr = self.guide.inputs(clean, torch.zeros(len(first), device=first.device))
        self.random.eval()
        found: Tensor = self.random(seen, log_snr, cond)
        return found.float()

    def measure(self, embedded: Tensor) -> None:
        """Mean and deviation of r."""
        self.mean.copy_(embedded.mean(0))
        self.deviation.copy_(embedded.std(0, correction=0).clamp_min(1e-6))

    def loss(self, clean: State, cond: dict[str, Tensor], rng: Rng, noisiest: float) -> Tensor:
        """Shape (B,)."""
        z = (self.embedded(clean, cond) - self.mean) / self.deviation
        x, t, told = noised(self.guide.diffusion, clean, rng, cond, _times(noisiest))
        said = self.head(self.guide.network(*self.guide.inputs(x, t), told).float())
        return functional.mse_loss(said, z, reduction="none").mean(1)


def make_trained(run: Run, options: GuideTraining, material: Material) -> Trained:
    """A guide, before any update, with the labels' units; and the term that its method names.

    Raises:
        ValueError: one that cannot be made.
    """
    recipe, rng = guidable(run), Rng(options.seed).fold("guide")
    targets = len(material.learnt.names)
    guide = make_guide(recipe, run.parts, run.facts, options, targets, rng)
    guide.fit(material.learnt.labels)
    term = make_regulariser(
        build=lambda: recipe.guide_network(run.facts, options.width, options.depth),
        features=options.width,
        samples=len(material.learnt),
        rng=rng.fold("term"),
        **options.term(run.diffusion),
    )
    return Trained(guide, term)


def train_guide(
    run: Run, options: GuideTraining, material: Material, out: Path, model: Trained
) -> None:
    """Make the updates that are left, those on the context first; the model ends as their average.

    Args:
        run: whose states are read.
        options: of the training.
        material: what is learnt from.
        out: the guide's folder.
        model: of `make_trained`.
    """
    if options.method == "pretrained":
        _pretrain(run, options, material, out / "pretraining", model)
    learnt, count = material.learnt, sum(p.numel() for p in model.parameters() if p.requires_grad)
    unlabelled = f", {len(material.context):,} of context" if material.context is not None else ""
    say(
        f"guide {out.name}: {options.method}, {count:,} parameters, {len(learnt):,} labelled "
        f"structures{unlabelled if options.needs_context else ''}"
    )
    data = _WithLabels(learnt.rows, learnt.labels)
    _make(model, _loss(run, options, material), data, options.training(run.recipe), out)
    checkpoint.restore(model, out / "ema.safetensors")


def _pretrain(
    run: Run, options: GuideTraining, material: Material, out: Path, model: Trained
) -> None:
    """Give the network what it learns of the context alone."""
    recipe, guide, context = guidable(run), model.guide, material.context
    assert isinstance(guide, Guide)
    assert context is not None
    rng = Rng(options.seed).fold("pretraining")
    random = frozen(
        lambda: recipe.guide_network(run.facts, options.width, options.depth), rng.fold("random")
    )
    stage = Pretrained(guide, random.to(run.device), options.width, rng.fold("head"))
    stage.to(run.device)
    some = context[rng.fold("some").permutation(len(context))[:_SAMPLES]]
    stage.measure(stage.embedded(*_states(run, some, rng.fold("measured"))))

    def loss(own: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
        assert isinstance(own, Pretrained)
        return own.loss(*_states(run, batch, rng), rng, options.noisiest)

    say(f"guide {out.parent.name}: pretraining on {len(context):,} structures")
    _make(stage, loss, context, options.pretraining(run.recipe), out)
    checkpoint.restore(stage, out / "ema.safetensors")


def _make(model: nn.Module, loss: Loss, data: Data, options: training.Training, out: Path) -> None:
    for _ in training.show(training.train(model, loss, data, options, out, resume=True)):
        pass


def _loss(run: Run, options: GuideTraining, material: Material) -> Loss:
    """The guide's loss, with a context that is drawn anew at every update."""
    context: Any = material.context
    if context is not None and run.device.type == "cuda" and hasattr(context, "to"):
        context = context.to(run.device)
    needed = options.needs_context and options.method != "pretrained"

    def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
        assert isinstance(model, Trained)
        clean, cond = _states(run, batch, rng)
        drawn = None
        if needed:
            device = run.device if hasattr(context, "to") else "cpu"
            which = draw_context(
                torch.arange(len(context), device=device), options.context_size, rng
            )
            assert isinstance(which.state, Tensor)
            states, told = _states(run, context[which.state], which.rng)
            drawn = Context(states, which.rng, told)
        return guide_loss(
            model.guide,
            clean,
            batch["labels"],
            rng,
            cond=cond,
            context=drawn,
            term=model.term,
            times=_times(options.noisiest),
        )

    return loss


def _states(run: Run, batch: dict[str, Tensor], rng: Rng) -> tuple[State, dict[str, Tensor]]:
    """Clean states of a batch, and what networks are told of them, as the run's training has it."""
    moved = {name: value.to(run.device) for name, value in batch.items()}
    return run.recipe.clean(run.parts, moved), run.recipe.told(moved, run.facts, rng)


def _times(noisiest: float) -> TimeSampler:
    def times(shape: Sequence[int], rng: Rng, device: torch.device) -> Tensor:
        return noisiest * rng.uniform(shape, device=device)

    return times


class _WithLabels:
    """Structures, with their labels beside them."""

    def __init__(self, rows: Data, labels: Tensor) -> None:
        self.rows, self.labels = rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        return {**self.rows[indices], "labels": self.labels[indices]}

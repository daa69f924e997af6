"""The second stage of a run whose model has codes: the prior that draws them (`prior_folder`).

The averaged encoder of the first stage gives codes to all data, `DRAWS` for each sample, from its q
by one fixed key; they are kept, so that a training that is interrupted goes on with the same ones.
A table counts them; other priors learn them by the training loop of the first stage, and so go on
from their last checkpoint to the same weights.
"""

import os
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from noiseloom import training
from noiseloom.data import Split
from noiseloom.loading import without_prior
from noiseloom.prior_folder import PRIOR, read_prior, remove_prior, write_prior
from noiseloom.priors import (
    MEASURED,
    AutoregressivePrior,
    BitsPrior,
    Codes,
    TabularPrior,
    code_likelihoods,
    likelihood_note,
)
from noiseloom.recipes import TwoStages
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.run_folder import forget, write_bytes
from noiseloom.terminal import say
from noiseloom.training import checkpoint

__all__ = ["DRAWS", "fit_prior", "prior_loss"]

DRAWS = 4
"""Codes of each training sample: where the encoder is unsure, the prior learns how unsure."""


def fit_prior(
    recipe: TwoStages, out: Path, split: Split[Any], place: str = PRIOR
) -> dict[str, float]:
    """Make a prior of a run, or go on with it.

    Args:
        recipe: of the run, which wants a prior.
        out: the run's folder, with weights; claimed by this process.
        split: the run's data.
        place: in the folder, of the prior, or of one that is to take its place.

    Returns:
        The likelihoods of its codes, `code_likelihoods`.

    Raises:
        FileExistsError: another prior was begun there.
        FileNotFoundError: the run has no weights yet.
        ValueError: the training diverges, or its checkpoint is damaged.
    """
    run = without_prior(out, recipe=type(recipe))
    kind, begun = recipe.prior_kind(run.facts), read_prior(out, place)
    if begun is not None and begun[0] != kind:
        raise FileExistsError(
            f"{out} has another prior ({begun[0].kind}) than its options say: make it again with "
            f"noiseloom prior {out} --force"
        )
    main, rng = os.environ.get("RANK", "0") == "0", Rng(recipe.seed).fold("prior")
    folder = out / place
    kept = folder / "codes.safetensors"
    known = begun is not None and kept.is_file()
    learnt, held = _read(kept) if known else _encoded(recipe, run, split, rng)
    if main:
        if begun is None:
            remove_prior(out, place)  # what a kill may have left of one that was being removed
        write_prior(out, kind, training=recipe, place=place)
        _write(kept, learnt, held)
    with rng.fold("initialisation").torch():
        prior = kind.make()
    if main:
        count = sum(p.numel() for p in prior.parameters())
        told = f"{kind.kind}, {count:,} parameters" if count else kind.kind
        say(f"prior: {told}, {len(learnt):,} codes, {len(split.train):,} samples")
    weights = folder / "ema.safetensors"
    if isinstance(prior, TabularPrior):
        prior.fit(learnt.codes, learnt.label)
        if main:
            write_bytes(weights, save(prior.state_dict()))
    else:
        options = recipe.second_stage(recipe)
        for _ in training.show(
            training.train(prior, prior_loss, learnt, options, folder, resume=True)
        ):
            pass
        checkpoint.restore(prior, weights)
    key = rng.fold("measured")
    found = code_likelihoods(prior.eval(), recipe.k, _some(learnt, key), _some(held, key))
    if main:
        outdated = forget(out) if place == PRIOR else []
        if outdated:
            say(f"removed, as they are of before this prior: {', '.join(outdated)}")
        write_prior(out, kind, found, training=recipe, place=place)
        note = likelihood_note(found, bound=isinstance(prior, BitsPrior))
        if note:
            say(f"note: {note}")
    return found


def prior_loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
    """Negative log-likelihood, or its bound, of a batch of codes.

    Args:
        model: a prior that is trained.
        batch: codes (B, m), and perhaps their label (B,).
        rng: of the step.
        rows: int64 (B,), places of the codes.
    """
    assert isinstance(model, AutoregressivePrior | BitsPrior)
    if isinstance(model, AutoregressivePrior):
        return model.loss(batch["codes"], batch.get("label"), rng)
    return model.loss(batch["codes"], batch.get("label"), rng, rows)


def _some(codes: Codes, rng: Rng) -> Codes:
    return Codes(**codes[rng.permutation(len(codes))[:MEASURED]])


def _encoded(recipe: TwoStages, run: Run, split: Split[Any], rng: Rng) -> tuple[Codes, Codes]:
    """The codes of the data, those to learn and those held out; of a part, where there are many.

    A prior that is trained reads as many samples as it makes use of.
    """
    used = recipe.prior_steps * recipe.prior_batch_size
    learnt = recipe.prior_samples if recipe.prior == "tabular" else used
    found = []
    for name, part, draws, most in (
        ("train", split.train, DRAWS, learnt),
        ("held out", split.held_out, None, max(MEASURED, learnt // 10)),
    ):
        key = rng.fold(name)
        some = key.fold("rows").permutation(len(part))[:most].sort().values
        rows = some if len(part) > most else None
        found.append(recipe.encoded(run.parts, run.facts, part, key, rows=rows, draws=draws))
    return found[0], found[1]


def _write(path: Path, learnt: Codes, held: Codes) -> None:
    parts = {"train": learnt, "held_out": held}
    found = {f"{name}.codes": part.codes for name, part in parts.items()}
    found |= {f"{name}.label": p.label for name, p in parts.items() if p.label is not None}
    write_bytes(path, save(found))


def _read(path: Path) -> tuple[Codes, Codes]:
    found = checkpoint.read(path)
    learnt, held = (
        Codes(found[f"{name}.codes"], found.get(f"{name}.label")) for name in ("train", "held_out")
    )
    return learnt, held

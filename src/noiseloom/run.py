"""A run from Python: an object that is ready to sample (`loading` makes it of a folder)."""

import math
import shlex
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from noiseloom.data import Split
from noiseloom.encodings import Codec
from noiseloom.evaluations import CutShort, keep
from noiseloom.interrupts import terminable
from noiseloom.progress import heard_by
from noiseloom.recipes import (
    Drawing,
    Facts,
    Findings,
    Given,
    NoPriorError,
    Parts,
    Recipe,
    TwoStages,
)
from noiseloom.rng import Rng
from noiseloom.run_folder import read_description, same_data
from noiseloom.tally import Tally
from noiseloom.terminal import Pace, say
from noiseloom.training.precision import in_bfloat16, networks

__all__ = ["Run"]

INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Run:
    """A trained model, ready to sample.

    Attributes:
        folder: where it lies.
        recipe: its recipe, with every option.
        facts: what it knows of its data.
        parts: denoiser, diffusion and codec, and of a model with codes their prior.
        statistics: averages of the last `pixels` call's final estimates.
        aside: options that a plan from a file has put aside, which come back with another plan.
    """

    folder: Path
    recipe: Recipe
    facts: Facts
    parts: Parts
    statistics: dict[str, float] = field(default_factory=dict)
    aside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def denoiser(self) -> torch.nn.Module:
        """The trained denoiser, without guidance."""
        return self.parts.denoiser

    @property
    def diffusion(self) -> Any:  # noqa: ANN401
        """What noise is."""
        return self.parts.diffusion

    @property
    def codec(self) -> Codec:
        """Data to state and back."""
        return self.parts.codec

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.facts.get("classes", ()))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.denoiser.parameters()).device

    def with_options(self, **changes: Any) -> "Run":  # noqa: ANN401
        """The same model with other options of drawing (`Recipe.changeable`).

        A plan from a file is run as it is written, without the run's `rest` if that is not given;
        with another plan it comes back.

        Raises:
            ValueError: an option that is not one of sampling, out of range, or one that would
                change nothing.
        """
        known = self.recipe.changeable()
        for name in changes.keys() - set(known):
            raise ValueError(f"{name!r} is no option of sampling: choose from {', '.join(known)}")
        aside = {} if "rest" in changes else self.aside
        back, aside = (aside, {}) if "plan" in changes else ({}, aside)
        recipe = replace(self.recipe, **{**back, **changes})
        if recipe.by_file and "plan" in changes and "rest" not in changes and recipe.resting:
            aside = {"rest": recipe.rest}  # which was for other plans
            recipe = replace(recipe, rest=0.0)
        for name in sorted(changes.keys() & recipe.idle):
            if changes[name] != getattr(self.recipe, name):
                raise ValueError(f"{name} changes nothing of {recipe.idle[name]}: leave it out")
        return replace(self, recipe=recipe, statistics={}, aside=aside)

    def steps(
        self, given: Tensor | Given, *, seed: int = 0, start: int = 0, progress: Pace | None = None
    ) -> Iterator[Drawing]:
        """The sampling loop for one batch.

        Args:
            given: what `samples` takes; for pictures also their classes, int64, shape (B,), which
                an unconditional model ignores.
            seed: of the draws.
            start: global index of the first sample: sample 17 is the same in any batch.
            progress: says where a long drawing is, on standard error.

        Raises:
            ValueError: a label is out of range, or codes are wanted of a prior that is not there.
        """
        given = {"label": given} if isinstance(given, Tensor) else given
        labels = given.get("label", torch.empty(0))
        count = len(self.classes)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
            raise ValueError(
                f"labels must be in 0 .. {count - 1}, got {int(labels.min())} to "
                f"{int(labels.max())}"
            )
        batch = len(next(iter(given.values())))
        index = given.get("index", torch.arange(start, start + batch)).to(self.device)
        rng = Rng(seed).fold("sampling").each("sample", index)
        try:
            steps = self.recipe.draw(self.parts, self.facts, given, rng)
        except NoPriorError:
            raise self._no_prior() from None
        return steps if progress is None else self._told(steps, given, progress)

    def check(self) -> None:
        """Raise an error if samples cannot be drawn, or not judged, as the options say."""
        recipe = self.recipe
        wanting = isinstance(recipe, TwoStages) and recipe.coded and recipe.codes == "prior"
        if wanting and self.parts.prior is None:
            raise self._no_prior()
        recipe.check()

    def _no_prior(self) -> NoPriorError:
        """With the folder, which a recipe does not know."""
        named = getattr(self.recipe, "prior", None) != "none"
        return NoPriorError(shlex.quote(str(self.folder)), named=named)

    def _told(self, steps: Iterator[Drawing], given: Given, progress: Pace) -> Iterator[Drawing]:
        for step in steps:
            progress(partial(self.recipe.whereabouts, given, step))
            yield step

    def pixels(
        self, labels: Tensor | Given, *, seed: int = 0, batch_size: int = 250, dtype: str = "auto"
    ) -> Tensor:
        """Pictures of the given classes, shape (N, C, H, W), on the CPU.

        They are uint8, or int16 or int32 where the data's levels do not fit.

        Args:
            labels: classes, int64, shape (N,); or what `samples` takes: with codes too, {"label",
                "codes"}, int64, (N,) and (N, m).
            seed: of the draws.
            batch_size: drawn at once; it does not change the draws.
            dtype: of the network: "float32", or "auto" for bfloat16 on a GPU.

        Raises:
            ValueError: estimates that are not finite, or a label or code out of range.
        """
        last_level = self.facts.get("levels", 256) - 1
        integers = next(kind for kind in INTEGERS if last_level <= torch.iinfo(kind).max)
        given = {"label": labels} if isinstance(labels, Tensor) else labels
        found = self.samples(given, seed=seed, batch_size=batch_size, dtype=dtype)
        return found.to(integers)

    def samples(
        self,
        given: Given,
        *,
        seed: int = 0,
        batch_size: int = 250,
        dtype: str = "auto",
        progress: Pace | None = None,
        keep_part: Literal["", "batches", "steps"] = "",
    ) -> Tensor:
        """Samples as the recipe decodes them, on the CPU.

        Args:
            given: what they are drawn for, by name, axis 0 the samples: {"label"} for pictures,
                {"values", "position"} for forecasts; with {"index"} the number of each sample,
                which decides its draws, instead of 0, 1, ...
            seed: of the draws.
            batch_size: drawn at once; it does not change the draws.
            dtype: of the network: "float32", or "auto" for bfloat16 on a GPU.
            progress: says where a long drawing is, on standard error.
            keep_part: let Ctrl-C end the drawing and not the call: returned are whole batches or,
                of what grows (steps), what there is of the first one, if there is something.

        Raises:
            ValueError: estimates that are not finite, or something given that does not fit.
        """
        found: list[Tensor] = []
        totals: dict[str, float] = {}
        count = len(next(iter(given.values())))
        if not count:
            raise ValueError("no samples are asked for: give at least one")
        tally = Tally(self.denoiser)
        watching = tally.watching if self.recipe.tallied else nullcontext
        with self.precision(dtype):
            for start in range(0, count, batch_size):
                part = {name: rows[start : start + batch_size] for name, rows in given.items()}
                size = min(batch_size, count - start)
                last, stopped = None, False
                try:
                    with watching():
                        for step in self.steps(part, seed=seed, start=start, progress=progress):
                            last = step
                except KeyboardInterrupt:
                    begun = keep_part == "steps" and last is not None
                    if not keep_part or not (found or begun):
                        raise
                    say("interrupted: what is whole is kept; Ctrl-C again stops that, too")
                    stopped = True
                    if found:
                        break
                assert last is not None
                # Of classes numbers are what they were drawn from.
                said = getattr(getattr(last, "prediction", None), "mean", last.result)
                wrong = int((~said.isfinite()).flatten(1).any(1).sum())
                if wrong:
                    raise ValueError(
                        f"the estimates of {wrong} of {size} {self.recipe.shows} are not finite: "
                        "try other sampling options, or an earlier checkpoint"
                    )
                found.append(self.recipe.decode(self.parts, last.result, part).cpu())
                for name, value in self.recipe.inspect(self.parts, last).items():
                    totals[name] = totals.get(name, 0.0) + value * size
                if stopped:
                    break
        count = sum(map(len, found))
        totals = {name: value / count for name, value in totals.items()}
        self.statistics.clear()
        self.statistics.update(totals | (tally.report(count) if self.recipe.tallied else {}))
        return torch.cat(found)

    def precision(self, dtype: str = "auto") -> AbstractContextManager[None]:
        """A block in which `steps` draws as `samples` does: in bfloat16 on a GPU, if "auto"."""
        if dtype != "auto" or self.device.type != "cuda":
            return nullcontext()
        return in_bfloat16(networks(self.denoiser), self.device)

    def evaluate(
        self, data: str | Split[Any] | None = None, *, seed: int | None = None, save: bool = True
    ) -> dict[str, float]:
        """The recipe's metrics.

        Args:
            data: where the data lies, or what `recipe.load_like` has read there; by default where
                training found it.
            seed: of the draws; by default the run's own.
            save: write them to `evaluation_file`.

        Raises:
            CutShort: videos, mazes or comparisons of codes were interrupted, by Ctrl-C or SIGTERM,
                after a stretch, a kind of task or a set of samples that can be judged; what there
                was is kept by itself, and never taken for the whole.
            ValueError: the data changed since, and were not named; a metric is not finite.
        """
        return self.judge(data, seed=seed, save=save)[0]

    @terminable()
    def judge(
        self, data: str | Split[Any] | None, *, seed: int | None = None, save: bool = True
    ) -> tuple[dict[str, float], Path | None]:
        """What `evaluate` returns, and the file it is kept in."""
        seed = self.recipe.seed if seed is None else seed
        if isinstance(data, Split):
            split = data
        else:
            path = data or read_description(self.folder)["data"]
            split = self.recipe.load_like(path, self.facts)
        own = same_data(split, self.facts)
        if not own and data is None:
            raise ValueError(
                f"the data are not those {self.folder} was trained on, and what was held out may "
                "have been trained on: name the data with --data to judge the run on others"
            )
        if not own:
            self.recipe.check_other(split)
        for note in () if own else split.notes:  # of its own data they were said in training
            say(f"data: {note}")
        places = None if own else self._classes_of(split)
        pace, warm = Pace(), not self.recipe.tallied

        def draw(asked: Tensor | Given) -> Tensor:
            nonlocal warm
            given = {"label": asked} if isinstance(asked, Tensor) else asked
            key = Rng(seed).fold("attached")
            given = self.recipe.attached(self.parts, self.facts, given, split, key)
            if not isinstance(asked, Tensor):
                if not warm:
                    self._warm_up(given, seed)
                    warm = True
                part: Literal["", "steps"] = "steps" if self.recipe.grows else ""
                return self.samples(given, seed=seed, progress=pace, keep_part=part)
            label = given["label"] if places is None else places[given["label"]]
            told = label if len(given) == 1 else {**given, "label": label}
            return self.pixels(told, seed=seed)

        with heard_by(lambda *far: pace(lambda: "judging: {}, {:,} of {:,}".format(*far))):
            found = self.recipe.evaluate(draw, split, Rng(seed).fold("evaluation"))
            key = Rng(seed).fold("examination")
            examined = self.recipe.examine(self.parts, self.facts, split, key)
        files: dict[str, bytes] = {}
        cut: dict[str, tuple[int, int]] = {}
        for part in (found, examined):
            if isinstance(part, Findings):
                files |= part.files
                cut |= part.cut
        report = Findings({**found, **self.statistics, **examined}, files, cut)
        for name, value in report.items():
            if not math.isfinite(value):
                raise ValueError(f"the metric {name} is {value}")
        other = None if own else split.fingerprint()
        path = keep(self.folder, self.recipe, report, seed, other) if save else None
        if cut:
            raise CutShort(report, cut, path)
        return report, path

    def _warm_up(self, given: Given, seed: int) -> None:
        """The first step of a few samples: what only the first call takes is no part of a pace."""
        with self.precision():
            next(self.steps({name: rows[:8] for name, rows in given.items()}, seed=seed))

    def _classes_of(self, split: Split[Any]) -> Tensor:
        """For each class of other data, the index that this run knows it by."""
        facts = self.recipe.facts(split)
        self.recipe.fits(facts, self.facts)
        if not self.recipe.conditional or len(self.classes) < 2:
            return torch.zeros(len(facts.get("classes", ())), dtype=torch.int64)
        for name in facts["classes"]:
            if name not in self.classes:
                raise ValueError(f"the data have a class {name!r}, which the run does not know")
        return torch.tensor([self.classes.index(name) for name in facts["classes"]])

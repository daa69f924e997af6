"""What a recipe is: options, and a few answers.

A recipe is a frozen dataclass. Its fields are its options (those of `Training` and `Sampling`, and
its own); its methods say where the data comes from, what must be remembered of it, what is built,
what is minimised, how samples are drawn and how good they are. Command line, checkpoints and
reports need nothing else, so a recipe of one's own is one file. Three answers it must give: `load`,
`build` and `evaluate`; the others it may.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeAlias,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from torch import Tensor, nn

from noiseloom.data import Images, Split
from noiseloom.encodings import Codec
from noiseloom.objective import denoising_loss, drop_condition, uniform_times
from noiseloom.priors import Prior
from noiseloom.recipes.choosing import Choosing
from noiseloom.recipes.planning import Leading, Planning
from noiseloom.recipes.rolling import Rolling
from noiseloom.recipes.sampling import Coding, Sampling, Telling
from noiseloom.rng import Rng
from noiseloom.sampling import Solver, sample
from noiseloom.training import Loss, Tracker, Training

__all__ = [
    "Drawing",
    "Facts",
    "Findings",
    "Given",
    "Parts",
    "Recipe",
    "Steering",
    "Task",
    "channels_last",
]

Facts: TypeAlias = dict[str, Any]
"""What a model must know of its data to be built without it; plain JSON values."""

Given: TypeAlias = Mapping[str, Tensor]
"""What samples are drawn for, a row each: {"label"} for pictures, what is known of a series."""

Task: TypeAlias = Literal["sample", "evaluate"]
"""A command that draws, and may make no use of an option that says something elsewhere."""

Steering: TypeAlias = Callable[[nn.Module, Solver], tuple[nn.Module, Solver]]
"""From a denoiser and a solver to those that are guided."""


class Findings(dict[str, float]):
    """Metrics, and what belongs to them.

    Args:
        metrics: by name.
        files: to keep beside them: contents by ending, as in {".webp": ...}.
        cut: of an interrupted drawing, what was made of it and what was asked for, as in
            {"frames": (800, 2000)}; nothing where all was made.
    """

    def __init__(
        self,
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
        cut: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(metrics)
        self.files = files
        self.cut = dict(cut or {})


class Drawing(Protocol):
    """What a sampling loop yields, `sampling.Step` or more."""

    @property
    def result(self) -> Tensor:
        """The estimates so far, one row a sample."""


@dataclass(frozen=True)
class Parts:
    """What a recipe builds.

    Attributes:
        denoiser: the module that is trained.
        diffusion: what noise is: one of `noiseloom.diffusion`.
        codec: data to state and back.
        prior: what draws the codes of a model that has some, once it was trained.
        steering: how a guide leads samples: makes a denoiser and a solver of those that draw
            unguided (`noiseloom.steering`). A recipe whose runs can be guided asks `steered`.
    """

    denoiser: nn.Module
    diffusion: Any
    codec: Codec
    prior: Prior | None = None
    steering: Steering | None = None

    def steered(self, denoiser: nn.Module, solver: Solver) -> tuple[nn.Module, Solver]:
        """A denoiser and a solver as samples are to be drawn by: guided, if a guide is at hand."""
        return self.steering(denoiser, solver) if self.steering else (denoiser, solver)


@dataclass(frozen=True)
class Recipe(Sampling, Training):
    """An experiment; subclasses add options and answer what is asked here.

    Attributes:
        conditional: tell the network the class.
        label_drop: share of labels dropped in training, which guidance needs; 0 for none.
        samples: how many samples an evaluation draws.
        name: what the command line calls it.
        summary: one line: what it trains on what, and the claim it reproduces.
        paths: names of the options that may name a file: it is kept by its full path, which is not
            published.
        in_data: those of them that are looked for in the data first.
        shows: what its data are: pictures, series, trajectories, videos, points, rows,
            benzenoids, molecules or captions. Report and `sample` go by it; they leave out what is
            none of these: pictures without shape, levels and classes among the facts, or others of
            no recipe of ours.
        tallied: an evaluation says samples per second, and calls of the network for each.
        grows: what a drawing has yielded is a finished part of the samples, as of videos.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paths: ClassVar[tuple[str, ...]] = ()
    in_data: ClassVar[tuple[str, ...]] = ()
    shows: ClassVar[
        Literal[
            "pictures",
            "series",
            "trajectories",
            "videos",
            "points",
            "rows",
            "benzenoids",
            "molecules",
            "captions",
        ]
    ] = "pictures"
    tallied: ClassVar[bool] = False
    grows: ClassVar[bool] = False

    conditional: bool = True
    label_drop: float = 0.0
    samples: int = 1000

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            if choices and getattr(self, name) not in choices:
                known = ", ".join(map(str, choices))
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        Training.__post_init__(self)
        Sampling.__post_init__(self)
        if not 0 <= self.label_drop <= 1:
            raise ValueError(f"label_drop must be in [0, 1], got {self.label_drop}")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        for name in ("momentum", "self_guidance"):
            if getattr(self, name) and not self.shown_estimates:
                raise ValueError(f"{name} needs a model that is self-conditioned on its estimate")
        self.check_guidance()

    def check_guidance(self) -> None:
        """Raise ValueError if there is nothing to guide to, or it was never left out."""
        if self.guidance != 1 and not self.conditional:
            raise ValueError("guidance needs a model with classes, and labels to guide to")
        if self.guidance != 1 and not self.label_drop:
            raise ValueError(
                f"guidance {self.guidance:g} needs a model that was trained without labels at "
                "times: train one with label_drop 0.1, or leave guidance at 1"
            )

    @property
    def shown_estimates(self) -> bool:
        """Whether the model is self-conditioned, as far as the recipe says it."""
        return bool(getattr(self, "self_conditioning", True))

    @property
    def idle(self) -> Mapping[str, str]:
        """The options of drawing that change nothing here, and what it is that they do not change.

        To draw with another value of one is refused; in a grid it is passed over.
        """
        return {}

    @property
    def unheard(self) -> Mapping[str, str]:
        """The options of a new run that change nothing of it, and what they do not change.

        To type another value than the default of one is refused (`check_typed`).
        """
        return {}

    def check_typed(self, names: Collection[str]) -> None:
        """Raise ValueError if one of the options that were typed for a new run changes nothing.

        Those of files and grids are not typed: some runs make use of them, and others do not.
        """
        for field in fields(self):
            told = self.unheard.get(field.name) if field.name in names else None
            if told and getattr(self, field.name) != field.default:
                raise ValueError(f"{field.name} changes nothing of {told}: leave it out")

    def unused(self, task: Task, *, goal: bool = False) -> Mapping[str, str]:
        """`idle`, and the options of drawing that a command makes no use of.

        Args:
            task: the command.
            goal: whether samples are given one.
        """
        return self.idle

    def unchanged(self, name: str, before: "Recipe", task: Task, *, goal: bool = False) -> str:
        """What it is that an option changes nothing of, whose value was another before, or "".

        Some are unused only among some values: by 0 there is no deadline, and by others there is.
        """
        told = self.unused(task, goal=goal).get(name, "")
        other = replace(self, **{name: getattr(before, name)}) if told else self
        return told if name in other.unused(task, goal=goal) else ""

    @classmethod
    def changeable(cls) -> tuple[str, ...]:
        """Names of the options that may change with every draw: they are no part of a training."""
        kinds = [
            kind
            for kind in (Sampling, Telling, Coding, Leading, Planning, Rolling, Choosing)
            if issubclass(cls, kind)
        ]
        return (*dict.fromkeys(f.name for kind in kinds for f in fields(kind)), "samples")

    def check(self) -> None:
        """Raise, before training, if `evaluate` cannot work: ImportError for a missing extra."""

    def check_other(self, data: Split[Any]) -> None:
        """Raise ValueError if data that are not a run's own, by `load_like`, say nothing of it."""

    def load(self, data: str | None) -> Split[Any]:
        """The data, from a path where the recipe needs one."""
        raise NotImplementedError

    def load_like(self, data: str | None, facts: Facts) -> Split[Any]:
        """The data at a path for a model of these facts, to judge it by; by default as `load`."""
        return self.load(data)

    def recall(self, data: str | None) -> None:
        """A run is loaded whose data lay there: what it must look up may be there, too.

        The data may no longer be there. By default nothing is done.
        """

    def introduce(self, data: Split[Any]) -> str:
        """What people are told of the data before training: by default nothing."""
        return ""

    def facts(self, data: Split[Any]) -> Facts:
        """Shape, number of levels and classes of the pictures."""
        train: Images = data.train
        shape = list(train.pixels.shape[1:])
        return {"shape": shape, "levels": train.levels, "classes": list(train.classes)}

    def derived(self, facts: Facts) -> Facts:
        """What follows from the facts, and takes long to find: by default nothing.

        A run keeps it when it is begun, as the fact "derived", so that whoever loads it need not
        wait; older runs have none.
        """
        return {}

    def settled(self, facts: Facts) -> Facts:
        """The facts of a run that begins: with what is derived from them."""
        derived = self.derived(facts)
        return {**facts, **({"derived": derived} if derived else {})}

    def fits(self, facts: Facts, own: Facts) -> None:
        """Raise ValueError if a model cannot be judged on, or continue, data of other facts."""
        for name in ("shape", "levels", "columns", "actions"):
            if facts.get(name) != own.get(name):
                raise ValueError(
                    f"the run draws {self.shows} of {name} {own.get(name)}, and the data have "
                    f"{facts.get(name)}"
                )

    def build(self, facts: Facts) -> Parts:
        """The untrained parts; drawn from PyTorch's generators, which the caller seeds."""
        raise NotImplementedError

    def drawn_as(self, facts: Facts) -> str | None:
        """What samples can be shown as, here and in files: what it `shows`, if it has all that.

        None for a recipe of one's own whose samples are something else.
        """
        shape = facts.get("shape")
        whole = isinstance(shape, list | tuple) and len(shape) == 3 and "levels" in facts
        return "pictures" if self.shows == "pictures" and whole and facts.get("classes") else None

    def cond(self, labels: Tensor, facts: Facts) -> dict[str, Tensor]:
        """What the network is told of samples of these classes: the class, where it matters."""
        return {"label": labels} if self.conditional and len(facts["classes"]) > 1 else {}

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """What training minimises, one number per sample: the denoising loss at uniform times."""

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
            clean, cond = self.clean(parts, batch), self.told(batch, facts, rng)
            t = uniform_times((len(clean),), rng.fold("time"), clean.device)
            return denoising_loss(model, parts.diffusion, clean, t, cond, rng, rows=rows)

        return loss

    def clean(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """The states of a training batch."""
        return channels_last(parts.codec.encode(batch["pixels"]))

    def told(self, batch: dict[str, Tensor], facts: Facts, rng: Rng) -> dict[str, Tensor]:
        """What the network is told of a training batch: classes, some of them dropped."""
        return self.cond(self.drop(batch["label"], facts, rng), facts)

    def drop(self, labels: Tensor, facts: Facts, rng: Rng) -> Tensor:
        """Labels as training shows them: of K classes, a share `label_drop` becomes K, no class."""
        return drop_condition(labels, len(facts["classes"]), self.label_drop, rng.fold("label"))

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """A sampling loop for as many samples as `rng` has keys, of the given classes if any.

        From the prior along the plan, as the options of `Sampling` say; the last estimate is what
        is decoded.
        """
        device = next(parts.denoiser.parameters()).device
        cond = self.cond(given["label"].to(device), facts) if "label" in given else {}
        denoiser = self.make_denoiser(parts.denoiser, cond).eval()
        assert isinstance(rng.root, Tensor)
        one = parts.codec.encode(torch.zeros(1, *facts["shape"], dtype=torch.uint8))
        x = torch.empty(len(rng.root), *one.shape[1:], device=device)
        x = channels_last(parts.diffusion.prior(x, rng.fold("prior")))
        plan = self.make_plan(parts.diffusion.schedule)
        denoiser, solver = parts.steered(denoiser, self.make_solver())
        return sample(denoiser, parts.diffusion, plan, x, cond=cond, rng=rng, solver=solver)

    def attached(
        self, parts: Parts, facts: Facts, given: Given, data: Split[Any], rng: Rng
    ) -> Given:
        """What samples of an evaluation are told, of what is asked for: that, and no more."""
        return given

    def decode(self, parts: Parts, result: Tensor, given: Given) -> Tensor:
        """Data of final estimates, on their device."""
        return parts.codec.decode(result)

    @property
    def caveat(self) -> str:
        """What is to be said below figures of such runs: by default nothing."""
        return ""

    @property
    def usage(self) -> str:
        """Lines of Python that draw from a loaded `run`, for reports and model cards."""
        if self.shows == "pictures":
            return "pixels = run.pixels(torch.zeros(16, dtype=torch.int64), seed=1)"
        if self.shows == "points":
            return 'drawn = run.samples({"label": torch.zeros(16, dtype=torch.int64)}, seed=1)'
        return (
            'held = run.recipe.load("DATA").held_out\n'
            "given = run.recipe.asked(held, torch.tensor([0]), 16)  # 16 times from one start\n"
            "drawn = run.samples(given, seed=1)"
        )

    def inspect(self, parts: Parts, last: Drawing) -> dict[str, float]:
        """Averages over what a sampling loop yielded last, for metrics; by default none."""
        return {}

    def whereabouts(self, given: Given, step: Drawing) -> str:
        """Where a long drawing is at a step, for people who wait; by default nothing is said."""
        return ""

    def trackers(self) -> list[Tracker]:
        """What else looks at the records of a training; by default nothing."""
        return []

    def examine(self, parts: Parts, facts: Facts, data: Split[Any], rng: Rng) -> dict[str, float]:
        """Metrics of the model itself, beside those of its samples; by default none."""
        return {}

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Metrics of samples: `draw(labels)`, or `draw(given)`, returns decoded ones.

        They are `Findings` where there is more to keep than numbers.
        """
        raise NotImplementedError


def channels_last(x: Tensor) -> Tensor:
    """Pictures in the memory layout that convolutions are fastest in; other states as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

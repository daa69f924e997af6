"""What a recipe is: options, and seven answers.

A recipe is a frozen dataclass. Its fields are its options (those of `Training` and `Sampling`, and
its own); its methods say where the data comes from, what must be remembered of it, what is built,
what is minimised, how samples are drawn and how good they are. Command line, checkpoints and
reports need nothing else, so a recipe of one's own is one file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from noiseloom.data import Split
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Codec
from noiseloom.noise import Schedule
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import Solver, Step, ancestral, dpm_solver_pp_2m, heun
from noiseloom.training import Loss, Training

__all__ = ["Facts", "Parts", "Recipe", "Sampling"]

Facts: TypeAlias = dict[str, Any]
"""What a model must know of its data to be built without it; plain JSON values."""


@dataclass(frozen=True)
class Parts:
    """What a recipe builds.

    Attributes:
        denoiser: the module that is trained.
        diffusion: what noise is.
        codec: data to state and back.
    """

    denoiser: nn.Module
    diffusion: GaussianDiffusion
    codec: Codec


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn; may be changed for every draw.

    Attributes:
        sampling_steps: rows N of the plan.
        plan: uniform in time, or Karras et al.'s noise levels.
        td: overshoot (asymmetric time intervals), in steps, >= 0.
        sampler: ddim, ddpm (large variance, the paper's), ddpm-small, heun, or dpm++2m.
        guidance: classifier-free guidance scale; 1 is conditional, 0 unconditional.
        momentum: of the self-conditioning estimate, in [0, 1).
        self_guidance: scale of self-guidance, two calls per step; 0 for none.

    Raises:
        ValueError: an option is out of range.
    """

    sampling_steps: int = 100
    plan: Literal["uniform", "karras"] = "uniform"
    td: float = 0.0
    sampler: Literal["ddim", "ddpm", "ddpm-small", "heun", "dpm++2m"] = "ddim"
    guidance: float = 1.0
    momentum: float = 0.0
    self_guidance: float = 0.0

    def __post_init__(self) -> None:
        if self.sampling_steps < 1:
            raise ValueError(f"sampling_steps must be at least 1, got {self.sampling_steps}")
        if self.td < 0:
            raise ValueError(f"td must be at least 0 (it is in steps), got {self.td}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.self_guidance and self.momentum:
            raise ValueError("self_guidance and momentum exclude each other")
        if self.self_guidance < 0:
            raise ValueError(f"self_guidance must be at least 0, got {self.self_guidance}")
        if self.td and self.sampler == "dpm++2m":
            raise ValueError("td leaves gaps in the plan, which a multistep sampler cannot cross")

    def make_plan(self, schedule: Schedule) -> SamplingPlan:
        """The plan these options name."""
        if self.plan == "karras":
            return SamplingPlan.karras(self.sampling_steps, schedule).overshoot(self.td)
        return SamplingPlan.uniform(self.sampling_steps).overshoot(self.td)

    def make_solver(self) -> Solver:
        """The solver these options name."""
        solvers: dict[str, Callable[[], Solver]] = {
            "ddim": ancestral,
            "ddpm": lambda: ancestral(1.0, "large"),
            "ddpm-small": lambda: ancestral(1.0, "small"),
            "heun": heun,
            "dpm++2m": dpm_solver_pp_2m,
        }
        return solvers[self.sampler]()


@dataclass(frozen=True)
class Recipe(Sampling, Training):
    """An experiment; subclasses add options and answer every method.

    Attributes:
        samples: how many samples an evaluation draws.
        name: what the command line calls it.
        summary: one line: what it trains on what, and the claim it reproduces.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    samples: int = 1000

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            if choices and getattr(self, name) not in choices:
                known = ", ".join(map(str, choices))
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        Training.__post_init__(self)
        Sampling.__post_init__(self)

    def check(self) -> None:
        """Raise ImportError, before training, if an extra that `evaluate` needs is missing."""

    def load(self, data: str | None) -> Split:
        """The data, from a path where the recipe needs one."""
        raise NotImplementedError

    def facts(self, data: Split) -> Facts:
        """Shape, number of levels and classes of the pictures."""
        train = data.train
        shape = list(train.pixels.shape[1:])
        return {"shape": shape, "levels": train.levels, "classes": list(train.classes)}

    def build(self, facts: Facts) -> Parts:
        """The untrained parts; drawn from PyTorch's generators, which the caller seeds."""
        raise NotImplementedError

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """What training minimises, one number per sample."""
        raise NotImplementedError

    def draw(self, parts: Parts, facts: Facts, labels: Tensor | None, rng: Rng) -> Iterator[Step]:
        """A sampling loop for as many samples as `rng` has keys, of the given classes."""
        raise NotImplementedError

    def inspect(self, parts: Parts, result: Tensor) -> dict[str, float]:
        """Averages over a batch of final estimates, before they are decoded; by default none."""
        return {}

    def evaluate(self, draw: Callable[[Tensor], Tensor], data: Split, rng: Rng) -> dict[str, float]:
        """Metrics of samples: `draw(labels)` returns decoded pictures of those classes."""
        raise NotImplementedError

"""The options of a run's guides: how one is trained, and how samples are led by it."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from noiseloom.context import COVARIANCES, noise_covariance
from noiseloom.diffusion import Diffusion, ProductDiffusion
from noiseloom.training import Training

__all__ = [
    "DECAYED",
    "METHODS",
    "OWN_OPTIONS",
    "WITH_CONTEXT",
    "GuideTraining",
    "Guiding",
    "Method",
]

Method: TypeAlias = Literal[
    "context",
    "none",
    "weight-decay",
    "parameter-prior",
    "ensemble",
    "pretrained",
    "coral",
    "adversarial",
    "confusion",
]
METHODS: tuple[Method, ...] = get_args(Method)
"""Ways to keep a guide honest outside of its data, the first by context, the others beside it."""

WITH_CONTEXT = ("context", "pretrained", "coral", "adversarial", "confusion")
"""Those that ask for unlabelled structures."""
DECAYED = ("weight-decay", "ensemble", "pretrained")
"""Those whose weights decay."""
OWN_OPTIONS: dict[str, tuple[str, ...]] = {
    "context": ("sigma", "tau", "variance", "weight", "context_size", "reference", "schedule"),
    "none": (),
    "weight-decay": ("decay",),
    "parameter-prior": ("prior_variance",),
    "ensemble": ("members", "decay"),
    "pretrained": ("pretraining_steps", "decay"),
    "coral": ("weight", "context_size"),
    "adversarial": ("weight", "context_size"),
    "confusion": ("weight", "context_size"),
}
"""The options that say how strong a method is, and nothing to the others."""


@dataclass(frozen=True)
class GuideTraining:
    """How a guide is trained.

    Attributes:
        method: context, the paper's regulariser; none; weight-decay, AdamW's, decoupled;
            parameter-prior, |theta|^2 / (2 prior_variance) in the loss; ensemble, of `members`
            guides, whose weights decay; pretrained, whose network has first learnt to say of noised
            context states what a random network says of the clean ones, and whose weights decay;
            coral, adversarial or confusion, features that do not tell labelled structures from
            context. context, pretrained and the last three need --context.
        steps: updates on labels.
        batch_size: labelled structures per update.
        learning_rate: after warm-up; it falls to 0 as a half cosine.
        width: features of the embedding, and of tokens or nodes in the network.
        depth: blocks of the network.
        reads: a network of its own reads the noised states (states), or one layer reads the last
            hidden states of the run's denoiser (denoiser), which --way hidden needs.
        noisiest: times are drawn from U(0, noisiest): above it the guide is not to be asked.
        sigma: of context, covariance scale >= 0: what states share that a random network holds for
            alike.
        tau: of context, diagonal offset >= 1e-3 sigma.
        variance: of context, the target of the variance, in squared deviations of the labels.
        weight: of context, coral, adversarial and confusion: the factor of the term.
        context_size: unlabelled structures per update.
        reference: context structures for which the regulariser counts once (512, the paper's small
            molecules), null for no such factor (its materials).
        schedule: of sigma and tau: by the share of noise in the run's own states (noise); or over
            time the paper's sigmoid, which stands for that on its clock, linear, or constant.
        decay: weight decay.
        prior_variance: of the parameter prior.
        members: guides of an ensemble.
        pretraining_steps: updates on the context that come before those on labels.
        held_out: share of the labelled structures that is kept from training, for calibration.
        compile: compile the network, for long trainings on a GPU.
        checkpoint_every: updates between two checkpoints.
        seed: of everything that is drawn, but which structures are held out.

    Raises:
        ValueError: an option is out of range.
    """

    method: Method = "context"
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    width: int = 64
    depth: int = 2
    reads: Literal["states", "denoiser"] = "states"
    noisiest: float = 1.0
    sigma: float = 0.1
    tau: float = 1.0
    variance: float = 1.0
    weight: float = 1.0
    context_size: int = 64
    reference: int | None = 512
    schedule: Literal["noise", "sigmoid", "linear", "constant"] = "noise"
    decay: float = 0.01
    prior_variance: float = 1.0
    members: int = 5
    pretraining_steps: int = 1000
    held_out: float = 0.2
    compile: bool = False
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        for name in ("width", "depth", "context_size", "members", "pretraining_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("context_size", "batch_size"):
            if self.method == "coral" and getattr(self, name) < 2:
                got = getattr(self, name)
                raise ValueError(f"coral compares covariances: {name} must be 2 or more, got {got}")
        for name in ("variance", "prior_variance"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight", "decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 < self.noisiest <= 1:
            raise ValueError(f"noisiest is a time in (0, 1], got {self.noisiest}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, got {self.held_out}")
        if self.reference is not None and self.reference < 1:
            raise ValueError(f"reference must be at least 1, or null, got {self.reference}")
        self.training(Training())  # which refuses steps, sizes and rates that are none

    @property
    def needs_context(self) -> bool:
        """Whether unlabelled structures are asked for."""
        return self.method in WITH_CONTEXT

    @property
    def name(self) -> str:
        """What a guide of these options is called."""
        return f"{self.method}-{self.seed}"

    def training(self, first: Training) -> Training:
        """The updates on labels, with the threads and the precision of the run's own training."""
        return self._training(first, self.steps, self.decay if self.method in DECAYED else 0.0)

    def pretraining(self, first: Training) -> Training:
        """The updates on the context before them."""
        return self._training(first, self.pretraining_steps, 0.0)

    def term(self, diffusion: Diffusion | ProductDiffusion) -> dict[str, Any]:
        """What `make_regulariser` is to make for states of a kind, with its options."""
        if self.method == "context":
            names = ("sigma", "tau", "variance", "weight", "reference")
            options = {name: getattr(self, name) for name in names}
            parts = diffusion.parts.values() if isinstance(diffusion, ProductDiffusion) else ()
            schedules = [part.schedule for part in parts or [diffusion]]
            covariance = COVARIANCES.get(self.schedule) or noise_covariance(*schedules)
            return {"name": "context", "schedule": covariance, **options}
        if self.method == "parameter-prior":
            return {"name": self.method, "variance": self.prior_variance}
        if self.method in ("coral", "adversarial", "confusion"):
            return {"name": self.method, "weight": self.weight}
        return {"name": "none"}

    def _training(self, first: Training, steps: int, decay: float) -> Training:
        return Training(
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup=min(100, steps // 10),
            decay="cosine",
            weight_decay=decay,
            ema_decay=0.99,
            precision=first.precision,
            compile=self.compile,
            checkpoint_every=self.checkpoint_every,
            threads=first.threads,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Guiding:
    """How samples are led by a guide.

    Attributes:
        target: what is wanted: maximise, minimise, or a value; of several properties one for each,
            separated by commas, "any" for one that does not matter.
        objective: what of the guide is climbed: its mean, the lower or upper confidence bound (lcb,
            ucb), the log-probability of the value (log-prob), or that of an improvement upon the
            best training label (improvement); auto is the mean, and log-prob of a value.
        kappa: deviations of a confidence bound.
        scale: of the guidance, 0 for none; of mean, lcb and ucb in deviations of the training
            labels: at scale 1 a structure that is better by one is e times as likely. Steps of
            hidden states are of one length, and it is weighed against `stability` alone.
        way: the law is tilted at every step (tilt), states are moved after each step (nudge, of
            numbers alone), or the denoiser's hidden states are (hidden, of classes alone, by a
            guide with --reads denoiser).
        rule: the scale is constant; or falls with noise as 0.1^t (decay); or that times the length
            of the score over that of the pull (norm-ratio, of numbers, with tilt): sums of absolute
            values, as in the paper, and of points in space, which turn, Euclidean lengths.
        clip: longest pull; null for 10 with nudge, and with tilt for no such limit, but that the
            estimate of numbers is moved by three an entry at most, of states whose entries deviate
            by about one.
        guide_begin: time from which on (downwards) tokens are guided; null for 1 of classes, and
            for numbers the time at which the log-SNR is -5: before it sigma^2 / alpha, 12 there,
            multiplies what the guide's slope is off by, up to thousands of times.
        corrector: Langevin steps before each step, of numbers alone.
        hidden_steps: Adagrad steps of the hidden states at each step.
        hidden_rate: their length.
        stability: weight of the divergence from the unguided prediction that holds them.

    Raises:
        ValueError: an option is out of range.
    """

    target: str = "maximise"
    objective: Literal["auto", "mean", "lcb", "ucb", "log-prob", "improvement"] = "auto"
    kappa: float = 1.0
    scale: float = 1.0
    way: Literal["tilt", "nudge", "hidden"] = "tilt"
    rule: Literal["constant", "norm-ratio", "decay"] = "constant"
    clip: float | None = None
    guide_begin: float | None = None
    corrector: int = 0
    hidden_steps: int = 10
    hidden_rate: float = 1.0
    stability: float = 0.01

    def __post_init__(self) -> None:
        for name in ("kappa", "scale", "stability"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("corrector", "hidden_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.guide_begin is not None and not 0 <= self.guide_begin <= 1:
            raise ValueError(f"guide_begin is a time in [0, 1], got {self.guide_begin}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0, or null, got {self.clip}")
        if not self.hidden_rate > 0:
            raise ValueError(f"hidden_rate must be above 0, got {self.hidden_rate}")
        if self.rule == "norm-ratio" and self.way != "tilt":
            raise ValueError(
                f"rule norm-ratio is of --way tilt, which knows the score, not {self.way}"
            )
        self._check_idle()
        self.targets()

    def _check_idle(self) -> None:
        """Refuse what would be passed over."""
        hidden, way = self.way == "hidden", f"way {self.way}"
        heard = {"kappa": (self.objective in ("lcb", "ucb"), f"objective {self.objective}")}
        for name in ("hidden_steps", "hidden_rate", "stability"):
            heard[name] = hidden, way
        for name in ("rule", "clip", "guide_begin", "corrector"):
            heard[name] = not hidden, way
        for f in fields(self):
            of_use, choice = heard.get(f.name, (True, ""))
            if not of_use and getattr(self, f.name) != f.default:
                raise ValueError(f"{f.name} says nothing to {choice}: leave it out")

    def targets(self) -> tuple[str | float | None, ...]:
        """What is wanted of each property: "maximise", "minimise", a value, or None for any.

        Raises:
            ValueError: another word.
        """
        found: list[str | float | None] = []
        for word in self.target.split(","):
            text = word.strip().lower()
            if text in ("maximise", "maximize", "minimise", "minimize"):
                found.append(text.replace("ize", "ise"))
            elif text == "any":
                found.append(None)
            else:
                try:
                    value = float(text)
                except ValueError:
                    value = math.nan
                if not math.isfinite(value):
                    raise ValueError(
                        f"a target is maximise, minimise, any or a number, got {word!r}"
                    )
                found.append(value)
        if all(target is None for target in found):
            raise ValueError("nothing is wanted: a target is maximise, minimise or a number")
        return tuple(found)

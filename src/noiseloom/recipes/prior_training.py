"""The options of a run's second stage: the prior over its codes, and how that is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from noiseloom.training import Training

__all__ = ["PriorTraining"]


@dataclass(frozen=True)
class PriorTraining:
    """The prior over the codes.

    Attributes:
        prior: autoregressive (the paper's), tabular (counted; for few codes), bits (a diffusion,
            all codes at once), or none.
        prior_steps: updates of its training, over which the learning rate falls to 0.
        prior_batch_size: codes per update.
        prior_learning_rate: after warm-up.
        prior_width: features of its transformer.
        prior_depth: number of its blocks.
        prior_dropout: rate in it, against learning the training codes by heart.
        prior_samples: samples that a table counts at most, since all windows of a long text would
            take hours; a prior that is trained reads as many as it makes use of.
    """

    prior: Literal["autoregressive", "tabular", "bits", "none"] = "autoregressive"
    prior_steps: int = 2000
    prior_batch_size: int = 256
    prior_learning_rate: float = 1e-3
    prior_width: int = 128
    prior_depth: int = 4
    prior_dropout: float = 0.1
    prior_samples: int = 100_000

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "width", "depth", "samples"):
            value = getattr(self, f"prior_{name}")
            if value < 1:
                raise ValueError(f"prior_{name} must be at least 1, got {value}")
        if not self.prior_learning_rate > 0:
            raise ValueError(f"prior_learning_rate must be above 0, got {self.prior_learning_rate}")
        if not 0 <= self.prior_dropout < 1:
            raise ValueError(f"prior_dropout must be in [0, 1), got {self.prior_dropout}")

    @property
    def idle_of_prior(self) -> Mapping[str, str]:
        """The options of the prior that change nothing, and what they do not change."""
        told = {"tabular": "a tabular prior, which is counted", "none": "a run without a prior"}
        if self.prior not in told:
            return {"prior_samples": "a prior that is trained"}
        heard = ("prior", "prior_samples") if self.prior == "tabular" else ("prior",)
        names = [field.name for field in fields(PriorTraining) if field.name not in heard]
        return dict.fromkeys(names, told[self.prior])

    def second_stage(self, first: Training) -> Training:
        """How the prior is trained, with the seed, threads and checkpoints of the first stage.

        It is compiled only where that was asked for: most priors are trained sooner than compiled.
        """
        return Training(
            steps=self.prior_steps,
            batch_size=self.prior_batch_size,
            learning_rate=self.prior_learning_rate,
            warmup=min(100, self.prior_steps // 10),
            decay="cosine",
            weight_decay=0.01,
            ema_decay=0.99,
            precision=first.precision,
            compile=bool(first.compile),
            checkpoint_every=first.checkpoint_every,
            threads=first.threads,
            seed=first.seed,
        )

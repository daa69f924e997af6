"""The options of models of rows of tokens, and what they must know of their data."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.data import Split
from noiseloom.data.tokens import evenly
from noiseloom.recipes.choosing import Choosing
from noiseloom.recipes.latent_rows import LatentRows
from noiseloom.recipes.recipe import Facts, Given
from noiseloom.recipes.sampling import Sampling
from noiseloom.rng import Rng

__all__ = ["CLASSES", "CODES", "ClassOptions"]

CLASSES = ("masked", "uniform", "marginal")
"""States that are classes."""
CODES = ("bits", "onehot", "embedding")
"""States that are codes of classes, in a Gaussian diffusion."""


@dataclass(frozen=True)
class ClassOptions(LatentRows, Choosing):
    """A model of rows of tokens; options of `LatentRows` and `Choosing` too.

    Attributes:
        state: what is diffused: masked, uniform or marginal classes; bits, onehot or embedding
            codes; autoregressive, which is no diffusion; or latent, `latent_base` told codes.
        code: of the bits: binary, gray, or random.
        features: of a learnt embedding.
        schedule: of the noise; auto is linear for classes, and for codes
            the one by which tokens lose what they say as evenly (`information_schedule`).
        times: of the tokens of a row in training: shared, or independent, which other plans than
            uniform need where noise shows in a token (all states but masked).
        objective: of classes: the bound itself, or the cross-entropy of hidden tokens (masked) or
            of all (uniform, marginal), which has the same optimum and less variance: on 300,000
            letters masks came to 3.15 bits a token by it and to 3.26 by the bound (800 updates, one
            seed). Of codes it is the cross-entropy always.
        infill: share of the rows in training that show a random part of their tokens clean, so
            that the rest can be drawn beside what is known.
        ramps: share of the rows in training whose times rise from left to right, clean to noise, as
            the window of a stream has them; `noiseloom stream` needs some, and so do pyramids.
        self_conditioning: share of the batch with a first pass; null for 0.5 of codes, which need
            it, and 0 of classes.
        width: features of a token inside the network.
        depth: blocks.
        heads: attention heads.
        dropout: rate in the network.
        judged: held-out rows whose bits an evaluation measures, few or short ones by several draws.
        levels: noise levels of each of them.
    """

    shows: ClassVar[Any] = "rows"
    tallied: ClassVar[bool] = True
    kind: ClassVar[Literal["text", "table", "sequences"]] = "text"

    state: Literal[
        "masked", "uniform", "marginal", "bits", "onehot", "embedding", "autoregressive", "latent"
    ] = "masked"
    code: Literal["binary", "gray", "random"] = "binary"
    features: int = 16
    schedule: Literal["auto", "cosine", "sigmoid", "linear", "ddpm", "rectified-flow"] = "auto"
    times: Literal["shared", "independent"] = "shared"
    objective: Literal["bound", "cross-entropy"] = "cross-entropy"
    infill: float = 0.1
    ramps: float = 0.0
    self_conditioning: float | None = None
    width: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.0
    judged: int = 1024
    levels: int = 16
    conditional: bool = False
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    beta2: float = 0.99
    decay: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = 0.999
    threads: int = 1
    sampling_steps: int = 64
    samples: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        Choosing.__post_init__(self)
        if self.conditional or self.label_drop:
            raise ValueError(f"{self.name} knows no classes of rows: leave conditional off")
        for name in ("features", "width", "depth", "heads", "judged", "levels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("infill", "ramps", "share"):
            if not 0 <= getattr(self, name) <= 1:
                named = "self_conditioning" if name == "share" else name
                raise ValueError(f"{named} must be in [0, 1], got {getattr(self, name)}")
        if self.base not in CODES and self.sampler != "ddim":
            raise ValueError(
                f"sampler {self.sampler} moves numbers, and state {self.base} has classes: leave "
                "it at ddim, whose moves are draws there"
            )
        if self.base not in CODES and self.churn_noise != 1:
            raise ValueError(f"churn_noise scales numbers, and state {self.base} has classes")
        if self.state != "autoregressive" and (self.temperature != 1 or self.top_p != 1):
            raise ValueError("temperature and top_p are of state autoregressive")
        if self.beams > 1 and self.state != "autoregressive":
            raise ValueError("beams are of state autoregressive")
        if self.unmask == "confidence" and (self.churn or self.restarts or self.resample > 1):
            raise ValueError(
                "unmask confidence goes down only: leave churn, restarts, resample out"
            )
        if self.order_noise and self.unmask != "confidence":
            raise ValueError("order_noise is of --unmask confidence")
        if self.unmask == "confidence" and self.base != "masked":
            raise ValueError("unmask confidence is of state masked")
        if self.state == "autoregressive" and (self.td or self.churn or self.restarts):
            raise ValueError("td, churn and restarts are of diffusions, not of autoregressive rows")
        if not self.any_order and self.plan not in ("uniform", "karras"):
            raise ValueError(
                f"plan {self.plan} needs a model that was trained with a time per token: train "
                "one with --times independent"
            )

    @property
    def idle(self) -> Mapping[str, str]:
        """What is of token by token says nothing of noise, and the other way round."""
        names = set() if self.base == "masked" else {"unmask", "order_noise"}
        names |= set() if self.base in CODES else {"sampler", "churn_noise"}
        if self.state == "autoregressive":
            names |= {field.name for field in fields(Sampling)} - {"guidance"}
        else:
            names |= {"temperature", "top_p", "beams"}
        return {**super().idle, **dict.fromkeys(names, f"state {self.state}")}

    @property
    def unheard(self) -> Mapping[str, str]:
        """What is of other codes than its own, or of any."""
        names = ["code"] * (self.base != "bits") + ["features"] * (self.base != "embedding")
        return {**super().unheard, **dict.fromkeys(names, f"state {self.state}")}

    @property
    def base(self) -> str:
        """What is diffused, with codes or without."""
        return self.latent_base if self.state == "latent" else self.state

    @property
    def coded(self) -> bool:
        """Whether the denoiser is told codes."""
        return self.state == "latent"

    @property
    def any_order(self) -> bool:
        """Whether tokens may have times of their own."""
        return self.base == "masked" or self.times == "independent"

    @property
    def sees_known(self) -> bool:
        """Whether it can be told some tokens of a row: all but those that saw none in training."""
        never = not self.infill and self.times == "shared"
        return self.base in ("masked", "autoregressive") or not never

    @property
    def shown_estimates(self) -> bool:
        """Whether it is self-conditioned."""
        return self.share > 0

    @property
    def share(self) -> float:
        """What `self_conditioning` stands for."""
        if self.self_conditioning is None:
            return 0.5 if self.base in CODES else 0.0
        return self.self_conditioning

    def facts(self, data: Split[Any]) -> Facts:
        """Length, classes of each place and their frequencies in (at most 10,000) training rows."""
        sizes, train = list(data.train.sizes), data.train
        few = train[evenly(len(train), 10_000)]["tokens"]
        most = max(sizes)
        counts = torch.stack([torch.bincount(c, minlength=most) for c in few.T]).double()
        alike = len(set(sizes)) == 1 and self.alike
        pi = counts.sum(0, keepdim=True) if alike else counts
        # No class that a place has is impossible, seen here or not.
        pi = (pi + 0.5) * (torch.arange(most) < torch.tensor(sizes)[: len(pi), None])
        frequencies = (pi / pi.sum(1, keepdim=True)).tolist()
        words = getattr(data, "vocabulary", None)
        found = {"length": len(sizes), "sizes": sizes, "frequencies": frequencies}
        return found | ({} if words is None else {"vocabulary": words.facts()})

    @property
    def network_source(self) -> dict[str, Any]:
        """Options of the network where something stands beside the tokens; by default nothing."""
        return {}

    @property
    def narrow_estimates(self) -> bool:
        """Whether networks of codes take estimates of the code alone; older runs have K zeros."""
        return False

    def reading(
        self, model: nn.Module, batch: Given, rng: Rng | None = None
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """The model of tokens in what is trained, and what it is told of a batch: nothing, here.

        Asked once for a training step, with the step's keys, and once for a drawing.
        """
        return model, {}

    def end(self, facts: Facts) -> int | None:
        """The class after which there is no other, where the autoregressive state is to stop."""
        return None

    @property
    def alike(self) -> bool:
        """Whether a class means the same in every place."""
        return True

    def fits(self, facts: Facts, own: Facts) -> None:
        """Raise ValueError if a model cannot be judged on, or continue, data of other facts."""
        for name in ("length", "sizes", "vocabulary"):
            if facts.get(name) != own.get(name):
                raise ValueError(
                    f"the run draws rows of {name} {own.get(name)}, and the data have "
                    f"{facts.get(name)}"
                )

    def drawn_as(self, facts: Facts) -> str | None:
        """Rows."""
        return "rows"

    @property
    def usage(self) -> str:
        """Lines of Python that draw from a loaded `run`, and what its tokens mean."""
        return (
            "from noiseloom.data import vocabulary\n"
            "\n"
            'words = vocabulary(run.facts["vocabulary"])\n'
            'drawn = run.samples({"row": torch.arange(16)}, seed=1)  # tokens; words.decode(drawn)'
        )

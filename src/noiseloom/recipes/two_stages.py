"""A run of two stages: a model with discrete latents, then a prior that draws their codes.

Y. Xu, G. Corso, T. Jaakkola, A. Vahdat, K. Kreis, 2024, "DisCo-Diff: Enhancing Continuous Diffusion
Models with Discrete Latents", arXiv 2407.03300.

In the first stage an encoder and a denoiser, told the codes of the encoder, are trained together
(Algorithm 1). In the second the averaged encoder gives codes to the data, and a prior learns to
draw such codes (Eq. 4; `noiseloom.fit_prior`). Samples are drawn by both (Algorithm 3). What noise
is, and what its states are, is a recipe's own affair.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.data import Split
from noiseloom.data.split import Set
from noiseloom.guidance import ClassifierFree
from noiseloom.latents import (
    CollapseWarning,
    Latent,
    Restart,
    Temperature,
    UsageBonus,
    constant_temperature,
)
from noiseloom.latents.relaxation import perturbed
from noiseloom.priors import MEASURED, Codes, Prior, PriorKind, code_likelihoods
from noiseloom.recipes import unheard
from noiseloom.recipes.prior_training import PriorTraining
from noiseloom.recipes.recipe import Facts, Given, Parts, Recipe
from noiseloom.recipes.sampling import Telling
from noiseloom.rng import Rng
from noiseloom.shapes import Cond
from noiseloom.training import Tracker

__all__ = ["NoPriorError", "TwoStages"]

_BATCH = 500  # samples that are encoded at once: codes must not depend on who asks


class NoPriorError(ValueError):
    """Codes of a prior are wanted, and there is none.

    Args:
        run: folder of the run, where it is known.
        named: whether the run's options name a prior; of others the command must.
    """

    def __init__(self, run: str = "RUN", *, named: bool = True) -> None:
        command = f"noiseloom prior {run}{'' if named else ' --prior autoregressive'}"
        super().__init__(
            f"this run has no prior yet to draw codes from: make it with {command}, "
            "or draw with --codes marginal or none"
        )


@dataclass(frozen=True)
class TwoStages(Recipe, Telling, PriorTraining):
    """Discrete latents and their prior; options of `Telling` and `PriorTraining` too.

    The defaults are the paper's: no bonus, no penalty and no restarts; its pictures had m = 10 and
    k = 100.

    Attributes:
        m: number of latents.
        k: number of codes of each.
        hard: straight-through codes.
        code_drop: share of samples whose codes are dropped.
        bonus: weight of the marginal entropy of the codes, which fades; 0 is the paper's.
        penalty: weight of their conditional entropy, which grows; 0 is the paper's.
        fade: share of training at which the bonus has gone; above 1 some of it stays.
        restart: share of its due below which a code begins again; 0 for never, the paper's.
    """

    m: int = 10
    k: int = 100
    hard: bool = False
    code_drop: float = 0.1
    bonus: float = 0.0
    penalty: float = 0.0
    fade: float = 0.7
    restart: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        Telling.__post_init__(self)
        PriorTraining.__post_init__(self)
        if self.m < 0 or self.k < 1:
            raise ValueError(f"m must be at least 0, and k at least 1, got m {self.m}, k {self.k}")
        if not 0 < self.fade < math.inf:
            raise ValueError(f"fade must be above 0, got {self.fade}")
        for name in ("bonus", "penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("restart", "code_drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.code_guidance != 1 and not (self.coded and self.code_drop):
            why = "with code_drop 0" if self.coded else "without codes (m 0)"
            raise ValueError(
                f"code_guidance needs codes that training dropped at times: this is a model {why}"
            )

    @property
    def coded(self) -> bool:
        """Whether there are codes at all."""
        return self.m > 0

    @property
    def idle(self) -> Mapping[str, str]:
        """How codes are drawn says nothing where no prior draws them, or nothing at all."""
        return {**super().idle, **unheard.drawing(self)}

    @property
    def unheard(self) -> Mapping[str, str]:
        """Options of codes where there are none, and of what else is switched off."""
        return {**super().unheard, **unheard.training(self)}

    @property
    def knows_none(self) -> bool:
        """Whether the model was trained without codes at times, or always."""
        return not self.coded or self.code_drop > 0

    def relaxation(self) -> Temperature:
        """The temperature of the relaxed codes over training; the paper's by default, 1."""
        return constant_temperature()

    def check(self) -> None:
        """Samples of an evaluation need codes from somewhere, and guidance some to guide to."""
        super().check()
        if self.codes == "none":
            self.check_none()
            self.check_guided({})
        if self.coded and self.prior == "none" and self.codes == "prior":
            raise ValueError(
                "prior none leaves nothing to draw codes by: evaluate with --codes marginal or "
                "none, or name another --prior"
            )
        self.check_prior()

    @property
    def unmet_by_prior(self) -> str:
        """What the prior cannot do of what its draws are to be; nothing if it can do all."""
        if not self.wants_prior or self.prior != "bits":
            return ""
        for name in ("code_temperature", "code_top_p"):
            if getattr(self, name) != 1:
                told = f"{name} {getattr(self, name):g} says nothing to a prior of bits"
                return f"{told}, a diffusion, which has neither temperature nor nucleus"
        return ""

    def check_prior(self) -> None:
        """Raise ValueError if the prior cannot draw as the options say."""
        if told := self.unmet_by_prior:
            name = told.partition(" ")[0].replace("_", "-")
            raise ValueError(f"{told}: take --{name} 1, or another prior")

    def check_typed(self, names: Collection[str]) -> None:
        """Samples of a run are drawn where there are no held-out ones, too."""
        super().check_typed(set(names) - unheard.said(self))
        if self.codes == "oracle":
            raise ValueError(
                "codes oracle are those of held-out samples, for evaluate and compare: train "
                "without them, and then evaluate with --codes oracle"
            )

    def check_none(self) -> None:
        """Raise ValueError if samples are to be told no codes, which training never dropped."""
        if not self.knows_none:
            raise ValueError(
                "codes none needs a model that was trained without codes at times: draw with "
                "--codes prior or marginal, or train one with --code-drop 0.1"
            )

    def check_guided(self, cond: Cond) -> None:
        """Raise ValueError if codes are to be guided to, and none are told."""
        if self.code_guidance != 1 and "codes" not in cond:
            raise ValueError(
                f"code_guidance {self.code_guidance:g} needs codes to guide to: draw with codes, "
                "or leave code_guidance at 1"
            )

    def make_latent(self, denoiser: nn.Module, encoder: nn.Module, facts: Facts) -> Latent:
        """The denoiser with its encoder, and what these options say of their training."""
        return Latent(
            denoiser,
            encoder,
            m=self.m,
            k=self.k,
            updates=self.steps,
            accumulate=self.accumulate,
            temperature=self.relaxation(),
            hard=self.hard,
            drop=self.code_drop,
            bonus=UsageBonus(self.bonus, self.penalty, self.fade)
            if self.bonus or self.penalty
            else None,
            restart=Restart(self.restart) if self.restart else None,
            labels=len(facts.get("classes", ())),
        )

    def trackers(self) -> list[Tracker]:
        """A warning where codes say nothing when they should have begun to, or at the end."""
        watch = self.watch
        return [watch] if watch else []

    @property
    def watch(self) -> CollapseWarning | None:
        """What knows from the records of a training whether codes say nothing, if there are any."""
        if not self.coded or self.k < 2:
            return None
        tried = {name for name in ("penalty", "hard", "bonus", "restart") if getattr(self, name)}
        temperature, ends = self.relaxation(), torch.tensor([0.0, 1.0])
        if float(temperature(ends[1])) < float(temperature(ends[0])):
            tried.add("temperature")
        return CollapseWarning(self.steps, self.k, tried=tried, dropped=self.code_drop == 1)

    def views(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """A batch in every way in which training may show it; as it is first."""
        return [batch]

    @torch.no_grad()
    def encoded(
        self,
        parts: Parts,
        facts: Facts,
        data: Set,
        rng: Rng,
        *,
        rows: Tensor | None = None,
        draws: int | None = 1,
    ) -> Codes:
        """Codes of data, drawn from the encoder's q; with classes where the model is told them.

        Args:
            parts: with a `Latent`.
            facts: of the model.
            data: the samples; classes other than the model's are left out.
            rng: one key; what is drawn for a sample depends on its place in `rows` alone.
            rows: int64, which of them; by default all.
            draws: for each sample, as it is and in the other ways in which training may show it
                (`views`) by turns; None for one of each. All samples come once before any comes
                again.

        Returns:
            On the CPU, len(rows) * draws of them.
        """
        model = parts.denoiser
        assert isinstance(model, Latent)
        rows = torch.arange(len(data)) if rows is None else rows
        device, codes, labels = model.usage.device, [], []
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            batch = {name: value.to(device) for name, value in data[part].items()}
            views, keys = self.views(batch)[:draws], rng.samples(len(part), start)
            q = [model.logits(self.clean(parts, view)) for view in views]
            drawn = [
                perturbed(q[j % len(q)], keys.fold("draw", j)).argmax(-1)
                for j in range(draws or len(q))
            ]
            codes.append(torch.stack(drawn).cpu())
            labels += [batch["label"].cpu()] if "label" in batch else []
        every = torch.cat(codes, 1).flatten(0, 1)
        if not labels or list(getattr(data, "classes", ())) != facts["classes"]:
            return Codes(every)
        label = torch.cat(labels).repeat(len(every) // len(rows))
        return Codes(every, self.cond(label, facts).get("label"))

    @property
    def wants_prior(self) -> bool:
        """Whether there is a second stage."""
        return self.coded and self.prior != "none"

    def classes_told(self, facts: Facts) -> int | None:
        """How many classes denoiser and prior are told of, None for none."""
        told = self.cond(torch.zeros(1, dtype=torch.int64), facts)
        return len(facts["classes"]) if "label" in told else None

    def prior_kind(self, facts: Facts) -> PriorKind:
        """The prior that these options name, told the class where the denoiser is."""
        assert self.prior != "none"
        return PriorKind(
            self.prior,
            self.m,
            self.k,
            self.classes_told(facts),
            self.prior_width,
            self.prior_depth,
            self.prior_dropout,
        )

    def told_codes(self, parts: Parts, cond: Cond, given: Given, rng: Rng) -> dict[str, Tensor]:
        """The condition of samples: given codes, or else what `codes` says.

        Raises:
            NoPriorError: codes of a prior are wanted, and there is none.
            ValueError: no codes are, and training never dropped them; or those of held-out samples
                are, and not given.
        """
        trained = parts.denoiser
        if not isinstance(trained, Latent):
            return {}
        usage = trained.usage
        if "codes" in given:
            return {"codes": trained.given(given["codes"]).to(usage.device)}
        if self.codes == "none":
            self.check_none()
            return {}
        if self.codes == "oracle":
            raise ValueError(
                "codes oracle are those of held-out samples, which evaluate has: draw with other "
                "--codes, or with codes of a file, --codes-from FILE"
            )
        assert isinstance(rng.root, Tensor)
        key = rng.fold("codes")
        if self.codes == "prior":
            return {"codes": trained.given(self.generated(parts.prior, cond, len(rng.root), key))}
        u = key.uniform((len(rng.root), self.m, 1), device=usage.device)
        indices = (u > usage.cumsum(-1) / usage.sum(-1, keepdim=True)).sum(-1)
        return {"codes": trained.given(indices.clamp(max=self.k - 1))}

    def generated(self, prior: Prior | None, cond: Cond, count: int, rng: Rng) -> Tensor:
        """Codes that the prior draws, (B, m), for the classes in `cond` if it knows classes."""
        if prior is None:
            raise NoPriorError(named=self.prior != "none")
        self.check_prior()
        told = prior.num_classes is not None and "label" in cond
        return prior.sample(
            cond["label"] if told else count,
            rng,
            temperature=self.code_temperature,
            top_p=self.code_top_p,
        )

    def make_denoiser(self, trained: nn.Module, cond: Cond) -> nn.Module:
        """The denoiser without the encoder, guided by the codes if that is asked for."""
        self.check_guided(cond)
        core = trained.denoiser if isinstance(trained, Latent) else trained
        assert isinstance(core, nn.Module)
        if self.code_guidance != 1:
            if isinstance(core, SelfConditioned):
                # One estimate, of what was guided, goes to both branches.
                inner = ClassifierFree(core.denoiser, self.code_guidance, drop=("codes",))
                core = SelfConditioned(inner, momentum=core.momentum, limit=core.limit)
            else:
                core = ClassifierFree(core, self.code_guidance, drop=("codes",))
        return super().make_denoiser(core, cond)

    def examine(self, parts: Parts, facts: Facts, data: Split[Any], rng: Rng) -> dict[str, float]:
        """How many bits the codes hold, and how many they take the prior."""
        if not isinstance(parts.denoiser, Latent):
            return {}
        found = []
        for name, part in (("train", data.train), ("held out", data.held_out)):
            key = rng.fold(f"codes of {name}")
            rows = key.permutation(len(part))[:MEASURED]
            found.append(self.encoded(parts, facts, part, key, rows=rows, draws=None))
        bits = code_likelihoods(parts.prior, self.k, *found)
        return {"index_bits": math.log2(len(data.train)), **bits}

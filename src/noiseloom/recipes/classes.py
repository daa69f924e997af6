"""One data set, every kind of state: what is diffused is one option, and everything else is equal.

Rows of tokens, from text, tables or sequences, are learnt

- as classes: masked (absorbing), uniform, or marginal noise (`CategoricalDiffusion`),
- as codes in a Gaussian diffusion: analog bits, one-hot vectors, or learnt embeddings,
- token by token (autoregressive), which most would take,
- any of the first two told a few codes of the row, which an encoder picks (latent),

by one transformer. Each says its bits per token, a bound or exact (`nats_bound`, `latent_bound`,
`NextToken`), and draws rows, whole or in the gaps of a template. From top to bottom: the options,
what is built, the loss, the draw. Recipes for a kind of data say how a file becomes tokens, and
judge samples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noiseloom.beam import beam_search
from noiseloom.causality import warn_of_known_after
from noiseloom.class_denoiser import ClassDenoiser, CodeDenoiser, Remembering
from noiseloom.conditioning import SelfConditioned
from noiseloom.data import Split, TokenWindows
from noiseloom.data.tokens import evenly
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion
from noiseloom.information import Tabulated
from noiseloom.latents import latent_loss
from noiseloom.metrics import discrete_report
from noiseloom.nets import CausalTransformer, Transformer
from noiseloom.next_token import NextToken, Writing
from noiseloom.noise import SCHEDULES, Schedule
from noiseloom.objective import denoising_loss, stratified_times
from noiseloom.plan import SamplingPlan
from noiseloom.recipes.class_bits import ClassBits
from noiseloom.recipes.class_options import CLASSES, CODES
from noiseloom.recipes.class_pieces import (
    AsTheyAre,
    Rows,
    TokenSplit,
    held_plan,
    no_ends,
)
from noiseloom.recipes.code_schedule import code_schedule, code_table, kept_schedule
from noiseloom.recipes.forcing import token_plan
from noiseloom.recipes.recipe import Drawing, Facts, Findings, Given, Parts
from noiseloom.recipes.samples import few_rows
from noiseloom.rng import Rng
from noiseloom.sampling import Solver, sample
from noiseloom.shapes import Cond
from noiseloom.tokens import ramp_times
from noiseloom.training import Loss
from noiseloom.unmasking import by_confidence

__all__ = ["CLASSES", "CODES", "Classes", "Rows", "TokenSplit"]

_JUDGED = 10_000_000  # tokens of training data, and of held-out data, that samples are held against


@dataclass(frozen=True)
class Classes(ClassBits):
    """A model of rows of tokens; its options are those of `ClassOptions`."""

    paths: ClassVar[tuple[str, ...]] = ("plan",)

    @property
    def noise_schedule(self) -> Schedule:
        """The schedule of classes that `schedule` stands for."""
        return SCHEDULES["linear" if self.schedule == "auto" else self.schedule]

    def make_network(self, inputs: int, classes: int, length: int) -> nn.Module:
        """The transformer: K logits of every token; the autoregressive one sees the past alone."""
        common: dict[str, Any] = {
            "width": self.width,
            "depth": self.depth,
            "heads": self.heads,
            "dropout": self.dropout,
            **self.network_source,
        }
        if self.state == "autoregressive":
            return CausalTransformer(inputs, classes, window=length, **common)
        common |= {"max_length": length, "self_conditioning": self.share > 0, "rotary": True}
        if self.narrow_estimates and self.base in CODES:
            common["estimate_features"] = inputs - classes  # of the code, without K zeros
        return Transformer(inputs, classes, **common, **self.network_codes)

    def build(self, facts: Facts) -> Parts:
        """The denoiser of the state, its noise, and the codec that is a part of it."""
        sizes, length = facts["sizes"], facts["length"]
        classes = max(sizes)
        if self.state == "autoregressive":
            network = self.make_network(classes + 1, classes, length)
            diffusion = CategoricalDiffusion(classes)
            return Parts(NextToken(network, classes, sizes), diffusion, AsTheyAre())
        if self.base in CODES:
            table = code_table(self.base, self.code, self.features, classes)
            network = self.make_network(sum(table.shape), classes, length)
            learnt = self.base == "embedding"
            schedule = self._schedule(facts)
            core: Any = CodeDenoiser(network, schedule, table, learnt=learnt, sizes=sizes)
            trained = self._trained(core, table.shape[1], facts)
            return Parts(trained, GaussianDiffusion(schedule), core)
        noise = self._noise(facts, classes)
        core = ClassDenoiser(self.make_network(noise.width, classes, length), noise, sizes=sizes)
        return Parts(self._trained(core, classes, facts), noise, AsTheyAre())

    def _trained(self, core: nn.Module, features: int, facts: Facts) -> nn.Module:
        """Self-conditioned, and with the encoder of its codes, as the options say."""
        model = SelfConditioned(core) if self.share else core
        if not self.coded:
            return model
        encoder = self.row_encoder(features, facts, self.width, self.heads, alike=self.alike)
        return self.make_latent(model, encoder, facts)

    def _noise(self, facts: Facts, classes: int) -> CategoricalDiffusion:
        schedule, sizes = self.noise_schedule, facts["sizes"]
        if self.base == "masked":
            return CategoricalDiffusion(classes, "absorbing", schedule)
        if self.base == "marginal":
            pi = torch.tensor(facts["frequencies"], dtype=torch.float64)
            return CategoricalDiffusion(
                classes, "marginal", schedule, pi[0] if len(pi) == 1 else pi
            )
        if min(sizes) == classes:
            return CategoricalDiffusion(classes, "uniform", schedule)
        return CategoricalDiffusion.of_sizes(tuple(sizes), schedule)

    def derived(self, facts: Facts) -> Facts:
        """The schedule of codes, where it is that of their information."""
        if self.base not in CODES or self.schedule != "auto":
            return {}
        found = self._code_schedule(facts["frequencies"], quick=True)
        return {"schedule": {"times": list(found.times), "log_snrs": list(found.log_snrs)}}

    def _schedule(self, facts: Facts) -> Schedule:
        """That of codes; runs that kept none found it when they were built, and still do."""
        if self.schedule != "auto":
            return SCHEDULES[self.schedule]
        kept = kept_schedule(facts.get("derived", {}))
        return kept or self._code_schedule(facts["frequencies"], quick=False)

    def _code_schedule(self, frequencies: Sequence[Sequence[float]], *, quick: bool) -> Tabulated:
        return code_schedule(self.base, self.code, self.features, frequencies, quick=quick)

    def clean(self, parts: Parts, batch: dict[str, Tensor]) -> Tensor:
        """The states of a training batch."""
        return parts.codec.encode(batch["tokens"])

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """Nats a token: the cross-entropy, or of classes, by `objective`, the bound itself.

        Tokens that a row shows clean do not count.
        """
        noise, measure = parts.diffusion, None
        if self.objective == "cross-entropy" and isinstance(noise, CategoricalDiffusion):
            measure = noise.cross_entropy

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
            tokens = batch["tokens"]
            model, cond = self.reading(model, batch, rng)
            if isinstance(model, NextToken):
                keys = rng.fold("dropout").key
                assert isinstance(keys, Tensor)
                return -model.log_prob(tokens, keys, cond) / tokens.shape[1]
            t, counted = self.training_times(tokens, rng.fold("time"), rows)
            loss = latent_loss if self.coded else denoising_loss
            return loss(
                model,
                noise,
                self.clean(parts, batch),
                t,
                cond,
                rng,
                rows=rows,
                self_conditioning=self.share,
                counted=counted,
                cross_entropy=True,
                measure=measure,
            )

        return loss

    def training_times(self, tokens: Tensor, rng: Rng, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Times (B, T) of the tokens of a batch, and which count: not those that are shown."""
        if self.times == "independent":
            t = rng.uniform(tokens.shape, device=tokens.device)
        else:
            # From 1 down: what is stratified over a batch is as well over those with a first pass.
            one = stratified_times(rows, self.batch_size, rng, tokens.device)
            t = one[:, None].expand(tokens.shape)
        rises = rng.fold("rises").uniform(rows.shape, device=tokens.device) < self.ramps
        t = torch.where(rises[:, None], ramp_times(tokens.shape, rng.fold("ramp"), t.device), t)
        shows = rng.fold("infill").uniform(rows.shape, device=tokens.device) < self.infill
        rate = rng.fold("rate").uniform(rows.shape, device=tokens.device)
        picked = rng.fold("shown").uniform(tokens.shape, device=tokens.device) < rate[:, None]
        shown = picked & shows[:, None]
        t = t.masked_fill(shown, 0.0)
        return t, t > 0

    def check_plan(self) -> None:
        """Plans of tokens, by the names that `forcing` has, those of all at once, or a file's.

        A file is read when it is needed: a run must open where its plan is not.
        """
        if self.plan not in ("uniform", "karras") and not self.by_file:
            token_plan(self.plan, self.sampling_steps, 2)

    def plan_of(self, facts: Facts, schedule: Schedule) -> SamplingPlan:
        """The plan for rows of this length."""
        if self.plan in ("uniform", "karras"):
            return self.make_plan(schedule)
        plan = token_plan(self.plan, self.sampling_steps, facts["length"])
        return self.complete(plan, schedule)

    def make_solver(self) -> Solver:
        """The solver these options name."""
        if self.unmask == "confidence":
            return by_confidence(self.order_noise)
        return super().make_solver()

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """Rows, as many as `rng` has keys.

        Given {"tokens" (B, T), "known" bool (B, T)}, those that are known stay as they are, and the
        others are drawn beside them; the autoregressive state knows of those before alone, and
        warns if there are others. Given "least", int64 (B,), sequences have at least so many
        symbols. Given "codes", int64 (B, m), the state latent is told these.
        """
        assert isinstance(rng.root, Tensor)
        device, length = next(parts.denoiser.parameters()).device, facts["length"]
        known = absent = None
        if "known" in given:
            known = given["tokens"].to(device), given["known"].to(device)
            absent = no_ends(facts, *known, given.get("least"))
        trained, told = self.reading(parts.denoiser.eval(), given)
        if isinstance(trained, NextToken):
            if known is not None and bool((known[1][:, 1:] & ~known[1][:, :-1]).any()):
                warn_of_known_after(stacklevel=2, remedy="--state masked")
            return iter([self.write(trained, facts, told, rng, known, absent)])
        like = parts.codec.encode(torch.zeros(1, length, dtype=torch.int64, device=device))
        like = like.detach().expand(len(rng.root), *like.shape[1:])
        x = parts.diffusion.prior(like, rng.fold("prior"))
        plan = self.plan_of(facts, parts.diffusion.schedule)
        if known is not None:
            tokens, held = known
            clean = parts.codec.encode(tokens).detach()
            x = torch.where(held.reshape(*held.shape, *(1,) * (x.ndim - 2)), clean, x)
            plan = held_plan(plan, held.cpu())
        cond = {**told, **self.codes_for(parts, given, rng)}
        if absent is not None:
            cond = {**cond, "absent": absent}
        denoiser = self.make_denoiser(trained, cond)
        if device.type == "cpu" and isinstance(denoiser, ClassDenoiser) and denoiser.timeless:
            denoiser = Remembering(denoiser)  # elsewhere it would wait for the device
        denoiser, solver = parts.steered(denoiser, self.make_solver())
        return sample(denoiser, parts.diffusion, plan, x, cond=cond, rng=rng, solver=solver)

    def write(
        self,
        model: NextToken,
        facts: Facts,
        told: Cond,
        rng: Rng,
        known: tuple[Tensor, Tensor] | None,
        absent: Tensor | None,
    ) -> Rows:
        """Rows of the autoregressive state, drawn or searched for, as the options say."""
        assert isinstance(rng.root, Tensor)
        writing = Writing(model, told, scale=self.guidance, drop=(self.guided,))
        length, end = facts["length"], self.end(facts)
        if self.beams > 1:
            if known is not None:
                raise ValueError("a search fills no gaps: leave --beams at 1, or --known out")
            found, _ = beam_search(writing, len(rng.root), length, self.beams, end=end)
            return Rows(found, told)
        drawn = model.sample(
            length,
            rng,
            temperature=self.temperature,
            top_p=self.top_p,
            known=known,
            absent=absent,
            writing=writing,
            end=end,
        )
        return Rows(drawn, told)

    def report(
        self,
        draw: Callable[..., Tensor],
        data: Split[Any],
        rng: Rng,
        **options: Any,  # noqa: ANN401
    ) -> dict[str, float]:
        """What `discrete_report` says of samples, beside as much of the data as a judge reads.

        Windows of a text overlap: counted in them, each n-gram would be there up to T times, and a
        judge surer than the text makes it.
        """
        rows = draw({"row": torch.arange(self.samples)})
        train, most = data.train, max(_JUDGED // len(data.train.sizes), 1)
        windows = isinstance(train, TokenWindows)
        seen = train.running(_JUDGED) if windows else train[evenly(len(train), most)]["tokens"]
        held = data.held_out[evenly(len(data.held_out), most)]["tokens"]
        found = discrete_report(
            self.kind, rows, seen, held, rng.fold("report"), sizes=train.sizes, **options
        )
        return Findings(found, few_rows(getattr(data, "vocabulary", None), rows))

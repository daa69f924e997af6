"""Context-guided diffusion of molecules as graphs: low labels to learn from, judged by the truth.

L. Klarner, T. Rudner, G. Morris, C. Deane, Y. W. Teh, 2024, "Context-Guided Diffusion for
Out-of-Distribution Molecular and Protein Design", arXiv 2407.11942, Section 5.1, whose backbone is
GDSS (J. Jo, S. Lee, S. J. Hwang, 2022, arXiv 2202.02514): the score of atoms and that of bond
orders, of one noisy graph. Trained on the half of a file of SMILES whose label is the lower,

    y = QED (10 - SA) / 9

which is theirs without its factor of docking; that can be computed of a few hits afterwards
(examples/dock.py). RDKit knows y of whatever is drawn.

    noise    variance preserving, on one-hot atoms and on orders 0 to 3 of bonds, at one time
    network  a graph transformer; what it says of x_0 is a law of the kinds of each atom and of the
             orders of each bond, whose mean gives the score, exactly so for any such law
    draw     as many atoms as a training molecule has; DDPM, perhaps with Langevin steps before each
             step (predictor-corrector); valences are mended and the largest piece is kept
    guide    mean and variance of a property at any level of noise, by a network of the same kind

GDSS has two networks that say scores, VE noise on bonds, forgets charges, and corrects at every
step; here charged atoms are kinds of their own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.data import Split
from noiseloom.data.chemistry import check_chemistry
from noiseloom.data.molecules import Molecules
from noiseloom.denoiser import PreconditionedParts, Projected
from noiseloom.diffusion import GaussianDiffusion, ProductDiffusion, Symmetric
from noiseloom.langevin import corrected
from noiseloom.metrics.molecules import FAR, fingerprint_mmd, molecule_report, nearest_similarity
from noiseloom.metrics.rows import mean_and_error
from noiseloom.nets import GraphTransformer
from noiseloom.noise import SCHEDULES
from noiseloom.objective import denoising_loss, logit_normal, uniform_times
from noiseloom.preconditioning import Preconditioning
from noiseloom.recipes.guided_molecules import GuidedMolecules
from noiseloom.recipes.molecule_states import ORDERS, Packed, pack
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts, Recipe
from noiseloom.rng import Rng
from noiseloom.sampling import Solver, ancestral, sample
from noiseloom.training import Loss

__all__ = ["ContextMolecules"]

_COMPARED = 1000
"""Molecules of a set that kernels are computed of."""
_TIMES = -0.8, 0.8
"""Mean and deviation of the logit of training times."""


@dataclass(frozen=True)
class ContextMolecules(GuidedMolecules, Recipe):
    """Options of `Recipe` and `GuidedMolecules`, and of the network.

    Attributes:
        width: features of an atom in the network.
        edge_width: of a pair of atoms.
        depth: its blocks.
        heads: its attention heads.
        self_conditioning: share of updates that see an estimate.
        edge_weight: of the bonds' cross-entropy, a mean over pairs, beside that of the atoms.
        times: of training: logit-normal, ln(t / (1 - t)) ~ N(-0.8, 0.8^2), where bonds are decided
            (half of them from 0.21 to 0.44), or uniform.
        corrector: Langevin steps before each step of drawing, besides those of guides.
    """

    name: ClassVar[str] = "context-molecules"
    summary: ClassVar[str] = "molecules (SMILES) as graphs, led to what RDKit or your labels say"
    shows: ClassVar[Any] = "molecules"

    steps: int = 20_000
    batch_size: int = 128
    learning_rate: float = 3e-4
    beta2: float = 0.99
    decay: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = 0.999
    threads: int = 1
    conditional: bool = False
    sampling_steps: int = 200
    sampler: Literal["ddim", "ddpm", "ddpm-small", "heun", "heun-edm", "dpm++2m"] = "ddpm-small"
    samples: int = 512

    width: int = 128
    edge_width: int = 32
    depth: int = 5
    heads: int = 8
    self_conditioning: float = 0.5
    edge_weight: float = 5.0
    times: Literal["logit-normal", "uniform"] = "logit-normal"
    corrector: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_molecules()
        if self.conditional:
            raise ValueError("context-molecules is told no classes: leave conditional off")
        sizes = (self.width, self.edge_width, self.depth, self.heads)
        if min(sizes) < 1 or self.width % 2 or self.edge_width % 2 or self.width % self.heads:
            raise ValueError(
                "width and edge_width must be even, depth and heads at least 1, and heads a "
                f"divisor of width, got {', '.join(map(str, sizes))}"
            )
        if not 0 <= self.self_conditioning <= 1:
            raise ValueError(f"self_conditioning must be in [0, 1], got {self.self_conditioning}")
        if not self.edge_weight > 0:
            raise ValueError(f"edge_weight must be above 0, got {self.edge_weight}")
        if self.sampler not in ("ddim", "ddpm", "ddpm-small"):
            raise ValueError(
                f"sampler {self.sampler} is of states that are one tensor: use ddim, ddpm or "
                "ddpm-small"
            )
        for name in ("churn", "restarts", "self_guidance"):
            if getattr(self, name):
                raise ValueError(f"{name} is of states that are one tensor: leave it out")
        self.corrects(ancestral())  # which refuses numbers that are none

    @classmethod
    def changeable(cls) -> tuple[str, ...]:
        """The corrector and what becomes of graphs may change with every draw, too."""
        return (*super().changeable(), "corrector", "corrector_snr", "corrector_noise", "correct")

    def check(self) -> None:
        """RDKit, with its contribution SA_Score."""
        super().check()
        check_chemistry()

    def load(self, data: str | None) -> Split[Molecules]:
        """The molecules of a file: the half of the lower labels, and the other held out."""
        if data is None:
            raise ValueError("context-molecules needs --data FILE of SMILES: .smi, .txt or .csv")
        whole, notes = self.read(data)
        return Split(self.part(whole, "train"), self.part(whole, "high"), notes)

    def load_like(self, data: str | None, facts: Facts) -> Split[Molecules]:
        """The molecules of a file that a run knows, as it knows them."""
        found = self.load(data)
        train, held = (self.fit(p, facts, str(data))[0] for p in (found.train, found.held_out))
        return Split(train, held, found.notes)

    def introduce(self, data: Split[Molecules]) -> str:
        """How many there are, and their labels."""
        told = [
            f"{len(own):,} {what}, QED x SA {float(own.labels.min()):.3f} to "
            f"{float(own.labels.max()):.3f}"
            for own, what in ((data.train, "to train on"), (data.held_out, "held out"))
        ]
        return f"molecules of {', '.join(data.train.kinds)}: {'; '.join(told)}"

    def facts(self, data: Split[Molecules]) -> Facts:
        """Kinds of atoms, how many there are at most, how often how many, the largest label."""
        train = data.train
        return {
            "kinds": list(train.kinds),
            "atoms": train.graphs.shape[1],
            "counts": train.sizes.bincount(minlength=train.graphs.shape[1] + 1).tolist(),
            "ceiling": float(train.labels.max()),
        }

    def fits(self, facts: Facts, own: Facts) -> None:
        """Kinds and sizes must be the same."""
        for name, what in (("kinds", "kinds of atoms"), ("atoms", "largest number of atoms")):
            if facts[name] != own[name]:
                raise ValueError(f"the {what} is {facts[name]} in the data, {own[name]} in the run")

    def drawn_as(self, facts: Facts) -> str | None:
        """Molecules."""
        return "molecules"

    def build(self, facts: Facts) -> Parts:
        """A graph transformer that says laws of atoms and bonds."""
        schedule, codec = SCHEDULES[self.schedule], self.codec(facts)
        told = self.self_conditioning > 0
        network = GraphTransformer(
            codec.kinds,
            1,
            codec.kinds,
            ORDERS,
            width=self.width,
            edge_width=self.edge_width,
            depth=self.depth,
            heads=self.heads,
            self_conditioning=told,
            walks=self.walks,
        )
        how = {
            "nodes": Preconditioning(schedule, "x0", codec.node_head),
            "edges": Preconditioning(schedule, "x0", codec.edge_head),
        }
        diffusion = ProductDiffusion(
            {
                "nodes": GaussianDiffusion(schedule),
                "edges": GaussianDiffusion(schedule, Symmetric()),
            }
        )
        denoiser: nn.Module = Projected(PreconditionedParts(network, how), diffusion)
        denoiser = SelfConditioned(denoiser) if told else denoiser
        held: Any = codec  # of states that have parts
        return Parts(denoiser, diffusion, held)

    def clean(self, parts: Parts, batch: dict[str, Tensor]) -> Any:  # noqa: ANN401
        """Atoms and bonds, by name."""
        return parts.codec.encode(batch["graph"])

    def told(self, batch: dict[str, Tensor], facts: Facts, rng: Rng) -> dict[str, Tensor]:
        """Which nodes are real."""
        return {"mask": batch["graph"][:, :, 0] >= 0}

    def loss(self, parts: Parts, facts: Facts) -> Loss:
        """The cross-entropy of atoms, and `edge_weight` times that of bonds."""

        def loss(model: nn.Module, batch: dict[str, Tensor], rng: Rng, rows: Tensor) -> Tensor:
            clean, cond = self.clean(parts, batch), self.told(batch, facts, rng)
            times = uniform_times((len(cond["mask"]),), rng.fold("time"), cond["mask"].device)
            if self.times == "logit-normal":
                times = logit_normal(times, *_TIMES)
            found = denoising_loss(
                model,
                parts.diffusion.on(cond["mask"]),
                clean,
                times,
                cond,
                rng,
                rows=rows,
                self_conditioning=self.self_conditioning,
                cross_entropy=True,
            )
            total: Tensor = found["nodes"] + self.edge_weight * found["edges"]
            return total

        return loss

    def corrects(self, solver: Solver) -> Solver:
        """A solver with the Langevin steps of these options before its own."""
        return corrected(
            solver, snr=self.corrector_snr, noise=self.corrector_noise, steps=self.corrector
        )

    def make_solver(self) -> Solver:
        """The solver of the options, and the corrector."""
        solver = super().make_solver()
        return self.corrects(solver) if self.corrector else solver

    def draw(self, parts: Parts, facts: Facts, given: Given, rng: Rng) -> Iterator[Drawing]:
        """From noise along the plan, each with as many atoms as some molecule trained on.

        Given {"atoms": int64 (B,)}, with so many.
        """
        device = next(parts.denoiser.parameters()).device
        mask = self._mask(facts, given, rng.fold("atoms"), device)
        count, atoms = mask.shape
        diffusion = parts.diffusion.on(mask)
        like = {
            "nodes": torch.empty(count, atoms, len(facts["kinds"]), device=device),
            "edges": torch.empty(count, atoms, atoms, 1, device=device),
        }
        x, cond = diffusion.prior(like, rng.fold("prior")), {"mask": mask}
        denoiser = self.make_denoiser(parts.denoiser, cond).eval()
        denoiser, solver = parts.steered(denoiser, self.make_solver())
        plan = self.make_plan(diffusion.schedule)
        for step in sample(denoiser, diffusion, plan, x, cond=cond, rng=rng, solver=solver):
            yield Packed(pack(step.result))

    def _mask(self, facts: Facts, given: Given, rng: Rng, device: torch.device) -> Tensor:
        atoms = facts["atoms"]
        if "atoms" in given:
            counts = given["atoms"].to(device)
            if not 1 <= int(counts.min()) <= int(counts.max()) <= atoms:
                raise ValueError(
                    f"atoms must be 1 to {atoms}, got {int(counts.min())} to {int(counts.max())}"
                )
        else:
            assert isinstance(rng.root, Tensor)
            share = torch.tensor(facts["counts"], dtype=torch.float64, device=device).cumsum(0)
            draw = rng.uniform((len(rng.root),), torch.float64, device=device)
            counts = torch.searchsorted(share, draw * share[-1], right=True).clamp(max=atoms)
        return torch.arange(atoms, device=device) < counts[:, None]

    def decode(self, parts: Parts, result: Any, given: Given) -> Tensor:  # noqa: ANN401
        """Graphs as they were drawn, int8, (B, A, 1 + A), uncorrected."""
        codec: Any = parts.codec
        state = result if isinstance(result, dict) else codec.unpack(result)
        found: Tensor = codec.decode(state)
        return found

    def evaluate(
        self, draw: Callable[..., Tensor], data: Split[Molecules], rng: Rng
    ) -> dict[str, float]:
        """Validity, uniqueness, novelty, likeness to training, and true labels.

        Besides what `molecule_report` says: novel and far, shares of different molecules that
        training has not, and that are less than 0.4 like all of it; fingerprint_mmd from the
        training half. Anchors are the two halves.
        """
        train, held, drawn = data.train, data.held_out, draw({"row": torch.arange(self.samples)})
        ceiling = float(train.labels.max())
        report, keys = molecule_report(drawn, train.kinds, correct=self.correct, ceiling=ceiling)
        some = [
            own.select(rng.fold(name).permutation(len(own))[:_COMPARED]).keys
            for own, name in ((train, "train"), (held, "held out"))
        ]
        report |= {
            "label_train": float(train.labels.mean()),
            "label_held_out": float(held.labels.mean()),
            "fingerprint_mmd_held_out": fingerprint_mmd(some[1], some[0]),
            "n": float(len(drawn)),
        }
        made, known = [key for key in keys if key], train.keys
        different = list(dict.fromkeys(made))
        if different:
            new = set(different) - set(known)
            report["novel"] = len(new) / len(different)
            likeness = nearest_similarity(different, known)
            report["far"], error = mean_and_error(likeness < FAR)
            if error == error:
                report["far_se"] = error
        if len(made) > 1:
            report["fingerprint_mmd"] = fingerprint_mmd(made[:_COMPARED], some[0])
        return report

    @property
    def usage(self) -> str:
        """Draw, and read what was drawn."""
        return (
            'drawn = run.samples({"row": torch.arange(16)}, seed=1)  # kinds of atoms, and bonds\n'
            "print(run.recipe.keys(run.parts, run.facts, drawn))  # SMILES"
        )

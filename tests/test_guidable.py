"""A recipe of one's own that can be guided: states of parts, with padding, and exact denoisers."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from noiseloom import (
    CategoricalDiffusion,
    GaussianDiffusion,
    Parts,
    Prediction,
    ProductDiffusion,
    Recipe,
    Rng,
    SamplingPlan,
    final,
    sample,
)
from noiseloom.encodings import Scaled
from noiseloom.fit_guide import fit_guide
from noiseloom.guide_folder import load_guide, read_guide, structures
from noiseloom.guide_material import Sources, read_material
from noiseloom.guide_stages import make_trained
from noiseloom.ranking import ranked
from noiseloom.recipes import Guidable, GuideTraining, Guiding, Labelled
from noiseloom.run import Run
from noiseloom.steering import steered

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* structures of labels have several labels"  # whose places are told to a tenth
)

N, K = 4, 3
SPACE = ProductDiffusion({"places": GaussianDiffusion(), "kinds": CategoricalDiffusion(K)})


class Atoms:
    """Up to N of them: a place on a line and a kind each; what is no atom is 0 and not counted."""

    def __init__(self, count, seed):
        rng = Rng(seed)
        self.mask = torch.arange(N) < 2 + rng.fold("n").integers(N - 1, (count, 1))
        self.places = rng.fold("places").normal((count, N)) * self.mask
        self.kinds = rng.fold("kinds").integers(K, (count, N)) * self.mask

    def __len__(self):
        return len(self.mask)

    def __getitem__(self, rows):
        return {name: getattr(self, name)[rows] for name in ("places", "kinds", "mask")}


class Exact(nn.Module):
    """Of independent standard normal places and even kinds."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(()))

    def forward(self, x, t, cond=None, carry=None, rng=None):
        alpha, sigma = SPACE.parts["places"].schedule(t["places"].reshape(-1, 1, 1))
        mean = alpha * x["places"] / (alpha**2 + sigma**2)
        logits = torch.zeros(*x["kinds"].shape, K)
        seen = torch.nn.functional.one_hot(x["kinds"], K + 1)[..., :K].bool()
        hidden = x["kinds"][..., None] == K
        logits = logits.masked_fill(~seen & ~hidden, -torch.inf)
        kinds = Prediction(logits.softmax(-1), logits)
        return {"places": Prediction(mean), "kinds": kinds}, carry or {}


class Reading(nn.Module):
    """A perceptron of each atom, summed over those that are there, as it must be told."""

    def __init__(self, width):
        super().__init__()
        self.atom = nn.Sequential(nn.Linear(1 + K + 1, width), nn.SiLU(), nn.Linear(width, width))
        self.out = nn.Linear(width + 1, width)

    def forward(self, x, log_snr, cond=None):
        share = cond["mask"].to(x["places"])[..., None]
        h = (self.atom(torch.cat((x["places"], x["kinds"]), -1)) * share).sum(1)
        return torch.tanh(self.out(torch.cat((h, log_snr["places"][:, None] / 10), -1)))


@dataclass(frozen=True)
class Molecules(Guidable, Recipe):
    """Atoms on a line."""

    name: ClassVar[str] = "molecules-on-a-line"
    summary: ClassVar[str] = "atoms on a line"
    distance: ClassVar[str] = "letters"

    def build(self, facts):
        return Parts(Exact(), SPACE, Scaled(2))

    def clean(self, parts, batch):
        return {"places": batch["places"][..., None], "kinds": batch["kinds"]}

    def told(self, batch, facts, rng):
        return {"mask": batch["mask"]}

    def labelled(self, path, facts, columns):
        rows = Atoms(600, 1)
        every = rows[torch.arange(600)]
        labels = (every["places"] * (every["kinds"] == 1)).sum(1, keepdim=True)
        return Labelled(rows, labels, ("push",))

    def unlabelled(self, path, facts):
        return Atoms(100, 2)

    def guide_network(self, facts, width, depth):
        return Reading(width)

    def draw(self, parts, facts, given, rng):
        mask, count = given["mask"], len(given["mask"])
        like = {"places": torch.zeros(count, N, 1), "kinds": torch.zeros(count, N).long()}
        x = SPACE.prior(like, rng.fold("prior"))
        denoiser, solver = parts.steered(parts.denoiser, self.make_solver())
        plan = SamplingPlan.uniform(self.sampling_steps)
        found = sample(denoiser, SPACE, plan, x, cond={"mask": mask}, rng=rng, solver=solver)
        result = final(found).result
        packed = torch.stack((result["places"][..., 0], result["kinds"].float(), mask.float()), -1)
        return iter([Packed(packed)])

    def decode(self, parts, result, given):
        if isinstance(result, dict):  # of states that were made of data: all are atoms, or 0
            places = result["places"][..., 0]
            return torch.stack((places, result["kinds"].float(), (places != 0).float()), -1)
        return result

    def keys(self, parts, facts, data):
        return [
            " ".join(f"{'abc'[int(k)]}{p:.1f}" for p, k, m in row if m) for row in data.tolist()
        ]

    def nearest(self, made, known):
        letters = [[sum(a != b for a, b in zip(m, k, strict=False)) for k in known] for m in made]
        return torch.tensor(letters).amin(1)

    def seen(self, parts, facts, data):
        state = {"places": data[..., :1], "kinds": data[..., 1].long()}
        return state, {"mask": data[..., 2] > 0}


@dataclass(frozen=True)
class Packed:
    """All parts of the samples beside each other."""

    result: torch.Tensor


OPTIONS = GuideTraining(
    method="context", steps=250, width=32, context_size=16, learning_rate=4e-3, weight=0.1
)
GIVEN = {"mask": torch.ones(200, N, dtype=torch.bool)}


@pytest.fixture(scope="module")
def led(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    recipe = Molecules(sampling_steps=25)
    run = Run(folder, recipe, {}, recipe.build({}))
    sources = Sources("labels", "context")
    material = read_material(run, sources, 0.2)
    fit_guide(run, OPTIONS, folder / "guide", material, sources)
    return run, folder / "guide"


def push(drawn):
    return (drawn[..., 0] * (drawn[..., 1] == 1)).sum(1)


def test_parts_with_padding_are_learnt_judged_and_led(led):
    run, folder = led
    told = read_guide(folder).summary
    assert told["spearman"] > 0.4
    assert told["mean_context"] == pytest.approx(0, abs=0.5)
    free = push(run.samples(GIVEN, seed=1))
    more = push(steered(run, folder, scale=3.0).samples(GIVEN, seed=1))
    less = push(steered(run, folder, target="minimise", scale=3.0).samples(GIVEN, seed=1))
    error = (free.var() / len(free) + more.var() / len(more)) ** 0.5
    assert more.mean() - free.mean() > 5 * error
    assert free.mean() - less.mean() > 5 * error
    assert torch.equal(push(steered(run, folder, scale=0.0).samples(GIVEN, seed=1)), free)


def test_they_are_ranked_by_what_the_recipe_says_of_them(led, capsys):
    run, folder = led
    guide, record = load_guide(folder, run)
    data = steered(run, folder, scale=2.0).samples(GIVEN, seed=4)
    table = ranked(run, guide, [record], Guiding(), data, [folder])
    assert "the data of the run are not where they were" in capsys.readouterr().err
    said_heads = ["prediction_push", "deviation_push"]
    assert table.head == ["structure", *said_heads, "distance", "new", "times"]
    said = table.column("prediction_push")
    assert said == sorted(said, reverse=True)
    assert table.column("structure") == run.recipe.keys(run.parts, {}, table.data)
    known = structures(folder)["learnt"]
    right = run.recipe.nearest(table.column("structure"), known).tolist()
    assert table.column("distance") == right
    # What is no structure is left out, and counted.
    data[3, :, 2] = 0
    again = ranked(run, guide, [record], Guiding(), data, [folder])
    assert again.counts["invalid"] == 1
    assert len(again.rows) == again.counts["different"]


def test_a_guide_of_other_facts_is_refused(led):
    run, folder = led
    other = replace(run, facts={"atoms": 5})
    with pytest.raises(ValueError, match="for runs with another atoms than"):
        load_guide(folder, other)
    material = read_material(run, Sources("labels", "context"), 0.2)
    with pytest.raises(ValueError, match="has no denoiser whose hidden states"):
        make_trained(run, replace(OPTIONS, reads="denoiser"), material)

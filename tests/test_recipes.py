"""What a recipe inherits: a loss, a draw, and guidance that is refused where it means nothing."""

from dataclasses import dataclass, fields
from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

import noiseloom as nl
from noiseloom.data import Images
from noiseloom.recipes import RECIPES, BitsDigits
from noiseloom.training import train

FACTS = {"shape": [1, 4, 6], "levels": 4, "classes": ["a", "b"]}


class Network(nn.Module):
    """Keeps what it was told; the class is what it draws."""

    def __init__(self):
        super().__init__()
        self.class_ = nn.Embedding(3, 2)  # the last is no class
        self.heard = []

    def forward(self, x, log_snr, cond):
        label = cond.get("label")
        self.heard.append((x, label))
        label = torch.full((len(x),), 2) if label is None else label
        return self.class_(label)[:, :, None, None] + 0 * x


@dataclass(frozen=True)
class Own(nl.Recipe):
    """The least that a recipe can say."""

    name, summary = "own", "nothing but a network"
    again: bool = False

    def build(self, facts):
        schedule = nl.Cosine()
        denoiser = nl.Preconditioned(Network(), schedule)
        if self.again:
            denoiser = nl.SelfConditioned(denoiser)
        return nl.Parts(denoiser, nl.GaussianDiffusion(schedule), nl.Bits(4, axis=1))


def drawn(recipe, parts, labels, facts=FACTS):
    rng = nl.Rng(1).samples(3)
    *_, last = recipe.draw(parts, facts, {} if labels is None else {"label": labels}, rng)
    return last


def test_a_draw_has_the_states_shape_and_tells_the_class():
    recipe = Own(sampling_steps=4)
    parts, labels = recipe.build(FACTS), torch.tensor([0, 1, 1])
    last = drawn(recipe, parts, labels)
    assert last.result.shape == (3, 2, 4, 6)
    assert last.index == 3
    heard = parts.denoiser.network.heard
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in heard)
    assert all(torch.equal(label, labels) for _, label in heard)


@pytest.mark.parametrize(
    ("recipe", "facts", "labels"),
    [
        (Own(sampling_steps=1, conditional=False), FACTS, torch.tensor([0, 1, 1])),
        (Own(sampling_steps=1), {**FACTS, "classes": ["all"]}, torch.zeros(3, dtype=torch.int64)),
        (Own(sampling_steps=1), FACTS, None),
    ],
)
def test_without_classes_nothing_is_told(recipe, facts, labels):
    parts = recipe.build(facts)
    drawn(recipe, parts, labels, facts)
    assert [label for _, label in parts.denoiser.network.heard] == [None]


def test_the_loss_learns_classes_and_what_guidance_needs(tmp_path):
    recipe = Own(steps=300, batch_size=32, warmup=1, learning_rate=0.05, label_drop=0.3,
                 sampling_steps=1, ema_decay=0.9)  # fmt: skip
    labels = torch.arange(40) % 2
    pixels = (3 * labels).to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 6).contiguous()
    parts = recipe.build(FACTS)
    loss = recipe.loss(parts, FACTS)
    images = Images(pixels, labels, ("a", "b"), levels=4)
    for _ in train(parts.denoiser, loss, images, recipe, tmp_path):
        pass
    means = parts.denoiser.network.class_.weight.detach().mean(1)
    assert means[0] < -0.9 < -0.5 < means[2] < 0.5 < 0.9 < means[1]
    guided = Own(sampling_steps=1, guidance=3, label_drop=0.3)
    result = drawn(guided, parts, torch.tensor([0, 1, 1])).result.mean((1, 2, 3))
    expected = means[2] + 3 * (means[[0, 1, 1]] - means[2])
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_guidance_without_a_null_class_is_refused():
    with pytest.raises(ValueError, match=r"guidance 2 .* label_drop 0\.1, or leave guidance at 1"):
        Own(guidance=2)
    with pytest.raises(ValueError, match="label_drop must be in"):
        Own(label_drop=1.5)
    recipe = Own(guidance=2, label_drop=0.1)
    with pytest.raises(ValueError, match="labels to guide to"):
        drawn(recipe, recipe.build(FACTS), None)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_every_recipe_offers_every_sampler(recipe):
    offered = get_type_hints(recipe)["sampler"]
    assert set(get_args(offered)) == set(get_args(get_type_hints(nl.Recipe)["sampler"]))


@pytest.mark.parametrize("option", ["momentum", "self_guidance"])
def test_what_needs_an_estimate_is_refused_without_one(option):
    recipe = Own(sampling_steps=3, **{option: 0.5})
    with pytest.raises(ValueError, match=f"{option} needs a model that is self-conditioned"):
        drawn(recipe, recipe.build(FACTS), None)
    recipe = Own(sampling_steps=3, again=True, **{option: 0.5})
    drawn(recipe, recipe.build(FACTS), None)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_momentum_is_the_models_own_unless_it_is_given(guidance):
    trained = nl.SelfConditioned(nn.Identity(), momentum=0.9, limit=2.0)
    cond = {"label": torch.zeros(1, dtype=torch.int64)}
    for given, momentum in ((0.0, 0.9), (0.5, 0.5)):
        recipe = Own(momentum=given, guidance=guidance, label_drop=0.1)
        made = recipe.make_denoiser(trained, cond)
        assert (made.momentum, made.limit) == (momentum, 2.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 0}, "width must be above 0, got 0"),
        ({"blocks": -1}, "blocks must be above 0"),
        ({"multipliers": ()}, "multipliers must be one or more, above 0"),
        ({"multipliers": (1, 0)}, "multipliers must be one or more, above 0"),
        ({"patch": 0}, "patch must be above 0"),
        ({"scale": float("nan")}, "scale must be above 0, got nan"),
    ],
)
def test_sizes_are_above_zero(options, told):
    with pytest.raises(ValueError, match=told):
        BitsDigits(**options)


def test_pictures_that_cannot_be_halved_are_refused_before_a_run():
    recipe = BitsDigits(multipliers=(1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="8 x 8 pixels cannot be halved 4 times"):
        recipe.build(recipe.facts(recipe.load(None)))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_defaults_are_those_of_the_nearest_class(name):
    # A dataclass has all fields of its bases: one that names none of them may bring back a default
    # that another base had replaced.
    kind = RECIPES[name]
    for field in fields(kind):
        # What only helps recipes, and is no dataclass, names types of options and no defaults.
        options = [c for c in kind.__mro__ if "__dataclass_fields__" in vars(c)]
        owner = next(c for c in options if field.name in vars(c).get("__annotations__", {}))
        assert field.default == vars(owner)[field.name], f"{field.name} of {owner.__name__}"

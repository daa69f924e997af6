"""Starting from another run: at step 0 the larger model says what the old one says."""

import copy
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import noiseloom
from noiseloom import nets
from noiseloom.begin import start
from noiseloom.cli import main
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Scaled
from noiseloom.nets import UNet
from noiseloom.nets.layers import Embedding
from noiseloom.recipes import (
    BitsDigits,
    BitsImages,
    DiscoDigits,
    DiscoMixture,
    ForcingDigits,
    ForcingSeries,
    Parts,
    Recipe,
)
from noiseloom.rng import Rng
from noiseloom.run_folder import class_places, describe, write_text
from noiseloom.training import init_from

UNET = {"width": 8, "head_width": 8, "multipliers": (1, 2)}
DIT = {"network": "dit", "width": 16, "head_width": 8, "blocks": 1, "self_conditioning": 0.0}
FORCING = {"width": 16, "depth": 1, "heads": 2}
DIGITS = {"shape": [1, 8, 8], "levels": 16, "classes": list("acde")}
MORE = list("abcdef")  # one before, one after the old ones
KEPT = [0, 2, 3, 4]  # the places of the old among these


@pytest.fixture
def old(tmp_path):
    """Makes a run with weights that are all far from their start: (recipe, facts) to denoiser."""

    def make(recipe, facts=DIGITS):
        denoiser = shaken(recipe.build(facts).denoiser)
        folder = tmp_path / "old"
        folder.mkdir()
        save_file(denoiser.state_dict(), folder / "ema.safetensors")
        write_text(folder / "recipe.yaml", describe(recipe, facts, data=None, command="train"))
        return denoiser

    return make


def shaken(module):
    rng = Rng(1)
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += 0.3 * rng.fold("parameter", i).normal(parameter.shape)
    return module.eval()


def begun(tmp_path, recipe, facts=DIGITS, source="old"):
    if (tmp_path / source).exists():
        source = str(tmp_path / source)
    folder = tmp_path / "new"
    parts = start(recipe, facts, folder, data=None, command="train", init_from=source)
    return parts.denoiser.eval()


def means(denoiser, shape, label=None, carry=None):
    """The estimates of two states, at two times."""
    x, cond = Rng(2).normal((2, *shape)), {} if label is None else {"label": torch.tensor(label)}
    with torch.no_grad():
        return denoiser(x, torch.tensor([0.3, 0.8]), cond, carry)[0].mean


def estimate(shape):
    return {"self_conditioning": {"estimate": Rng(3).normal((2, *shape))}}


SMALL = [
    (BitsDigits, UNET, (4, 8, 8)),
    (BitsDigits, DIT, (4, 8, 8)),
    *[
        (ForcingDigits, {**FORCING, "network": kind}, (8, 8))
        for kind in ("causal", "recurrent", "bidirectional")
    ],
]


@pytest.mark.parametrize(("kind", "options", "shape"), SMALL)
def test_self_conditioning_is_added(old, tmp_path, kind, options, shape):
    before = old(kind(**{**options, "self_conditioning": 0.0}))
    after = begun(tmp_path, kind(**{**options, "self_conditioning": 0.5}))
    expected = means(before, shape, [1, 4])
    torch.testing.assert_close(means(after, shape, [1, 4]), expected)
    torch.testing.assert_close(means(after, shape, [1, 4], estimate(shape)), expected)
    assert expected.std() > 0.01


@pytest.mark.parametrize(("kind", "options", "shape"), SMALL)
def test_classes_are_added_by_name(old, tmp_path, kind, options, shape):
    before = old(kind(**options))
    after = begun(tmp_path, kind(**options), {**DIGITS, "classes": MORE})
    for first, second in ((0, 1), (2, 3)):
        torch.testing.assert_close(
            means(after, shape, [KEPT[first], KEPT[second]]), means(before, shape, [first, second])
        )
    null = means(before, shape, [4, 4])
    torch.testing.assert_close(means(after, shape, [6, 6]), null)
    torch.testing.assert_close(means(after, shape), null)
    torch.testing.assert_close(means(after, shape, [1, 5]), null)  # a new class is none at first
    assert (means(before, shape, [0, 1]) - null).abs().max() > 0.01


@pytest.mark.parametrize(("kind", "options", "shape"), SMALL)
def test_labels_are_added(old, tmp_path, kind, options, shape):
    before = old(kind(**options, conditional=False))
    after = begun(tmp_path, kind(**options))
    for label in ([0, 3], [4, 4], None):
        torch.testing.assert_close(means(after, shape, label), means(before, shape))


@pytest.mark.parametrize(
    ("kind", "options", "size", "shape"),
    [
        (BitsDigits, DIT, "blocks", (4, 8, 8)),
        (BitsDigits, {**DIT, "self_conditioning": 0.5}, "blocks", (4, 8, 8)),
        (ForcingDigits, FORCING, "depth", (8, 8)),
        (ForcingDigits, {**FORCING, "network": "bidirectional"}, "depth", (8, 8)),
    ],
)
def test_blocks_are_added(old, tmp_path, kind, options, size, shape):
    before = old(kind(**options))
    after = begun(tmp_path, kind(**{**options, size: 3}))
    torch.testing.assert_close(means(after, shape, [1, 4]), means(before, shape, [1, 4]))


def test_everything_is_added_at_once(old, tmp_path):
    before = old(BitsDigits(**DIT, conditional=False))
    after = begun(tmp_path, BitsDigits(**{**DIT, "blocks": 2, "self_conditioning": 0.5}))
    shape = (4, 8, 8)
    torch.testing.assert_close(means(after, shape, [1, 4], estimate(shape)), means(before, shape))


def test_frames_get_blocks_and_actions():
    options = {"patch": 2, "width": 16, "heads": 2, "window": 3}
    before = shaken(nets.VideoTransformer(3, 3, depth=1, **options))
    after = nets.VideoTransformer(
        3, 3, depth=2, action_features=4, self_conditioning=True, **options
    )
    init_from(after, before.state_dict())
    x, log_snr = Rng(2).normal((2, 4, 3, 4, 4)), torch.zeros(2)
    cond = {"action": Rng(3).normal((2, 4, 4)), "estimate": Rng(4).normal(x.shape)}
    torch.testing.assert_close(after.eval()(x, log_snr, cond), before(x, log_snr))
    torch.testing.assert_close(after(x, log_snr), before(x, log_snr))


VIDEO_UNET = {"patch": 2, "width": 8, "multipliers": (1, 2), "head_width": 8, "window": 3}


def test_a_u_net_for_frames_gets_attention_over_time_and_actions_and_classes():
    options = {"blocks": 1, "attention": (False, True), **VIDEO_UNET}
    before = shaken(nets.VideoUNet(3, 3, time=(False, True), **options))
    more = {"action_features": 4, "self_conditioning": True, "num_classes": 2}
    after = nets.VideoUNet(3, 3, time=(True, True), **more, **options)
    init_from(after, before.state_dict())
    x, log_snr = Rng(2).normal((2, 4, 3, 8, 8)), torch.zeros(2)
    cond = {"action": Rng(3).normal((2, 4, 4)), "estimate": Rng(4).normal(x.shape)}
    cond["label"] = torch.tensor([1, 2])
    torch.testing.assert_close(after.eval()(x, log_snr, cond), before(x, log_snr))
    torch.testing.assert_close(after(x, log_snr), before(x, log_snr))


@pytest.mark.parametrize(
    ("change", "keep"),
    [
        ({"attention": (True, True)}, "more attention .* keep attention"),
        ({"blocks": 2}, "more layers .* keep blocks, multipliers"),
    ],
)
def test_new_layers_within_frames_cannot_be_silent(change, keep):
    options = {"blocks": 1, "attention": (False, True), "time": (True, True), **VIDEO_UNET}
    before = nets.VideoUNet(3, 3, **options)
    with pytest.raises(ValueError, match=keep):
        init_from(nets.VideoUNet(3, 3, **{**options, **change}), before.state_dict())


@pytest.mark.parametrize(
    ("kind", "options", "change", "keep"),
    [
        (BitsDigits, UNET, {"attention": 4}, "more attention .* keep attention"),
        (BitsDigits, UNET, {"blocks": 2}, "more layers .* keep blocks, multipliers"),
        (BitsDigits, {**UNET, "multipliers": (1,)}, {"blocks": 2}, "keep blocks, multipliers"),
        (BitsDigits, UNET, {"multipliers": (1, 2, 2)}, "keep blocks, multipliers"),
        (BitsDigits, UNET, {"width": 16}, "as wide as that one"),
        (BitsDigits, DIT, {"width": 32}, "as wide as that one"),
        (ForcingDigits, {**FORCING, "network": "recurrent"}, {"depth": 2}, "keep depth"),
    ],
)
def test_what_cannot_be_silent_is_refused(old, tmp_path, kind, options, change, keep):
    old(kind(**options))
    with pytest.raises(ValueError, match=keep) as refused:
        begun(tmp_path, kind(**{**options, **change}))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


RGB = {**DIGITS, "shape": [3, 8, 8]}
LARGE = {**DIGITS, "shape": [1, 16, 16]}


@pytest.mark.parametrize(
    ("kind", "options", "change", "facts", "told"),
    [
        (BitsDigits, UNET, {"state": "onehot"}, DIGITS, "state bits, not onehot"),
        (BitsDigits, {**UNET, "state": "pixels"}, {"state": "bits"}, DIGITS, "state pixels, not"),
        (BitsDigits, UNET, {"code": "gray"}, DIGITS, "code binary, not gray"),
        (BitsDigits, UNET, {"target": "v"}, DIGITS, "target x0, not v"),
        (BitsDigits, UNET, {"head": "softmax"}, DIGITS, "head linear, not softmax"),
        (BitsDigits, UNET, {"head": "sigmoid"}, DIGITS, "head linear, not sigmoid"),
        (BitsDigits, UNET, {}, {**DIGITS, "levels": 256}, "levels 16, not 256"),
        (BitsDigits, UNET, {}, RGB, "channels 1, not 3"),
        (BitsDigits, DIT, {}, LARGE, r"shape \[1, 8, 8\], not \[1, 16, 16\]"),
        (BitsDigits, {**DIT, "patch": 4}, {"patch": 2}, DIGITS, "patch 4, not 2"),
        (
            BitsDigits,
            DIT,
            {"network": "unet", "multipliers": (1,)},
            DIGITS,
            "network dit, not unet",
        ),
        (BitsDigits, UNET, {"network": "dit"}, DIGITS, "network unet, not dit"),
        (ForcingDigits, FORCING, {"network": "bidirectional"}, DIGITS, "network causal, not bi"),
        (ForcingDigits, FORCING, {"state": "bits"}, DIGITS, "state pixels, not bits"),
        (ForcingDigits, FORCING, {"target": "x0"}, DIGITS, "target v, not x0"),
        (BitsDigits, {**UNET, "scale": 0.7}, {"scale": 1.0}, DIGITS, r"scale 0\.7, not 1\.0"),
        (
            BitsDigits,
            {**UNET, "state": "pixels", "scale": 1.0},
            {"scale": 0.7},
            DIGITS,
            r"scale 1\.0, not 0\.7",
        ),
    ],
)
def test_what_would_mean_something_else_is_refused(
    old, tmp_path, kind, options, change, facts, told
):
    old(kind(**options))
    with pytest.raises(ValueError, match=f"was trained with {told}") as refused:
        begun(tmp_path, kind(**{**options, **change}), facts)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=f"was trained with {told}"):  # also of one of its files
        begun(tmp_path, kind(**{**options, **change}), facts, "old/ema.safetensors")


@pytest.mark.parametrize(
    ("options", "change", "facts", "shape"),
    [
        ({**UNET, "state": "pixels"}, {"head": "softmax", "code": "gray"}, DIGITS, (1, 8, 8)),
        ({**UNET, "state": "pixels"}, {}, {**DIGITS, "levels": 256}, (1, 8, 8)),
        ({**UNET, "state": "onehot"}, {"code": "gray"}, DIGITS, (16, 8, 8)),
        (UNET, {"head_width": 4, "patch": 4, "loss_kind": "l2", "weight": "v"}, LARGE, (4, 8, 8)),
    ],
)
def test_what_changes_nothing_is_not_refused(old, tmp_path, options, change, facts, shape):
    before = old(BitsDigits(**options))
    after = begun(tmp_path, BitsDigits(**{**options, **change}), facts)
    torch.testing.assert_close(means(after, shape, [1, 4]), means(before, shape, [1, 4]))


@pytest.mark.parametrize(
    "place", ["ema_snapshots/step-00000002-0.050", "state/step-00000002/ema", "model"]
)
def test_every_file_of_a_run_is_of_that_run(old, tmp_path, place):
    before = old(BitsDigits(**UNET))
    file = tmp_path / "old" / f"{place}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tmp_path / "old" / "ema.safetensors", file)
    source = str(file.relative_to(tmp_path))
    with pytest.raises(ValueError, match="was trained with code binary, not gray"):
        begun(tmp_path, BitsDigits(**UNET, code="gray"), source=source)
    more = {**DIGITS, "classes": MORE}  # their names are known, too
    after = begun(tmp_path, BitsDigits(**UNET), more, source)
    shape = (4, 8, 8)
    torch.testing.assert_close(means(after, shape, KEPT[1:3]), means(before, shape, [1, 2]))


def series(*columns):
    count = len(columns)
    each = {"mean": [0.0] * count, "std": [1.0] * count, "floor": [1.0] * count}
    return {"columns": list(columns), **each}


@pytest.mark.parametrize("network", ["causal", "recurrent"])
def test_periods_and_columns_are_added_at_their_end(old, tmp_path, network):
    options = {**FORCING, "network": network, "horizon": 4}
    small = ForcingSeries(**options, periods=(6.0,))
    large = ForcingSeries(**options, periods=(6.0, 24.0))
    before = old(small, series("a", "b"))
    after = begun(tmp_path, large, series("a", "b", "c"))
    x, t = Rng(2).normal((2, 8, 3)), torch.full((2, 8), 0.4)
    place = {"position": torch.tensor([3, 50])}
    with torch.no_grad():
        was = before(x[..., :2], t, small.told(place, {}, Rng(0)))[0].mean
        now = after(x, t, large.told(place, {}, Rng(0)))[0].mean
    torch.testing.assert_close(now[..., :2], was)


@pytest.mark.parametrize(
    ("options", "periods", "columns", "told"),
    [
        ({}, (7.0, 24.0), "ab", r"periods \[6\.0, 24\.0\], not \[7\.0, 24\.0\]"),
        ({}, (24.0, 6.0), "ab", "periods"),
        ({}, (6.0,), "ab", "periods"),
        ({}, (6.0, 24.0), "ba", r"columns \['a', 'b'\], not \['b', 'a'\]"),
        ({}, (6.0, 24.0), "cab", "columns"),
        ({}, (6.0, 24.0), "a", "columns"),
        ({"self_conditioning": 0.5}, (6.0, 24.0), "abc", "columns"),
    ],
)
def test_other_periods_and_columns_are_refused(old, tmp_path, options, periods, columns, told):
    options = {**FORCING, **options, "horizon": 4}
    old(ForcingSeries(**options, periods=(6.0, 24.0)), series("a", "b"))
    with pytest.raises(ValueError, match=f"was trained with {told}"):
        begun(tmp_path, ForcingSeries(**options, periods=periods), series(*columns))


@dataclass(frozen=True)
class Own(Recipe):
    """Its options are called like ours and are of other types."""

    name: ClassVar[str] = "own"

    heads: tuple[int, ...] = (1, 2)
    scale: float = 1.0

    def build(self, facts):
        return Parts(nn.Linear(2, 2), GaussianDiffusion(), Scaled(2))


def test_a_recipe_of_ones_own_starts_from_its_own_run(old, tmp_path):
    before = old(Own(), {})
    after = begun(tmp_path, Own(scale=0.5), {})
    assert torch.equal(after.weight, before.weight)
    shutil.rmtree(tmp_path / "new")
    with pytest.raises(ValueError, match=r"was trained with heads \[1, 2\], not \[1, 3\]"):
        begun(tmp_path, Own(heads=(1, 3)), {})


def test_places_of_patches_are_not_those_of_a_larger_picture():
    options = {"patch": 2, "width": 8, "depth": 1, "heads": 1}
    small, large = (nets.DiT(1, 1, size=(side, side), **options) for side in (8, 16))
    with pytest.raises(ValueError, match="of 64 patches cannot start as one of 16"):
        init_from(large, small.state_dict())
    init_from(copy.deepcopy(small), small.state_dict())


TOY = DiscoMixture(width=8, depth=1, m=2, k=3)
CODED = {"width": 8, "head_width": 8, "multipliers": (1,), "blocks": 1, "m": 2, "k": 3}
CODED |= {"encoder_width": 8, "encoder_depth": 1, "encoder_heads": 2, "conditional": True}


@pytest.mark.parametrize(
    ("recipe", "change", "told"),
    [
        (TOY, DiscoDigits(**CODED), "by recipe disco-mixture, on points: .* recipe disco-digits"),
        (DiscoDigits(**CODED), TOY, "by recipe disco-digits, on pictures: .* recipe disco-mixture"),
        (
            DiscoDigits(**CODED),
            DiscoDigits(**{**CODED, "conditional": False}),
            r"was trained with classes \(--conditional\).*: train with --conditional",
        ),
        (
            DiscoDigits(**CODED),
            DiscoDigits(**{**CODED, "k": 4}),
            r"keep m and k as they were \(it was trained with k 3, not 4\)",
        ),
        (
            BitsDigits(**UNET, self_conditioning=0.5),
            BitsDigits(**UNET, self_conditioning=0.0),
            "trained with self_conditioning 0.5, not 0.0",
        ),
    ],
)
def test_weights_that_do_not_fit_are_told_by_what_differs(old, tmp_path, recipe, change, told):
    toy = {**TOY.facts(TOY.load(None)), "classes": DIGITS["classes"]}
    facts = {type(r): toy if r is TOY else DIGITS for r in (recipe, change)}
    old(recipe, facts[type(recipe)])
    with pytest.raises(ValueError, match=told) as refused:
        begun(tmp_path, change, facts[type(change)])
    assert "\n" not in str(refused.value)


def test_another_recipe_whose_weights_fit_is_started_from(old, tmp_path):
    plain = {k: v for k, v in CODED.items() if k not in ("m", "k") and "encoder" not in k}
    before = old(DiscoDigits(**plain, m=0))
    path = tmp_path / "old" / "recipe.yaml"
    path.write_text(path.read_text().replace("recipe: disco-digits", "recipe: disco-mixture"))
    after = begun(tmp_path, DiscoDigits(**CODED))  # whatever it is called, its weights fit
    shape = (1, 8, 8)
    torch.testing.assert_close(means(after, shape, [1, 4]), means(before, shape, [1, 4]))


def test_what_is_new_is_said(old, tmp_path, capsys):
    options = {**DIT, "conditional": False}
    old(BitsDigits(**options))
    begun(tmp_path, BitsDigits(**options))
    told = capsys.readouterr().err
    assert told == f"starting from {tmp_path / 'old'}: nothing is new\n"
    shutil.rmtree(tmp_path / "new")
    begun(tmp_path, BitsDigits(**{**options, "self_conditioning": 0.5, "blocks": 2}))
    told = capsys.readouterr().err
    assert told.startswith(f"starting from {tmp_path / 'old'}: new are network.tokens.input.weight")
    assert "(16, 16) -> (16, 32), " in told
    assert told.count("\n") == 1
    assert len(told) < 400 + len(str(tmp_path))


def test_a_shipped_model_is_started_from_by_its_name(tmp_path):
    run = noiseloom.load("bits-digits", device="cpu")
    parts = begun(tmp_path, run.recipe, run.facts, "bits-digits")
    torch.testing.assert_close(
        means(parts, (4, 8, 8), [1, 4]), means(run.denoiser, (4, 8, 8), [1, 4])
    )


def test_what_wraps_the_network_does_not_matter():
    class Wrapped(nn.Module):
        def __init__(self, **inner):
            super().__init__()
            for name, module in inner.items():
                self.add_module(name, module)

    network, gain = nn.Linear(2, 2), nn.Linear(1, 1)
    bare = Wrapped(network=network, gain=gain)
    new = Wrapped(denoiser=Wrapped(denoiser=copy.deepcopy(bare)))
    nn.init.zeros_(new.denoiser.denoiser.network.weight)
    assert init_from(new, bare.state_dict()) == []
    assert torch.equal(new.denoiser.denoiser.network.weight, network.weight)
    two = Wrapped(a=Wrapped(network=nn.Linear(2, 2)), b=Wrapped(network=nn.Linear(2, 2)))
    twin = copy.deepcopy(two)
    nn.init.zeros_(twin.b.network.weight)
    init_from(twin, two.state_dict())
    assert torch.equal(twin.b.network.weight, two.b.network.weight)


def test_the_command_line_goes_on_with_more(tmp_path):
    words = ["--width", "8", "--head-width", "8", "--multipliers", "[1]", "--blocks", "1",
             "--attention", "0", "--batch-size", "4", "--steps", "1", "--no-evaluate", "--size",
             "8"]  # fmt: skip

    def train(classes, out, *more):
        data = tmp_path / f"{out}-data"
        for i in range(4 * len(classes)):
            path = data / classes[i // 4] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (10 * i, 255 - 10 * i, 7 * i)).save(path)
        places = ["--data", data, "--out", tmp_path / out]
        assert main(["train", "bits-images", *words, *map(str, [*places, *more])]) == 0

    train("acde", "old", "--self-conditioning", 0)
    weights = tmp_path / "old" / "ema.safetensors"
    save_file(shaken(noiseloom.load(weights.parent, device="cpu").denoiser).state_dict(), weights)
    train(MORE, "new", "--init-from", weights.parent, "--learning-rate", 1e-12)
    before, after = (noiseloom.load(tmp_path / run, device="cpu") for run in ("old", "new"))
    assert isinstance(after.recipe, BitsImages)
    assert after.classes == tuple(MORE)
    shape = (24, 8, 8)
    expected = means(before.denoiser, shape, [1, 3])
    torch.testing.assert_close(
        means(after.denoiser, shape, [2, 4], estimate(shape)), expected, atol=1e-4, rtol=1e-4
    )


def test_the_shipped_model_takes_one_more_class(tmp_path):
    shipped = Path(noiseloom.__file__).parent / "models" / "bits-digits"
    run = noiseloom.load("bits-digits", device="cpu")
    facts = {**run.facts, "classes": [*run.classes, "x"]}
    parts = start(
        run.recipe, facts, tmp_path / "new", data=None, command="train", init_from=str(shipped)
    )
    shape = (4, 8, 8)
    torch.testing.assert_close(
        means(parts.denoiser.eval(), shape, [3, 11]), means(run.denoiser, shape, [3, 10])
    )


def test_a_permutation_of_as_many_classes_is_followed():
    embedding = Embedding(4, 6, 3)
    old = {name: torch.randn_like(value) for name, value in embedding.state_dict().items()}
    found = embedding.inherit(old, [2, 0, 1])["label.weight"]
    table = old["label.weight"]
    assert torch.equal(found[[2, 0, 1]], table[:3])
    assert torch.equal(found[3], table[3])


@pytest.mark.parametrize("fewer", [1, 2])
def test_classes_are_not_lost(fewer):
    old = Embedding(4, 6, 3).state_dict()
    with pytest.raises(ValueError, match=f"of {fewer} classes cannot start as one of 3: keep"):
        init_from(Embedding(4, 6, fewer), old)


@pytest.mark.parametrize(
    ("there", "here", "places"),
    [
        ("abc", "xcba", [3, 2, 1]),
        ("abc", "bcd", [2, 0, 1]),
        ("abc", "dcxb", [0, 3, 1]),
        ("abc", "xyz", [0, 1, 2]),
        ("abc", "ab", None),  # which init_from refuses
    ],
)
def test_classes_keep_their_names_where_these_are_there(tmp_path, there, here, places):
    described = describe(
        BitsDigits(), {**DIGITS, "classes": list(there)}, data=None, command="train"
    )
    write_text(tmp_path / "recipe.yaml", described)
    if places is None or set(there) <= set(here):
        assert class_places(tmp_path, list(here)) == places
        return
    with pytest.warns(UserWarning, match=r"others start in their place \(. as a"):
        assert class_places(tmp_path, list(here)) == places


def test_an_estimate_goes_before_the_map_of_levels():
    with Rng(0).torch():
        settings = {"multipliers": (1,), "attention": (False,), "per_pixel_time": True}
        small = UNet(2, 2, width=8, blocks=1, **settings)
        large = UNet(2, 2, width=8, blocks=1, self_conditioning=True, **settings)
        for parameter in small.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    init_from(large, small.state_dict())
    x, level = Rng(1).normal((2, 2, 4, 4)), Rng(2).normal((2, 2, 4, 4))
    torch.testing.assert_close(large(x, level, {}), small(x, level, {}))


def test_other_heads_are_refused_where_there_is_attention(tmp_path):
    recipe = ForcingDigits(width=16, depth=1, heads=2)
    facts = recipe.facts(recipe.load(None))
    source = tmp_path / "old"
    parts = start(recipe, facts, source, data=None, command="")
    save_file(parts.denoiser.state_dict(), source / "model.safetensors")
    settings = {"data": None, "command": "", "init_from": str(source)}
    with pytest.raises(ValueError, match="was trained with heads 2, not 4"):
        start(replace(recipe, heads=4), facts, tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()
    start(replace(recipe, dropout=0.1), facts, tmp_path / "same", **settings)

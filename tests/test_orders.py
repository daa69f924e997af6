"""Orders and uncertainty in the report of `forcing-digits`: known rows are held, others differ."""

import base64
import io
import re

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from noiseloom.begin import start
from noiseloom.data import Split
from noiseloom.loading import load
from noiseloom.orders import DIGIT, PLANS, SHOWN, complete, orders
from noiseloom.recipes import BitsDigits, ForcingDigits
from noiseloom.report import write_report
from noiseloom.rng import Rng

TINY = {"width": 16, "depth": 1, "heads": 2, "sampling_steps": 4}


def made(folder, recipe):
    """A run with random weights, and its data."""
    data = recipe.load(None)
    parts = start(recipe, recipe.facts(data), folder, data=None, command="make")
    state = parts.denoiser.state_dict()  # whose last layer is still 0
    state = {k: v + 0.2 * Rng(5).fold(k).normal(v.shape) for k, v in state.items()}
    save_file(state, folder / "ema.safetensors")
    return load(folder, device="cpu"), data


def half_drawn(data):
    held = data.held_out
    return held.pixels[held.labels == DIGIT][0]


def pictures(html):
    """Pixels of all pictures of a page, those of maps left out."""
    html = re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)
    found = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    images = [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]
    return [torch.tensor(list(image.tobytes())).reshape(image.size[::-1]) for image in images]


def test_the_report_of_rows_shows_orders_side_by_side(tmp_path):
    run, data = made(tmp_path / "run", ForcingDigits(**TINY))
    page = write_report(tmp_path / "run").read_text()  # warnings are errors: joint plans are silent
    assert page.count("<h2>Orders and uncertainty</h2>") == 1
    part = page[page.index("<h2>Orders and uncertainty") :]
    part = part[: part.index("</section>")]
    assert part in orders(run, data, 0)
    heads = re.findall(r"<h3>(\S+) <small>(\d+) steps</small>", part)
    assert heads == [
        (name, str(len(run.with_options(plan=name).recipe.make_plan(None)))) for name in PLANS
    ]
    assert part.count("<svg") == len(PLANS)
    assert "biased" in part
    assert "without being told the class" in part
    shown = pictures(part)
    each = SHOWN - 1 + 2 + SHOWN  # of 4 steps there are 4 estimates of a full sequence
    assert len(shown) == 1 + sum(min(int(steps), SHOWN) + 2 + SHOWN for _, steps in heads)
    assert len(shown) - 1 >= len(PLANS) * each
    truth = 17 * half_drawn(data)[0].long()
    assert torch.equal(shown[0], truth)
    after = 1
    for name, steps in heads:
        after += min(int(steps), SHOWN)
        mean, deviation, *some = shown[after : after + 2 + SHOWN]
        after += 2 + SHOWN
        assert torch.equal(mean[:4], truth[:4])
        assert not deviation[:4].any()
        assert deviation[4:].float().mean() > 20
        found = complete(run, name, half_drawn(data), seed=0)
        assert torch.equal(torch.stack(some), 17 * found.pixels[:SHOWN, 0].long())
        counts = re.findall(r"(\d+) x \d", part.split(f"<h3>{name} ")[1].split("<h3>")[0])
        assert sum(map(int, counts)) == 16


OPTIONS = [
    {},
    {"state": "bits", "self_conditioning": 0.5, "sampler": "ddpm"},
    {"network": "bidirectional", "label_drop": 0.0},
    {"network": "recurrent", "guidance": 2.0, "sampler": "heun"},
    {"sampler": "dpm++2m", "conditional": False, "label_drop": 0.0, "rest": 0.0},
    {"restarts": ((3, 1, 0.5, 2.0),), "forcing": "teacher-forcing"},
    {"td": 0.5, "plan": "full-sequence", "forcing": "full-sequence"},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("plan", PLANS)
def test_known_rows_are_those_of_the_digit_and_only_the_others_differ(tmp_path, plan, options):
    run, data = made(tmp_path / "run", ForcingDigits(**{**TINY, **options}))
    truth = half_drawn(data)
    found = complete(run, plan, truth, seed=1)
    assert found.known == 4
    assert found.pixels.shape == (16, 1, 8, 8)
    assert torch.equal(found.pixels[:, :, :4], truth[:, :4].long().expand(16, -1, -1, -1))
    assert torch.equal(found.mean[:, :4], truth[:, :4].double())
    assert (found.deviation[:, :4] == 0).all()
    assert (found.deviation[:, 4:] > 0).all()
    # A completion is its own, however many there are, and follows from the seed.
    few = complete(run, plan, truth, seed=1, times=2).pixels
    assert (few - found.pixels[:2]).abs().max() <= 1  # to rounding, decoded
    assert not torch.equal(complete(run, plan, truth, seed=2, times=2).pixels, few)


@pytest.mark.parametrize("options", OPTIONS)
def test_what_is_said_is_so(tmp_path, options):
    run, data = made(tmp_path / "run", ForcingDigits(**{**TINY, **options}))
    text = orders(run, data, 0)
    assert ("biased" in text) == (run.recipe.network != "bidirectional")
    assert ("It was trained on" in text) == (run.recipe.forcing != "independent")
    told = run.recipe.conditional and not run.recipe.label_drop
    assert ("times, of its class." in text) == told
    assert ("without being told the class" in text) == (not told)
    assert ("and of class 9" in text) == run.recipe.conditional


def test_without_data_there_are_orders_and_no_completions(tmp_path):
    run, data = made(tmp_path / "run", ForcingDigits(**TINY))
    none = Split(data.train, data.held_out.select((data.held_out.labels != DIGIT).nonzero()[:, 0]))
    for given in (None, none):
        text = orders(run, given, 0)
        assert text.count("<svg") == len(PLANS)
        assert "deviation" not in text


def test_other_recipes_have_no_such_section(tmp_path):
    recipe = BitsDigits(width=8, multipliers=(1,), head_width=8, attention=0)
    assert orders(*made(tmp_path / "run", recipe), 0) == ""

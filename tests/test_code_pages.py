"""What the report of a run with codes says of them."""

import json
import re
from dataclasses import replace

import pytest
import torch

from noiseloom import code_grids, figures
from noiseloom.cli import main
from noiseloom.loading import load
from noiseloom.report import write_report
from noiseloom.rng import Rng

TINY = ["--steps=2", "--batch-size=8", "--width=8", "--depth=1", "--samples=20", "--prior=tabular"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of points with two latents, and its page."""
    out = tmp_path_factory.mktemp("points") / "run"
    words = ["train", "disco-mixture", "--out", str(out), *TINY, "--m=2", "--k=3"]
    assert main([*words, "--evaluations", "[3]"]) == 0
    return out


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "run"
    words = ["train", "disco-digits", "--out", str(out), "--steps=2", "--batch-size=8"]
    words += ["--width=8", "--head-width=8", "--blocks=1", "--multipliers=[1]", "--no-evaluate"]
    assert main([*words, "--prior=tabular"]) == 0
    return load(out, device="cpu")


@pytest.mark.parametrize(
    ("step", "steps", "least", "told"),
    [
        (300, 300, 0.01, True),
        (300, 300, 0.06, False),  # they say something
        (1200, 5000, 0.01, True),
        (1200, 5000, 0.06, False),  # the record before was due to be warned of, and that is over
        (600, 5000, 0.01, False),  # they need not say anything yet
        (140, 140, 0.01, False),  # the running means have not settled
    ],
)
def test_codes_that_say_nothing_are_on_the_page_as_training_warned(
    run, step, steps, least, told, tmp_path
):
    described = (run / "recipe.yaml").read_text()
    assert "steps: 2\n" in described
    (tmp_path / "recipe.yaml").write_text(described.replace("steps: 2\n", f"steps: {steps}\n", 1))
    record = {"step": step, "loss": 1.0, "seconds": 1.0, "least_information": least}
    record |= {"least_informed_perplexity": 2.9}
    before = {**record, "step": step - 50, "least_information": 0.01}
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(before)}\n{json.dumps(record)}\n")
    page = write_report(tmp_path).read_text()
    line = f"Codes have collapsed: at step {step} of {steps} a latent tells {least} bits"
    assert (line in page) == told
    assert ("all are used, at random" in page) == told


def test_an_evaluation_says_how_much_codes_tell(run):
    found = json.loads((run / "evaluation.json").read_text())
    assert 0 <= found["information"] <= found["code_bits"]
    assert found["information"] < 0.2  # after two updates
    assert "bits that codes tell of a sample" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("evaluations", "shown"), [((9, 3), [3, 9]), ((5, 9, 19, 39, 79), [5, 9, 19]), ((), [])]
)
def test_pictures_are_compared_by_the_fewest_evaluations_of_the_run(evaluations, shown, digits):
    run = replace(digits, recipe=replace(digits.recipe, evaluations=evaluations))
    page = code_grids.code_grids(run, run.recipe.load(None), 0)
    assert [int(n) for n in re.findall(r"<h3>(\d+) evaluations</h3>", page)] == shown
    assert ("With codes and without" in page) == bool(shown)


@pytest.mark.parametrize(
    ("drop", "prior", "told"),
    [
        (0.1, True, "their codes, codes that the prior draws or no codes."),
        (0.0, True, "their codes or codes that the prior draws."),
        (0.1, False, "their codes or no codes."),
        (0.0, False, "their codes."),
    ],
)
def test_a_comparison_says_what_its_samples_are_told_and_no_more(drop, prior, told, digits):
    recipe = replace(digits.recipe, evaluations=(3,), code_drop=drop)
    parts = digits.parts if prior else replace(digits.parts, prior=None)
    run = replace(digits, recipe=recipe, parts=parts)
    page = code_grids.code_grids(run, recipe.load(None), 0)
    assert f"from one noise a column that are told {told}</p>" in page


def test_points_of_the_same_noise_are_told_each_code_by_turns(run, monkeypatch):
    page = (run / "report.html").read_text()
    assert "200 times the same noise, told each code of a latent by turns" in page
    made, seen = load(run), []
    with torch.no_grad():
        for i, parameter in enumerate(made.denoiser.parameters()):
            parameter += 0.3 * Rng(1).fold("shake", i).normal(parameter.shape)
    monkeypatch.setattr(code_grids, "POINTS", 6)
    monkeypatch.setattr(code_grids, "scatter", lambda *given, **_: seen.append(given) or "")
    assert "What each code means" in code_grids.code_points(made, 4)
    assert [title for _, title, _ in seen] == ["latent 0", "latent 1"]
    labels, rng = torch.zeros(6, dtype=torch.int64), Rng(4).fold("what codes mean")
    for latent, (points, _, told) in enumerate(seen):
        for code in range(3):
            alone = code_grids.varied(made, latent, [code], labels, rng)[:, 0]
            torch.testing.assert_close(points[told == code], alone)
    assert all(groups.unique().tolist() == [0, 1, 2] for _, _, groups in seen)
    plain = replace(made, parts=replace(made.parts, denoiser=made.denoiser.denoiser))
    assert code_grids.code_points(plain, 4) == ""


def test_a_panel_of_points_says_which_codes_and_latents_it_leaves_out(run, tmp_path, monkeypatch):
    page = (run / "report.html").read_text()
    panel = page[page.index("What each code means") :]
    assert "most used" not in panel
    assert "of 2 latents" not in panel
    assert "each code's number at the mean of its points" in panel
    out, words = tmp_path / "run", ["train", "disco-mixture", "--m=2", "--k=20", "--no-evaluate"]
    assert main([*words, "--out", str(out), *TINY]) == 0
    many, seen = load(out), []
    monkeypatch.setattr(code_grids, "LATENTS", 1)
    draw = code_grids.scatter
    monkeypatch.setattr(code_grids, "scatter", lambda *g, **o: seen.append(draw(*g, **o)) or "")
    page = code_grids.code_points(many, 0)
    assert "told the 16 most used of the 20 codes of a latent by turns" in page
    assert "1 of 2 latents." in page
    (chart,) = seen
    used = many.denoiser.usage[0].argsort(descending=True)[:16]
    assert {str(code) for code in used.tolist()} <= set(re.findall(r">(\d+)</text>", chart))


def test_each_group_of_points_has_a_colour_of_its_own_and_its_number_where_it_is():
    for count in (3, 8, 9, 16):
        groups = torch.arange(count).repeat_interleave(2)
        values = torch.stack((groups.double(), groups.double() ** 2), 1)
        axes = figures.scatter_axes(values, "x", groups + 5, named=True)
        colours = {tuple(part.get_facecolor()[0]) for part in axes.collections}
        assert len(colours) == count
        told = {text.get_text(): text.get_position() for text in axes.texts}
        assert told == {str(i + 5): (i, i * i) for i in range(count)}
    assert not figures.scatter_axes(values, "x", groups).texts

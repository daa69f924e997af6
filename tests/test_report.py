"""The report is one page, whole and harmless, for runs of every kind and at every stage."""

import base64
import io
import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import ClassVar

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from noiseloom.begin import start
from noiseloom.cli import main
from noiseloom.data import Images, Split
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.encodings import Scaled
from noiseloom.figures import loss_curve, picture
from noiseloom.loading import load
from noiseloom.recipes import RECIPES, BitDiffusion, BitsDigits, Parts, Recipe
from noiseloom.recipes.forcing_series import Forecast
from noiseloom.report import write_report
from noiseloom.rng import Rng
from noiseloom.run_folder import write_text

TINY = {"width": 8, "multipliers": (1,), "head_width": 8, "attention": 0}
TINY |= {"plan": "uniform", "sampling_steps": 6}
EVIL = '<script>alert("x")</script>'


@dataclass(frozen=True)
class Photographs(BitDiffusion):
    """Generated pictures; the path of the data is the names of the classes."""

    name: ClassVar[str] = "photographs"
    summary: ClassVar[str] = "generated pictures <b>& more</b>"

    size: int = 16

    def load(self, data):
        if data is None:
            raise FileNotFoundError("no data")
        classes, levels = tuple(data.split("|")), 256
        pixels = (Rng(3).uniform((24, 3, self.size, self.size)) * levels).to(torch.uint8)
        labels = torch.arange(24) % len(classes)
        images = Images(pixels, labels, classes, levels)
        return Split(images.select(range(16)), images.select(range(16, 24)))


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(source.replace("<wbr>", ""))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def make(folder, recipe, *, data=None, facts_from=None, records=(), trained=True, command="make"):
    """A run's folder as training leaves it, with random weights."""
    facts = recipe.facts(recipe.load(facts_from or data))
    parts = start(recipe, facts, folder, data=data, command=command)
    if trained:
        state = parts.denoiser.state_dict()  # whose last layer is still 0
        state = {k: v + 0.2 * Rng(5).fold(k).normal(v.shape) for k, v in state.items()}
        save_file(state, folder / "ema.safetensors")
    lines = [json.dumps(record) + "\n" for record in records]
    if lines:
        (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def records(count):
    return [{"step": i + 1, "loss": 1 / (i + 1), "seconds": 0.1 * (i + 1)} for i in range(count)]


def read(folder, **kwargs):
    path = write_report(folder, **kwargs)
    assert path == folder / "report.html"
    source = path.read_text()
    assert len(source) < 1.5e6
    assert not list(folder.glob(".*.part"))
    page = Page(source)
    check_self_contained(source, page)
    return page


def check_self_contained(source, page):
    assert "://" not in source
    assert "@import" not in source
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", source)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), value[:80]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    recipe = BitsDigits(**TINY, steps=300)
    make(folder, recipe, records=records(300), command="noiseloom train bits-digits --steps 300")
    metrics = {"class_agreement": 0.5, "n": 360.0, "memorised": 0.01, "discreteness": 0.9}
    metrics |= {"invalid_codes": 0.0, "own_measure": 12345.6}
    anchors = {"": (0.02, 0.4, 0.97), "_held_out": (-0.01, 0.8, 0.96), "_noised": (0.05, 0.2, 0.98)}
    for ending, (kid, coverage, recall) in anchors.items():
        metrics |= {f"kid_digits{ending}": kid, f"kid_digits_se{ending}": 0.0012}
        metrics |= {f"coverage{ending}": coverage, f"recall{ending}": recall}
        metrics[f"nearest{ending}"] = 1.5
    write_text(folder / "evaluation.json", json.dumps(metrics))
    return folder, read(folder)


def test_a_trained_run_has_every_part(digits):
    _, page = digits
    for heading in ("Samples", "From noise to picture", "Analog bits", "Loss", "Metrics", "Use it"):
        assert heading in page.text
    for fact in ("digits", "300 of 300", "noiseloom train bits-digits --steps 300", "30 s"):
        assert fact in page.text
    assert "1,437 + 360 held out" in page.text
    # 10 rows of 8 samples and of 8 real pictures; 6 steps of 8 estimates and of 3 states.
    assert len(page.all("img")) == 160 + 6 * 11
    assert len(page.all("svg")) == 3  # two histograms and the loss


def test_the_pictures_are_what_the_run_draws(digits):
    folder, page = digits
    labels = torch.arange(10).repeat_interleave(8)
    samples = load(folder, device="cpu").pixels(labels)
    images = [attributes["src"] for attributes in page.all("img")]
    rows = [images[i : i + 8] for i in range(0, 160, 8)]  # samples and real ones in turn
    drawn = [image for row in rows[::2] for image in row]
    assert drawn == [picture(one, 16) for one in samples]
    held = BitsDigits().load(None).held_out
    for i in range(10):
        of_kind = held.pixels[held.labels == i]
        even = [round(j * (len(of_kind) - 1) / 7) for j in range(8)]  # first, last, and between
        assert rows[2 * i + 1] == [picture(one, 16) for one in of_kind[even]]


def test_the_film_ends_with_the_samples(digits):
    images = [attributes["src"] for attributes in digits[1].all("img")]
    samples, film = images[0:8], images[160:]
    estimates, states = film[:48], film[48:]
    for i, place in enumerate([0, 11, 23, 34, 45, 56, 68, 79]):  # evenly among the 80 samples
        row, column = divmod(place, 8)
        sample = images[16 * row + column]
        assert estimates[6 * i + 5] == sample
        assert i > 2 or states[6 * i + 5] == sample
    assert estimates[0] != samples[0]
    assert states[0] != estimates[0]


def test_another_seed_draws_other_pictures(digits, tmp_path):
    page = read(make(tmp_path / "run", BitsDigits(**TINY, steps=300)), seed=1)
    assert "seed 1" in page.text
    assert page.all("img")[:8] != digits[1].all("img")[:8]
    assert page.all("img")[8:16] == digits[1].all("img")[8:16]  # the real ones


def test_metrics_stand_beside_their_anchors(digits):
    rows = re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", (digits[0] / "report.html").read_text())
    table = {re.split("<|&", head)[0]: re.findall(r"<td>(.*?)</td>", row) for head, row in rows}
    assert list(table)[:3] == ["class agreement", "kernel distance", "recall"]
    assert table["own measure"][0] == "12,346"  # of a recipe that measures something else
    distance = table["kernel distance"]
    assert distance[0].startswith("0.02<small>±&nbsp;0.0012</small>")
    assert distance[1].startswith("&minus;0.01<small>")
    assert "width:50%" in distance[0]  # half way from noise to real pictures
    assert table["coverage"] == [
        '0.4<span class="gauge"><i style="width:33%"></i></span><small>50% of held-out</small>',
        "0.8",
        "0.2",
    ]
    assert table["recall"] == ["0.97", "0.96", "0.98"]  # noise beats reality: no bar
    assert table["nearest training picture"] == ["1.5", "1.5", "1.5"]
    assert table["memorised"] == ["0.01", "", ""]


def test_every_option_is_listed_and_changes_are_marked(digits):
    source = (digits[0] / "report.html").read_text()
    details = source[source.index("<details>") :]
    options = dict(re.findall(r"<th>(\w+)</th><td>(.*?)</td>", details))
    recipe = BitsDigits(**TINY, steps=300)
    assert options == {name: str(value).replace("(1,)", "[1]").replace("()", "[]") for name, value
                       in vars(recipe).items()}  # fmt: skip
    changed = re.findall(r"class=changed><th>(\w+)<", details)
    assert sorted(changed) == sorted(
        k for k, v in vars(recipe).items() if v != vars(BitsDigits())[k]
    )


def test_what_to_do_next_follows_the_learning_rate(digits, tmp_path):
    assert "noiseloom train --config digits/recipe.yaml --init-from digits --out digits-2" in (
        digits[1].text  # it has fallen to 0
    )
    assert "--resume" not in digits[1].text
    constant = BitsDigits(**TINY, steps=3, decay="constant")
    page = read(make(tmp_path / "run", constant, records=records(3)))
    assert "noiseloom train --out run --resume --steps 6" in page.text
    page = read(make(tmp_path / "half", BitsDigits(**TINY, steps=3), records=records(2)))
    assert "noiseloom train --out half --resume noiseloom" in page.text


def test_names_from_outside_are_escaped(tmp_path):
    recipe = Photographs(**TINY, steps=3)
    data = f"{EVIL}|<img src=http://x onerror=y>|plain"
    folder = make(tmp_path / "a&b", recipe, data=data, records=records(3), command=f"run {EVIL}")
    page = read(folder, recipe=Photographs)
    assert f"run {EVIL}" in page.text
    assert page.text.count(EVIL) == 2  # in the command, and beside its row
    assert "Generated pictures <b>& more</b>" in page.text
    assert {attributes["src"][:11] for attributes in page.all("img")} == {"data:image/"}


def test_one_page_of_noisy_photographs_stays_small(tmp_path):
    """Noise is the worst that can happen to JPEG."""
    recipe = Photographs(**TINY, size=64)
    folder = make(tmp_path / "run", recipe, data="|".join(f"c{i}" for i in range(20)))
    page = read(folder, recipe=Photographs)
    assert "8 of 20 classes" in page.text
    assert "No updates yet" in page.text
    assert "Not evaluated yet" in page.text


def test_a_run_that_has_just_started(tmp_path):
    recipe = BitsDigits(**TINY)
    folder = make(tmp_path / "run", recipe, trained=False, records=records(1))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')  # it is being written
    page = read(folder)
    assert "No checkpoint yet" in page.text
    assert f"1 of {recipe.steps:,}" in page.text
    assert len(page.all("svg")) == 1
    (folder / "metrics.jsonl").unlink()
    page = read(folder)
    assert "No updates yet" in page.text
    assert not page.all("svg")
    assert not page.all("img")


@pytest.mark.parametrize("state", ["pixels", "onehot"])
def test_other_states_and_no_classes(tmp_path, state):
    recipe = BitsDigits(**TINY, state=state, conditional=False)
    page = read(make(tmp_path / "run", recipe, records=records(30)))
    assert ("Analog bits" in page.text) == (state == "onehot")
    assert len(page.all("img")) == 6 * 16 + 6 * 11
    labels = [a for a in page.all("span") if a.get("class") == "name"]
    assert len(labels) == 6


@pytest.mark.parametrize(
    "options", [{"td": 1.5}, {"plan": "karras"}, {"sampler": "heun"}, {"sampling_steps": 1}]
)
def test_any_plan_has_a_film(tmp_path, options):
    recipe = replace(BitsDigits(**TINY), **options)
    page = read(make(tmp_path / "run", recipe))
    assert len(page.all("img")) == 160 + min(recipe.sampling_steps, 12) * 11
    assert len(page.all("svg")) == 2


class Points:
    """A data set of neither pictures nor sequences."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, rows):
        return {"points": self.x[rows]}

    def tensors(self):
        return (self.x,)


@dataclass(frozen=True)
class Plane(Recipe):
    """Points in the plane, which only it could show."""

    name: ClassVar[str] = "plane"
    summary: ClassVar[str] = "points in the plane"

    conditional: bool = False

    def load(self, data):
        x = Rng(0).normal((100, 2))
        return Split(Points(x[:80]), Points(x[80:]))

    def facts(self, data):
        return {"dim": 2}

    def build(self, facts):
        return Parts(torch.nn.Linear(2, 2), GaussianDiffusion(), Scaled(2))


class AsSeries(Plane):
    shows = "series"


class AsTrajectories(Plane):
    shows = "trajectories"


class Vectors(Plane):
    def facts(self, data):
        return {"shape": [2], "levels": 2, "classes": ["a"]}


@pytest.mark.parametrize("kind", [Plane, AsSeries, AsTrajectories, Vectors])
def test_what_only_a_recipe_of_ones_own_could_show_is_left_out(tmp_path, monkeypatch, capsys, kind):
    folder = make(tmp_path / "run", kind(), records=records(2))
    page = read(folder, recipe=kind)
    assert "Only the recipe knows how its samples are shown." in page.text
    assert "80 + 20 held out" in page.text
    assert "noiseloom sample" not in page.text
    assert "noiseloom evaluate run" in page.text
    monkeypatch.setitem(RECIPES, "plane", kind)
    assert main(["sample", str(folder), "--out", str(tmp_path / "x.png")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "recipe 'plane' draws nothing that goes into a file: draw from Python" in told[0]


class Brief(Photographs):
    """Its loop shows no more than what it must."""

    def draw(self, parts, facts, given, rng):
        for step in super().draw(parts, facts, given, rng):
            yield Forecast(step.result)


def test_a_loop_of_ones_own_has_samples_and_no_film(tmp_path):
    folder = make(tmp_path / "run", Brief(**TINY, conditional=False), data="all")
    page = read(folder, recipe=Brief)
    assert "As drawn with seed 0" in page.text
    assert "From noise to picture" not in page.text


def test_without_its_data_a_run_still_has_a_report(tmp_path):
    recipe = Photographs(**TINY)
    folder = make(tmp_path / "run", recipe, facts_from="a|b")
    page = read(folder, recipe=Photographs)
    assert "not where it was" in page.text
    assert len(page.all("img")) == 2 * 8 + 6 * 11


def test_data_that_changed_are_not_shown_as_held_out(tmp_path):
    folder = make(tmp_path / "run", Photographs(**TINY), data="a|b")
    shown = read(folder, recipe=Photographs)
    described = yaml.safe_load((folder / "recipe.yaml").read_text())
    described["run"]["facts"]["fingerprint"] = "of other pictures"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(described))
    page = read(folder, recipe=Photographs)
    assert "or has changed: no real pictures" in page.text
    assert "held out" not in page.text
    assert len(page.all("img")) < len(shown.all("img"))


def test_errors_leave_the_old_report(digits, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run"):
        write_report(tmp_path)
    folder = make(tmp_path / "run", Photographs(**TINY), data="a|b")
    (folder / "report.html").write_text("old")
    with pytest.raises(ValueError, match="give the file that defines it"):
        write_report(folder)
    assert (folder / "report.html").read_text() == "old"


@pytest.mark.parametrize("losses", [[1.0], [2.0, 2.0], [-1.0, 3.0, 0.0], [0.99995, 0.99994]])
def test_any_loss_can_be_drawn(losses):
    source = loss_curve(range(1, len(losses) + 1), losses)
    assert source.startswith("<svg")
    assert "currentColor" in source
    assert "#010203" not in source


def test_the_curve_of_a_long_run_is_small_and_misses_no_peak():
    """One update in 100,000 is an outlier: it must show, and the drawing must stay small."""
    losses = [1.0] * 100_000
    losses[54_321] = 3.9
    source = loss_curve(range(100_000), losses)
    assert len(source) < 100_000
    ticks = re.findall(r">([\d.]+)</text>", source)
    assert any(3 <= float(tick) <= 4 for tick in ticks), ticks


def opened(uri, kind):
    head, content = uri.split(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 24), (2, 5, 5)])
def test_pictures_keep_their_values_up_to_32_pixels(shape):
    pixels = (Rng(0).uniform(shape) * 256).to(torch.uint8)
    shown = pixels if shape[0] == 3 else pixels[:1]
    again = torch.tensor(list(opened(picture(pixels, 256), "png").tobytes()))
    assert torch.equal(again.reshape(*shape[1:], -1), shown.permute(1, 2, 0))


def test_larger_pictures_are_jpeg_and_reduced():
    assert opened(picture(torch.zeros(3, 64, 48), 256), "jpeg").size == (48, 64)
    assert opened(picture(torch.zeros(1, 200, 100), 256), "jpeg").size == (32, 64)


def test_few_levels_span_the_whole_range():
    values = torch.arange(16).reshape(1, 4, 4)
    assert list(opened(picture(values, 16), "png").tobytes()) == [17 * i for i in range(16)]

"""Benzenoids from end to end: parts, training, guides that know their labels, files, refusals."""

import csv
import math
import re
import warnings
from dataclasses import replace

import pytest
import torch
from oracles import F64

import noiseloom
from noiseloom.cli import main
from noiseloom.conditioning import SelfConditioned
from noiseloom.context import Guide
from noiseloom.data import benzenoids, snap
from noiseloom.data.hexagon_picture import hexagon_picture
from noiseloom.denoiser import Preconditioned
from noiseloom.diffusion import GaussianDiffusion, ZeroCentre
from noiseloom.guidance import PropertyGuided, acquisition, nudged, scaling
from noiseloom.guide_folder import structures
from noiseloom.nets import EGNN, PointEncoder
from noiseloom.noise import EDM
from noiseloom.plan import SamplingPlan
from noiseloom.ranking import ranked
from noiseloom.recipes import ContextBenzenoids, Guiding
from noiseloom.recipes.benzenoid_sets import distances, drawn_report, part
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, final, sample
from noiseloom.steering import load_guides, steered, steering_of
from noiseloom.terminal import number

TINY = ["--width", "8", "--depth", "1", "--sampling-steps", "8", "--samples", "16"]
GUIDE = ["--steps", "20", "--width", "8", "--depth", "1", "--context-size", "8"]
ROWS = {"row": torch.arange(12)}


def turned(positions, seed=5):
    q, r = torch.linalg.qr(Rng(seed).normal((3, 3), F64))
    return positions.double() @ (q * r.diagonal().sign())


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of five rings, with a guide of either method that learnt from what it knows itself."""
    folder = tmp_path_factory.mktemp("runs") / "five"
    train = ["train", "context-benzenoids", "--rings", "5", "--out", str(folder), "--steps", "30"]
    assert main([*train, *TINY]) == 0
    assert main(["guide", str(folder), "--method", "context,none", *GUIDE]) == 0
    return folder


def load(folder):
    return noiseloom.load(folder, device="cpu")


# The parts.


@pytest.mark.parametrize(("rings", "split"), [(6, "auto"), (8, "auto"), (8, "random")])
def test_parts_share_nothing_and_leave_nothing_out(rings, split):
    names = ("train", "validation", "test")
    keys = {name: set(part(rings, split, name).keys) for name in names}
    assert (
        set().union(*keys.values())
        == set(benzenoids(rings).keys)
        == {*part(rings, split, "all").keys}
    )
    assert sum(map(len, keys.values())) == len(benzenoids(rings))
    assert keys["validation"] | keys["test"] == set(part(rings, split, "others").keys)


def test_the_good_region_is_out_of_training_unless_it_is_drawn_at_random():
    """Check 17 for labels; for clusters no gap below the least of training is anywhere else."""
    six, eight = (part(h, "auto", "train") for h in (6, 8))
    assert six.gaps.min() >= part(6, "auto", "others").gaps.max()
    assert six.gaps.min() >= benzenoids(6).gaps.median()
    assert eight.gaps.min() > part(8, "auto", "test").gaps.quantile(0.75)
    assert part(8, "random", "train").gaps.min() < eight.gaps.min()
    assert len(part(8, "random", "train")) == len(eight)


def test_figures_are_those_of_what_was_drawn():
    train, held = part(6, "auto", "train"), part(6, "auto", "others")
    some, other = train[torch.tensor([0, 1, 1])], held[torch.tensor([2])]
    broken = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0))
    drawn = torch.cat((turned(some["positions"]), turned(other["positions"], 6), broken.double()))
    found = drawn_report(snap(drawn), 6, "auto")
    gaps = [*train.gaps[[0, 1]].tolist(), float(held.gaps[2])]
    assert found["valid"] == pytest.approx(4 / 5)
    assert found["distinct"] == 3
    assert found["novel"] == pytest.approx(1 / 3)
    assert found["outside"] == pytest.approx(1 / 4)
    assert found["gap"] == pytest.approx((sum(gaps) + gaps[1]) / 4)
    assert found["gap_best"] == pytest.approx(sum(gaps) / 3)
    assert found["gap_held_out"] == pytest.approx(float(held.gaps.mean()))
    assert "gap" not in drawn_report(snap(broken), 6, "auto")


def test_distances_are_by_turns():
    """Tetracene turns LL twice over; of a structure to itself there is no distance."""
    keys = benzenoids(5).keys
    found = distances(keys, keys[:3], 5)
    assert found[:3].abs().max() == 0
    assert (found[3:] > 0).all()
    assert (found <= 1).all()


# The picture.


def test_a_picture_has_every_hexagon_and_they_share_their_corners():
    data = benzenoids(5)
    text = hexagon_picture(data.cells.long(), [str(i) for i in range(len(data))], columns=4)
    polygons = re.findall(r'<polygon points="([^"]+)"', text)
    assert len(polygons) == 5 * len(data)
    for i in range(len(data)):
        corners = {}
        for polygon in polygons[5 * i : 5 * i + 5]:
            for pair in polygon.split():
                x, y = map(float, pair.split(","))
                corners[round(x), round(y)] = (x, y)
        apart = list(corners.values())
        apart = [p for j, p in enumerate(apart) if all(math.dist(p, q) > 2 for q in apart[:j])]
        assert len(apart) == 4 * 5 + 2
        assert all(0 <= x - i % 4 * 150 <= 150 for x, _ in apart)
    with pytest.raises(ValueError, match="1 captions for 12 structures"):
        hexagon_picture(data.cells.long(), ["a"])


# Runs.


def test_a_run_is_judged_shown_and_drawn(run, tmp_path, capsys):
    assert main(["evaluate", str(run)]) == 0
    assert "gap_held_out" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert "<svg" in page
    assert "held out" in page
    out = tmp_path / "drawn.csv"
    assert main(["sample", str(run), "-n", "6", "--seed", "3", "--out", str(out)]) == 0
    rows = rows_of(out)
    found = snap(load(run).samples({"row": torch.arange(6)}, seed=3))
    assert [row["structure"] for row in rows] == [key or "" for key in found.keys]
    assert [row["found"] for row in rows] == found.reasons
    assert out.with_suffix(".svg").read_text().startswith("<svg")


@pytest.mark.parametrize("led", [False, True])
def test_a_picture_beside_a_table_is_replaced_only_where_that_is_asked_for(
    run, led, tmp_path, capsys
):
    out, picture = tmp_path / "drawn.csv", tmp_path / "drawn.svg"
    picture.write_text("mine")
    words = ["sample", str(run), "-n", "3", "--out", str(out)]
    words += ["--guide", str(run / "guides" / "none-0"), "--target", "minimise"] if led else []
    assert main(words) == 2
    _one_line(capsys, "drawn.svg exists: choose another with --out, or replace it with --force")
    assert picture.read_text() == "mine"
    assert not out.exists()
    assert main([*words, "--force"]) == 0
    if not led:  # of which there is none where no structure is valid
        assert picture.read_text().startswith("<svg")
    capsys.readouterr()
    assert main([*words, "--out", str(picture), "--force"]) == 2  # it would be table and picture
    _one_line(capsys, ".csv")


def test_guides_learn_what_the_recipe_knows(run):
    known = structures(run / "guides" / "context-0")
    train = part(5, "auto", "train")
    assert {*known["learnt"], *known["held_out"]} == set(train.keys)
    labelled = load(run).recipe.labelled("train", load(run).facts, None)
    torch.testing.assert_close(labelled.labels[:, 0], benzenoids(5).gaps.double()[_where(train)])
    text = (run / "guides" / "context-0" / "guide.yaml").read_text()
    assert "labels: train\n  context: others\n  shifted: validation\n" in text


def _where(train):
    places = {key: i for i, key in enumerate(benzenoids(5).keys)}
    return torch.tensor([places[key] for key in train.keys])


@pytest.mark.parametrize("method", ["context", "none"])
@pytest.mark.parametrize("way", ["tilt", "nudge"])
def test_scale_0_is_unguided_bit_for_bit_and_others_are_not(run, method, way):
    unguided = load(run).samples(ROWS, seed=1)

    def led(scale):
        guide = run / "guides" / f"{method}-0"
        return steered(load(run), guide, target="minimise", scale=scale, way=way).samples(
            ROWS, seed=1
        )

    assert torch.equal(led(0.0), unguided)
    moved = led(2.0)
    assert not torch.equal(moved, unguided)
    assert moved.mean(1).abs().max() < 1e-5


def test_a_guided_sample_is_written_and_its_true_figures_are_told(run, tmp_path, capsys):
    out = tmp_path / "hits.csv"
    words = ["--guide", str(run / "guides" / "none-0"), "--target", "minimise", "-n", "4"]
    assert main(["sample", str(run), *words, "--scale", "1", "--out", str(out)]) == 0
    assert "gap_held_out" in capsys.readouterr().out
    assert "gap" in out.read_text().splitlines()[0].split(",")


def test_hits_have_their_true_gaps_and_a_picture(run, tmp_path):
    own, folder = load(run), run / "guides" / "context-0"
    guide, records = load_guides(own, folder)
    every, train = benzenoids(5), set(part(5, "auto", "train").keys)
    data = turned(every[torch.arange(len(every))]["positions"]).float()
    data = torch.cat((data, data[:2], torch.zeros(1, 5, 3)))
    table = ranked(own, guide, records, Guiding(target="minimise"), data, [folder])
    assert table.counts == {"drawn": 15, "invalid": 1, "different": 12, "new": 12 - len(train)}
    gaps = dict(zip(every.keys, every.gaps.tolist(), strict=True))
    for row in table.rows:
        told = dict(zip(table.head, row, strict=True))
        assert told["gap"] == pytest.approx(gaps[told["structure"]], abs=1e-6)
        assert told["smiles"].count("c") == 22
        assert told["new"] == ("no" if told["structure"] in train else "yes")
    predicted = table.column("prediction_gap")
    assert predicted == sorted(predicted)
    path = own.recipe.write_structures(tmp_path / "hits.csv", own.parts, own.facts, table.data, {})
    assert path.read_text().count("<polygon") == 12 * 5


def test_a_picture_is_written_whole_or_not_at_all(run, tmp_path, monkeypatch):
    own, (path, picture) = load(run), (tmp_path / "hits.csv", tmp_path / "hits.svg")
    picture.write_text("as it was")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    data = benzenoids(5)[torch.arange(3)]["positions"]
    with pytest.raises(OSError, match="no space"):
        own.recipe.write_structures(path, own.parts, own.facts, data, {})
    assert picture.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [picture]


def test_the_page_of_a_guide_draws_held_out_benzenoids(run):
    folder = run / "guides" / "context-0"
    page, own = (folder / "guide.html").read_text(), load(run)
    gaps = dict(zip(benzenoids(5).keys, benzenoids(5).gaps.tolist(), strict=True))
    held = {number(gaps[key]) for key in structures(folder)["held_out"]}
    found = set()
    for title in ("told best", "told worst"):
        shown = page[: page.index(f"<figcaption>{title}")].rpartition("<figure>")[2]
        captions = re.findall(r">([^<]*): [^<]* \([^<]*\)</text>", shown)
        assert shown.count("<polygon") == 5 * len(captions) > 0
        found |= set(captions)
    assert found == held
    assert own.recipe.pictured


def test_labels_may_come_by_key_from_a_table(run, tmp_path, capsys):
    keys = benzenoids(5).keys
    lines = [f"{key},{i}" for i, key in enumerate(keys)]
    (tmp_path / "labels.csv").write_text("\n".join(["structure,weight", *lines]) + "\n")
    words = ["--labels", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "guide")]
    with warnings.catch_warnings():  # which are told as a line
        warnings.simplefilter("default")
        assert main(["guide", str(run), *words, *GUIDE]) == 0
    assert "6 of 6 structures of others are labelled" in capsys.readouterr().err
    found = load(run).recipe.labelled(str(tmp_path / "labels.csv"), {}, None)
    assert found.names == ("weight",)
    assert found.labels[:, 0].tolist() == list(range(12))
    assert found.rows.keys == keys


# What is refused.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rings", "4"], "rings must be 5 to 13, got 4"),
        (["--rings", "14"], "rings must be 5 to 13, got 14"),
        (["--rings", "6", "--split", "cluster"], "too few for clusters: --split labels or random"),
        (["--rings", "5", "--width", "7"], "width must be even"),
        (
            ["--rings", "5", "--data", "x.csv"],
            "x.csv: noiseloom record benzenoids --rings 5",
        ),
        (["--rings", "5", "--sigma-max", "0.5"], "sigma_max must be above 1 bond length"),
    ],
)
def test_trainings_that_cannot_be(options, told, tmp_path, capsys):
    words = ["train", "context-benzenoids", "--out", str(tmp_path / "run"), *options]
    assert main(words) == 2
    _one_line(capsys, told)


def test_files_and_words_that_do_not_fit(run, tmp_path, capsys):
    path = tmp_path / "labels.csv"
    path.write_text(f"structure,y\n{benzenoids(5).keys[0]},1\n5:0123,2\n")
    other = benzenoids(6).keys[0]
    for words, told in (
        (["--labels", str(path)], "labels.csv, line 3: '5:0123' is no key of a benzenoid of 5"),
        (["--columns", "weight"], "benzenoids have one label of their own, gap, and no weight"),
        (["--labels", str(tmp_path / "no.csv")], "no.csv"),
    ):
        assert main(["guide", str(run), *words, "--out", str(tmp_path / "g")]) == 2
        _one_line(capsys, told)
    path.write_text(f"structure\n{other}\n")
    words = ["--context", str(path), "--out", str(tmp_path / "g")]
    assert main(["guide", str(run), *words]) == 2
    _one_line(capsys, f"line 2: '{other}' is no key of a benzenoid of 5 rings")


def test_a_guide_of_other_rings(run, tmp_path, capsys):
    folder = tmp_path / "six"
    train = ["train", "context-benzenoids", "--rings", "6", "--out", str(folder), "--steps", "2"]
    assert main([*train, *TINY, "--no-evaluate"]) == 0
    capsys.readouterr()
    words = ["--guide", str(run / "guides" / "none-0"), "--target", "minimise"]
    assert main(["sample", str(folder), *words, "--out", str(tmp_path / "hits.csv")]) == 2
    _one_line(capsys, "another rings than")


def _one_line(capsys, told):
    error = capsys.readouterr().err.strip()
    assert told in error
    assert len(error.splitlines()) == 1


# Check 13: what is led turns with its noise.


def awake(network, seed):
    with Rng(seed).torch(), torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.15)
    return network.double()


@pytest.mark.parametrize(
    ("way", "rule"),
    [
        ("tilt", scaling.constant),
        ("tilt", scaling.decaying()),
        ("tilt", scaling.clipped(0.5)),
        ("tilt", scaling.norm_ratio(order=2)),
        ("nudge", scaling.clipped(10.0)),
        ("nudge", scaling.clipped(0.5)),
    ],
)
def test_guided_steps_turn_with_their_noise(way, rule):
    """To 1e-9; the guidance is no small part of where they end."""
    schedule = EDM(10.0)
    space = GaussianDiffusion(schedule, ZeroCentre())
    network = awake(EGNN(width=8, depth=2, self_conditioning=True), 1)
    denoiser = SelfConditioned(Preconditioned(network, schedule, target="edm"))
    guide = Guide(PointEncoder(width=8, depth=2), space, 8)
    guide = awake(guide, 2).eval().requires_grad_(False)
    aim = acquisition.lcb(1.0, minimise=True)
    plan = SamplingPlan.karras(5, schedule, sigma_max=10.0)

    def drawn(start, scale):
        own, solver = denoiser, ancestral()
        if way == "tilt":
            own = PropertyGuided(denoiser, space, guide, aim, scale, rule=rule)
        else:
            solver = nudged(solver, guide, aim, scale, rule=rule)
        return final(sample(own, space, plan, start, cond={}, rng=Rng(1), solver=solver)).x

    x = space.prior(torch.empty(3, 5, 3, dtype=F64), Rng(0))
    q, _ = torch.linalg.qr(Rng(5).normal((3, 3), F64))
    expected = drawn(x, 3.0) @ q
    torch.testing.assert_close(drawn(x @ q, 3.0), expected, rtol=0, atol=1e-9)
    assert (expected - drawn(x, 0.0) @ q).abs().max() > 1e-3
    assert expected.sum(1).abs().max() < 1e-10


def test_runs_of_points_have_a_ratio_of_lengths_that_turn_with_them(run):
    own = load(run)
    guide, records = load_guides(own, run / "guides" / "none-0")
    options = Guiding(target="minimise", rule="norm-ratio")
    led, _ = steering_of(own, guide, records, options)(own.denoiser, ancestral())
    t = torch.tensor(0.6)
    x = own.diffusion.prior(torch.empty(3, 5, 3), Rng(0))
    x = x * own.diffusion.schedule(t)[1] / own.diffusion.schedule(torch.tensor(1.0))[1]
    q, _ = torch.linalg.qr(Rng(5).normal((3, 3)))

    def added(x):
        return (led(x, t)[0].mean - own.denoiser(x, t)[0].mean).flatten(1).norm(dim=1)

    assert added(x).min() > 0
    torch.testing.assert_close(added(x @ q), added(x), rtol=1e-3, atol=0)


def test_the_recipe_says_its_plan_and_its_noise():
    recipe = ContextBenzenoids(rings=5, sampling_steps=7)
    parts = recipe.build({"rings": 5, "std": 1.25})
    levels = parts.diffusion.schedule(recipe.make_plan(parts.diffusion.schedule).t.flatten())[1]
    assert float(levels[0]) * 1.25 == pytest.approx(20.0)
    roots = levels.double() ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(6), rtol=1e-4, atol=1e-6)
    uniform = replace(recipe, plan="uniform").make_plan(parts.diffusion.schedule)
    assert len(uniform) == 7

"""Filling in by a model with a time per token: what is known stays, and the rest goes with it."""

import csv
import json
import re
import warnings

import numpy as np
import pytest
import torch
from oracles import F64, Correlated
from PIL import Image

import noiseloom
from noiseloom.cli import main
from noiseloom.data.templates import picture_templates, series_template, which_template
from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import SCHEDULES
from noiseloom.recipes import ForcingDigits, ForcingSeries
from noiseloom.recipes.recipe import Parts
from noiseloom.recipes.series_tokens import SeriesTokens
from noiseloom.rng import Rng

PHI, TOKENS, COUNT = 0.8, 7, 4000
LAW = PHI ** (torch.arange(TOKENS, dtype=F64)[:, None] - torch.arange(TOKENS)).abs()
UNSEEN = "ignore:a causal network sees no later token"
SMALL = {"horizon": 4, "context": 3, "width": 16, "depth": 1, "heads": 2, "sampling_steps": 2}
WORDS = "--horizon 4 --context 3 --windows 2 --steps 2 --width 16 --depth 1 --heads 2"
WORDS = [*WORDS.split(), "--sampling-steps", "2", "--batch-size", "8", "--no-evaluate"]


class Exact(Correlated):
    """That of an AR(1) process, on a device as networks are."""

    def __init__(self, causal):
        super().__init__(SCHEDULES["cosine"], LAW, causal)
        self.place = torch.nn.Parameter(torch.zeros(()))

    def mean(self, x, alpha, sigma):
        return super().mean(x.double(), alpha.double(), sigma.double()).float()


def exact(network, **options):
    """A recipe of series whose tokens are the values / 10, and the exact denoiser of an AR(1)."""
    options = {**SMALL, "network": network, "stabilisation": 0.0, "rest": 0.0, **options}
    recipe = ForcingSeries(**options)
    codec = SeriesTokens((0.0,), (1.0,), (10.0,), recipe.lead, recipe.state)
    denoiser = Exact(network != "bidirectional")
    return recipe, Parts(denoiser, GaussianDiffusion(SCHEDULES["cosine"]), codec)


def filled(recipe, parts, given, keys, columns=("x",)):
    *_, last = recipe.draw(parts, {"columns": list(columns)}, given, keys)
    return recipe.decode(parts, last.result, given)


def asked(values, known, count=COUNT):
    return {
        "values": values.expand(count, *values.shape),
        "known": known.expand(count, -1),
        "position": torch.zeros(count, dtype=torch.int64),
    }


@pytest.mark.parametrize("network", ["bidirectional", "causal"])
@pytest.mark.filterwarnings(UNSEEN)
def test_what_is_filled_in_follows_the_law_given_what_is_known(network):
    """Of both sides, C_uk C_kk^-1 v, by a network that sees both; of the past by a causal one."""
    recipe, parts = exact(network, sampling_steps=60)
    known = torch.tensor([True, True, True, False, False, True, False])
    v = torch.tensor([4.0, 8.0, -7.0, 0.0, 0.0, 9.0, 0.0], dtype=F64)[:, None]
    drawn = filled(recipe, parts, asked(v, known), Rng(3).samples(COUNT))
    assert torch.equal(drawn[:, known], v[known].expand(COUNT, -1, -1))
    hidden = drawn[:, ~known, 0]
    if network == "bidirectional":
        gain = LAW[~known][:, known] @ LAW[known][:, known].inverse()
        mean = gain @ v[known, 0]
        variance = 100 * (LAW[~known][:, ~known] - gain @ LAW[known][:, ~known]).diagonal()
    else:
        mean = torch.tensor([PHI * -7, PHI**2 * -7, PHI * 9], dtype=F64)
        variance = 100 * torch.tensor([1 - PHI**2, 1 - PHI**4, 1 - PHI**2], dtype=F64)
    # 60 steps of DDIM leave out 4 to 5 % of the variance, and of the means less than 0.02 (200,000
    # draws).
    assert ((hidden.mean(0) - mean).abs() < 5 * (variance / COUNT).sqrt() + 0.02).all()
    assert (hidden.var(0) / variance - 1).abs().max() < 5 * (2 / COUNT) ** 0.5 + 0.05


def test_a_causal_network_is_warned_of_with_the_reason_and_only_if_something_follows():
    recipe, parts = exact("causal")
    v, keys = torch.ones(TOKENS, 1, dtype=F64), Rng(0).samples(2)
    between = torch.tensor([1, 1, 1, 0, 1, 1, 1]).bool()
    with pytest.warns(UserWarning, match="causal network sees no later token") as told:
        filled(recipe, parts, asked(v, between, 2), keys)
    assert len(told) == 1
    # The figures of the text are those of a step between two known ones.
    outer = torch.tensor([0, 2])
    variance = 1 - LAW[1, outer] @ LAW[outer][:, outer].inverse() @ LAW[outer, 1]
    said = str(told[0].message)
    assert f"variance {1 - PHI**2:.2f} instead of {float(variance):.2f}" in said
    assert "--network bidirectional" in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled(recipe, parts, asked(v, torch.tensor([1, 1, 1, 1, 0, 0, 0]).bool(), 2), keys)


KINDS = [
    {},
    {"network": "bidirectional"},
    {"network": "recurrent"},
    {"network": "bidirectional", "periods": (6.0,)},
    {"network": "bidirectional", "plan": "trapezoid:1", "self_conditioning": 0.5},
    {"network": "bidirectional", "history_guidance": 2.0},
]


def made(**options):
    """A recipe of two columns, its parts with random outputs, and its facts."""
    recipe = ForcingSeries(**{**SMALL, **options})
    step = torch.arange(60, dtype=F64)
    table = noiseloom.data.Table(torch.stack((step.sin() + 3, 100 * step.cos()), 1), ("a", "b"))
    data = noiseloom.data.rolling(table, context=recipe.lead, horizon=4, windows=1)
    facts = recipe.facts(data)
    with Rng(0).torch():
        parts = recipe.build(facts)
        for parameter in parts.denoiser.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return recipe, parts, facts, table.values


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.filterwarnings(UNSEEN)
@pytest.mark.parametrize("rows", [7, 6])
def test_known_steps_are_kept_to_the_last_bit_and_the_others_are_drawn(options, rows):
    recipe, parts, facts, series = made(**options)
    known = torch.tensor([1, 1, 1, 0, 0, 1, 0]).bool()[:rows]
    given = asked(series[:rows], known, 3)
    one = filled(recipe, parts, given, Rng(1).samples(3), facts["columns"])
    assert one.shape == (3, rows, 2)
    assert torch.equal(one[:, known], given["values"][:, known])
    assert not torch.equal(one[0, ~known], one[1, ~known])
    # What stands where nothing is known is of no account, whatever it is.
    other = torch.where(known[:, None], series[:rows], torch.nan)
    again = filled(recipe, parts, asked(other, known, 3), Rng(1).samples(3), facts["columns"])
    assert torch.equal(one, again)
    moved = {**given, "values": given["values"] + 10 * known[:, None]}
    third = filled(recipe, parts, moved, Rng(1).samples(3), facts["columns"])
    assert not torch.allclose(third[:, ~known], one[:, ~known])


@pytest.mark.parametrize(
    "options",
    [
        {"network": "bidirectional"},
        {"plan": "autoregressive"},
        {"plan": "pyramid:1", "network": "bidirectional", "periods": (6.0,)},
    ],
)
def test_a_gap_at_the_end_is_a_forecast_bit_for_bit(options):
    recipe, parts, facts, series = made(**options)
    lead, keys = recipe.lead, Rng(1).samples(3)
    past = {"values": series[:lead].expand(3, -1, -1), "position": torch.zeros(3).long()}
    ahead = filled(recipe, parts, past, keys, facts["columns"])
    known = torch.arange(lead + 4) < lead
    given = asked(series[: lead + 4], known, 3)
    whole = filled(recipe, parts, given, keys, facts["columns"])
    assert torch.equal(whole[:, lead:], ahead)
    assert torch.equal(whole[:, :lead], past["values"])


def test_what_cannot_be_filled_in_is_said():
    between, teacher = [1, 1, 1, 0, 0, 1, 1], {"forcing": "teacher-forcing"}
    for known, options, said in (
        (between, {"state": "differences"}, "train with --state values"),
        (between, {"forcing": "full-sequence"}, "train with --forcing independent"),
        (between, {**teacher, "network": "bidirectional"}, "train with --forcing independent"),
        ([1] * 7, {}, "nothing is unknown"),
        ([0] * 7, {}, "nothing is known"),
        ([1, 1, 0, 1, 1, 1, 1], {}, "the first 3 steps have gaps"),
        ([*between, 1, 1], {}, "at most 7 steps"),
    ):
        recipe, parts, facts, series = made(**options)
        given = asked(series[: len(known)], torch.tensor(known).bool(), 2)
        with pytest.raises(ValueError, match=said):
            filled(recipe, parts, given, Rng(0).samples(2), facts["columns"])
    recipe, parts, facts, series = made(network="bidirectional")
    mixed = torch.tensor([between, [1, 1, 1, 0, 1, 1, 1]]).bool()
    given = {**asked(series[:7], mixed[0], 2), "known": mixed}
    with pytest.raises(ValueError, match="have the same gaps"):
        filled(recipe, parts, given, Rng(0).samples(2), facts["columns"])


@pytest.mark.parametrize("at", [0.0, 0.02, 0.4])
def test_what_is_known_is_read_as_noisy_as_it_is_told_to_be(at):
    """x_t = alpha_t x_0 + sigma_t e, of one e in all steps, and t is what the network is told."""
    recipe, parts = exact("bidirectional", stabilisation=at)
    known = torch.tensor([1, 1, 1, 0, 1, 0, 1]).bool()
    v = torch.tensor([4.0, 8.0, -7.0, 0.0, 5.0, 0.0, 9.0])[:, None].double()
    seen = []
    parts.denoiser.register_forward_pre_hook(lambda _, args: seen.append(args[:2]))
    filled(recipe, parts, asked(v, known), Rng(4).samples(COUNT))
    assert len(seen) == recipe.sampling_steps
    alpha, sigma = SCHEDULES["cosine"](torch.tensor(at, dtype=F64))
    for x, t in seen:
        assert (t[..., known] == at).all()
        assert torch.equal(x[:, known], seen[0][0][:, known])
    noise = seen[0][0][:, known, 0].double() - alpha * v[known, 0] / 10
    if not at:
        assert noise.abs().max() < 1e-6
        return
    noise, count = noise / sigma, noise.numel()
    assert noise.mean().abs() < 5 * count**-0.5
    assert (noise.var() - 1).abs() < 5 * (2 / count) ** 0.5
    assert (noise.T.corrcoef() - torch.eye(5)).abs().max() < 5 * COUNT**-0.5


def test_the_plan_is_of_what_is_drawn_among_what_is_known():
    recipe = ForcingSeries(**SMALL, network="bidirectional", plan="trapezoid:1", rest=0.0)
    plan = recipe.plan_beside(None, [0, 1, 2, 6])
    assert plan.t[0, 0].tolist() == [*[0.02] * 3, 1, 1, 1, 0.02]
    assert torch.equal(plan.s[:, 0, 3:6], plan.s[:, 0, 3:6].flip(1))  # a trapezoid of its own


def test_templates_of_series_as_people_write_them(tmp_path):
    file = tmp_path / "gaps.csv"

    def read(text, columns=("a", "b"), lead=0, horizon=5):
        file.write_text(text)
        return series_template(file, columns, lead, horizon)

    values, known, first = read("date,a,b\n1 May,1,2\n2 May,,\n3 May,nan,NA\n4 May,5,6.5\n")
    assert first == 0
    assert known.tolist() == [True, False, False, True]
    assert values[known].tolist() == [[1, 2], [5, 6.5]]
    # Gaps at the ends are gaps, with and without dates and names.
    assert read("a,b\n,\n1,2\n,\n")[1].tolist() == [False, True, False]
    assert read(",\n1,2\n,\n", ("0", "1"))[1].tolist() == [False, True, False]
    assert read("0,1\n5,6\n,\n", ("0", "1"))[0][0].tolist() == [5, 6]
    assert read("date,a,b\n1 May,,\n2 May,3,4\n")[1].tolist() == [False, True]
    assert read('x\n1\n""\n3\n', ("x",))[1].tolist() == [True, False, True]
    # Of a longer file the window about its gaps is taken.
    longer = "a,b\n" + "".join(f"{i**2},{-i}\n" if i not in (11, 12) else ",\n" for i in range(20))
    for lead, horizon, start in ((3, 4, 8), (3, 8, 8), (3, 10, 7), (11, 2, 0), (11, 40, 0)):
        values, known, first = read(longer, lead=lead, horizon=horizon)
        assert len(values) == 20
        assert (~known).nonzero()[:, 0].tolist() == [11, 12]
        assert first == start
    for text, said in (
        ("a,b\n1,2\n3,\n4,5\n", "line 3 is known in part"),
        ("a,b,c\n1,2,3\n,,\n", "columns ['a', 'b', 'c'], and the run fills in ['a', 'b']"),
        ("a,b\n1,2\n3,4\n", "nothing is unknown"),
        ("a,b\n,\n,\n", "nothing is known"),
        (
            "a,b\n1,2\n" + ",\n" * 8 + "1,2\n",
            "8 steps from its first gap to its last, and the horizon of 5",
        ),
        ("a,b\n1,2\n\n3,4\n", "line 3 is empty"),
        ("a,b\n1,2\nx,4\n", "line 3, column 1: 'x' is no finite number"),
        ("a,b\n1,2\ninf,4\n", "line 3, column 1: 'inf' is no finite number"),
        ("", "is empty"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)) as error:
            read(text)
        assert "gaps.csv" in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(
        ValueError, match=r"gaps.csv: its first gap is at step 3, and 4 steps before"
    ):
        read("a,b\n1,2\n1,2\n,\n", lead=4)
    with pytest.raises(FileNotFoundError):
        series_template(tmp_path / "none.csv", ("a",), 1, 1)
    (tmp_path / "gaps.tar").write_bytes(b"")
    for name in ("gaps.tar", "."):
        with pytest.raises(ValueError, match=r"is no template: give a \.csv or \.csv\.gz file"):
            series_template(tmp_path / name, ("a",), 1, 1)


def test_templates_of_pictures_as_people_write_them(tmp_path):
    shape, half = (1, 8, 8), np.full((8, 8), np.nan)
    half[:4] = np.arange(32).reshape(4, 8) % 16
    file = tmp_path / "half.npy"

    def read(array, file=file, **options):
        np.save(file, array)
        return picture_templates(file, shape, 16, **options)

    pixels, known = read(half)
    assert known.tolist() == [[True] * 4 + [False] * 4]
    assert torch.equal(pixels[0, 0, :4].double(), torch.from_numpy(half[:4]))
    assert read(half[None])[0].shape == read(half[None, None])[0].shape == (1, 1, 8, 8)
    assert read(np.stack((half, half[::-1])))[1].tolist() == [
        [True] * 4 + [False] * 4,
        [False] * 4 + [True] * 4,
    ]
    # A picture whose rows are transparent where they are unknown, in the levels of the pixels.
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4, :, :3] = (17 * half[:4]).astype(np.uint8)[..., None]
    rgba[:4, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "half.png")
    same = picture_templates(tmp_path / "half.png", shape, 16)
    assert torch.equal(same[0], pixels)
    assert torch.equal(same[1], known)

    part, off, high = half.copy(), half.copy(), half.copy()
    part[2, 3], off[1, 0], high[3, 7] = np.nan, 2.5, 16
    for array, said in (
        (part, "row 3 of picture 1 is known in part"),
        (off, "row 2 of picture 1 has 2.5"),
        (high, "row 4 of picture 1 has 16"),
        (np.stack((half, part)), "row 3 of picture 2 is known in part"),
        (np.zeros((8, 8)), "nothing of picture 1 is unknown"),
        (np.zeros((8, 8), np.int64), "nothing of picture 1 is unknown"),
        (np.full((8, 8), np.nan), "nothing of picture 1 is known"),
        (np.zeros((9, 8)), "shape (9, 8)"),
        (np.zeros((0, 8, 8)), "shape (0, 8, 8)"),
        (np.zeros((2, 3, 8, 8)), "shape (2, 3, 8, 8)"),
        (np.array(["a"]), "no numbers"),
        (np.array([None]), "is no whole .npy file of numbers"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)) as error:
            read(array)
        assert "half.npy" in str(error.value)
        assert "\n" not in str(error.value)
    (tmp_path / "broken.npy").write_bytes(b"no")
    (tmp_path / "broken.png").write_bytes(b"no")
    Image.fromarray(rgba[:, :7]).save(tmp_path / "narrow.png")
    for name in ("broken.npy", "broken.png", "narrow.png"):
        with pytest.raises(ValueError, match=name):
            picture_templates(tmp_path / name, shape, 16)
    with pytest.raises(FileNotFoundError):
        picture_templates(tmp_path / "none.npy", shape, 16)


def test_every_template_is_drawn_and_as_often_as_the_others():
    assert which_template(3, None, "x").tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for templates, count in ((1, 1), (3, 3), (3, 7), (5, 64)):
        each = which_template(templates, count, "x")
        often = each.bincount(minlength=templates)
        assert len(each) == count
        assert often.min() == count // templates
        assert often.max() == -(-count // templates)
        assert (each.diff() >= 0).all()
    with pytest.raises(ValueError, match="x has 3 templates, and -n is 2: some would not be drawn"):
        which_template(3, 2, "x")


@pytest.mark.parametrize("state", ["pixels", "bits"])
@pytest.mark.parametrize("network", ["causal", "bidirectional"])
@pytest.mark.filterwarnings(UNSEEN)
def test_known_rows_of_digits_are_kept(state, network):
    tiny = {"width": 16, "depth": 1, "heads": 2, "sampling_steps": 2}
    recipe = ForcingDigits(state=state, network=network, **tiny)
    split = recipe.load(None)
    facts = recipe.facts(split)
    with Rng(0).torch():
        parts = recipe.build(facts)
        for parameter in parts.denoiser.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    known = torch.tensor([1, 0, 0, 1, 1, 0, 1, 0]).bool()
    pixels = split.held_out.pixels[:3]
    given = {"pixels": pixels, "known": known.expand(3, -1), "label": torch.arange(3)}
    *_, last = recipe.draw(parts, facts, given, Rng(1).samples(3))
    drawn = recipe.decode(parts, last.result, given)
    assert torch.equal(drawn[:, :, known], pixels[:, :, known].long())
    assert not torch.equal(drawn[:, :, ~known], pixels[:, :, ~known].long())
    other = ForcingDigits(forcing="full-sequence", state=state, network=network, **tiny)
    for recipe_, mask, said in (
        (other, known, "train with --forcing independent"),
        (recipe, torch.ones(8).bool(), "nothing is unknown"),
    ):
        with pytest.raises(ValueError, match=said):
            recipe_.draw(parts, facts, {**given, "known": mask.expand(3, -1)}, Rng(1).samples(3))
    untold = {name: part for name, part in given.items() if name != "label"}
    *_, other = recipe.draw(parts, facts, untold, Rng(1).samples(3))
    assert not torch.equal(other.result, last.result)


def tiles(path, count, columns):
    """The pictures of a PNG, in levels of 16, at the middle of each of their squares."""
    page = np.asarray(Image.open(path).convert("L")).astype(int)
    found = []
    for i in range(count):
        top, left = 2 + i // columns * 50, 2 + i % columns * 50
        found.append(page[top + 3 : top + 48 : 6, left + 3 : left + 48 : 6] // 17)
    return np.stack(found)


@pytest.mark.filterwarnings("default:a causal network sees no later token")
def test_digits_from_a_file_with_gaps_to_a_picture(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = "train forcing-digits --out rows --width 16 --depth 1 --heads 2 --batch-size 8"
    assert main([*train.split(), "--steps", "2", "--warmup", "1", "--no-evaluate"]) == 0
    digits = noiseloom.load("rows", device="cpu").recipe.load(None).held_out.pixels[:2, 0].double()
    digits[0, 4:] = digits[1, 1:3] = torch.nan
    np.save("gaps.npy", digits.numpy())
    capsys.readouterr()
    words = ["sample", "rows", "--known", "gaps.npy", "--sampling-steps", "2"]
    assert main([*words, "--out", "x.png"]) == 0
    said = capsys.readouterr()
    assert "8 samples: x.png" in said.out  # four times each
    assert said.err.count("warning: a causal network sees no later token") == 1
    found = tiles("x.png", 8, 4)
    for i, template in enumerate(digits.numpy().repeat(4, 0)):
        held = ~np.isnan(template).any(1)
        assert (found[i][held] == template[held]).all()
    assert (found[0][4:] != found[1][4:]).any()
    assert main([*words, "-n", "3", "--label", "9", "--out", "y.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == [9, 9, 9]
    # The plan that is said is that of the rows that are drawn, among those that are known.
    np.save("one.npy", digits[:1].numpy())
    one = ["sample", "rows", "--known", "one.npy", "--sampling-steps", "2", "--rest", "0"]
    assert main([*one, "-n", "1", "--out", "z.png"]) == 0
    assert capsys.readouterr().err.splitlines()[1:3] == ["    ▒███", "     ███"]

    np.save("part.npy", np.where(np.arange(64).reshape(8, 8) % 9 == 3, np.nan, 1.0))
    for more, told in (
        (["--known", "part.npy"], "row 1 of picture 1 is known in part"),
        (["--known", "none.npy"], "there is no file none.npy"),
        (["--known", "gaps.npy", "-n", "1"], "gaps.npy has 2 templates, and -n is 1: some would"),
        (["--known", "one.npy", "--data", "one.npy"], "leave --data out"),
        (["--known", "one.npy", "--guidance", "2"], "guidance needs a model with classes, and"),
    ):
        assert main(["sample", "rows", *more, "--out", "w.png"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert told in lines[0]
    assert main(["sample", "bits-digits", "--known", "one.npy", "--out", "w.png"]) == 2
    assert "leave --known out" in capsys.readouterr().err


def write(path, columns, values):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["day", *columns])
        for i, row in enumerate(values.tolist()):
            rows.writerow([f"{i} May", *("" if v != v else v for v in row)])


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def heard(patch):
    """What series are told with every token, (B, T, A), from now on."""
    tell, told = ForcingSeries.told, []

    def telling(*args):
        found = tell(*args)
        told.append(found["action"])
        return found

    patch.setattr(ForcingSeries, "told", telling)
    return told


@pytest.mark.filterwarnings("default:a causal network sees no later token")
def test_series_from_a_file_with_gaps_to_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = torch.arange(80, dtype=F64)
    series = torch.stack((step.sin() + 1234567.891, (step / 3).cos() / 3), 1)
    write(tmp_path / "mine.csv", ("a", "b"), series)
    train = ["train", "forcing-series", "--data", "mine.csv", *WORDS]
    assert main([*train, "--network", "bidirectional", "--out", "both"]) == 0
    assert main([*train, "--out", "past"]) == 0
    gaps = series[20:27].clone()
    gaps[4:6] = torch.nan
    write(tmp_path / "gaps.csv", ("a", "b"), gaps)
    capsys.readouterr()
    for run, told in (("both", 0), ("past", 1)):
        words = ["sample", run, "--known", "gaps.csv", "-n", "5", "--out", f"{run}.csv"]
        assert main(words) == 0
        said = capsys.readouterr()
        assert f"5 paths of 7 steps: {run}.csv" in said.out
        assert said.err.count("warning: a causal network sees no later token") == told
        found = rows_of(f"{run}.csv")
        assert [(r["path"], r["step"]) for r in found] == [
            (str(i), str(h)) for i in range(5) for h in range(1, 8)
        ]
        drawn = torch.tensor([[float(r["a"]), float(r["b"])] for r in found], dtype=F64)
        drawn = drawn.reshape(5, 7, 2)
        held = gaps.isfinite().all(1)
        assert torch.equal(drawn[:, held], gaps[held].expand(5, -1, -1))  # to the last bit
        assert not torch.equal(drawn[0, ~held], drawn[1, ~held])
    # Of a longer file the window about the gap, by the numbers of its steps.
    long = series.clone()
    long[40:42] = torch.nan
    write(tmp_path / "long.csv", ("a", "b"), long)
    assert main(["sample", "both", "--known", "long.csv", "-n", "1", "--out", "l.csv"]) == 0
    said = capsys.readouterr()
    assert [int(r["step"]) for r in rows_of("l.csv")] == list(range(38, 45))
    # Seasons are counted from the first row, so that there it has to be the whole series.
    seasons = [*train, "--network", "bidirectional", "--periods", "[6]", "--out", "seasons"]
    assert main(seasons) == 0
    own = ["sample", "seasons", "--known", "long.csv", "-n", "1"]
    # They are those of the steps in the whole file: the window begins with the 38th.
    with monkeypatch.context() as patch:
        told = heard(patch)
        assert main([*own, "--out", "s.csv"]) == 0
    angle = 2 * torch.pi * (37 + torch.arange(7, dtype=F64)) / 6
    expected = torch.stack((angle.sin(), angle.cos()), -1)
    torch.testing.assert_close(told[0][0].double(), expected, rtol=0, atol=1e-6)
    assert main([*train, "--state", "differences", "--out", "steps"]) == 0
    capsys.readouterr()
    write(tmp_path / "part.csv", ("a", "b"), gaps.index_fill(1, torch.tensor([1]), 1.0))
    write(tmp_path / "other.csv", ("a", "c"), gaps)
    write(tmp_path / "whole.csv", ("a", "b"), series[:7])
    none = torch.full((7, 2), torch.nan, dtype=F64)
    write(tmp_path / "none.csv", ("a", "b"), none)
    write(tmp_path / "wide.csv", ("a", "b"), torch.cat((series[:3], none, none, series[:1])))
    write(tmp_path / "late.csv", ("a", "b"), torch.cat((none[:3], series[:3])))
    for run, more, said in (
        ("both", ["--known", "part.csv"], "part.csv: line 6 is known in part"),
        ("both", ["--known", "other.csv"], "fills in ['a', 'b']"),
        ("both", ["--known", "whole.csv"], "whole.csv: nothing is unknown"),
        ("both", ["--known", "none.csv"], "none.csv: nothing is known"),
        (
            "both",
            ["--known", "wide.csv"],
            "14 steps from its first gap to its last, and the horizon",
        ),
        ("both", ["--known", "late.csv"], "its first gap is at step 1, and 3 steps before it"),
        ("both", ["--known", "gone.csv"], "gone.csv does not exist"),
        ("both", ["--known", "gaps.csv", "--data", "mine.csv"], "leave --data out"),
        ("seasons", ["--known", "gaps.csv"], "do not begin as those of training"),
        ("steps", ["--known", "gaps.csv"], "--state values"),
    ):
        assert main(["sample", run, *more, "--out", "w.csv"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert said in lines[0]
        assert not (tmp_path / "w.csv").exists()
    # What a forecast cannot follow is pointed to what can fill it in.
    ragged = series.clone()
    ragged[78] = torch.nan
    write(tmp_path / "ragged.csv", ("a", "b"), ragged)
    holes = [*train, "--gaps", "missing", "--network", "bidirectional", "--out", "holes"]
    assert main(holes) == 0
    capsys.readouterr()
    assert main(["sample", "holes", "--data", "ragged.csv", "--out", "w.csv"]) == 2
    assert "--known ragged.csv" in capsys.readouterr().err
    assert main(["sample", "holes", "--known", "ragged.csv", "-n", "2", "--out", "h.csv"]) == 0
    assert [int(r["step"]) for r in rows_of("h.csv")][:7] == list(range(74, 81))


def test_a_trained_network_fills_in_between_both_sides(tmp_path):
    """AR(1) of 0.9 about 20: the mean of what is filled in follows both sides, as it should."""
    noise, x = Rng(5).normal((3000, 1)).double(), [torch.zeros(1, dtype=F64)]
    for z in noise:
        x.append(0.9 * x[-1] + 0.19**0.5 * z)
    series = 20 + torch.stack(x)
    write(tmp_path / "mine.csv", ("x",), series)
    words = ["train", "forcing-series", "--data", str(tmp_path / "mine.csv"), "--network"]
    words += ["bidirectional", "--horizon", "4", "--context", "4", "--steps", "300"]
    words += ["--sampling-steps", "20", "--no-evaluate", "--width", "32", "--depth", "2"]
    assert main([*words, "--learning-rate", "3e-3", "--out", str(tmp_path / "run")]) == 0
    run = noiseloom.load(tmp_path / "run", device="cpu")
    known = torch.tensor([1, 1, 1, 1, 0, 1, 1, 1]).bool()
    means = []
    for left, right in ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)):
        v = 20 + torch.tensor([left] * 4 + [right] * 4, dtype=F64)[:, None]
        drawn = run.samples(asked(v, known, 200), seed=1)
        assert torch.equal(drawn[:, known], v[known].expand(200, -1, -1))
        means.append(float(drawn[:, 4].mean()) - 20)
    # Exact: 0.9 / 1.81 (left + right).
    side = 0.9 / 1.81
    assert means == pytest.approx(
        [-2 * side, 0, 0, 2 * side], abs=0.2
    )  # measured, 3 seeds: within 0.09

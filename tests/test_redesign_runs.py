"""`sample --parent`: never more edits than were allowed, by any kind of state."""

import csv
import json
import random
from dataclasses import replace

import pytest
import torch
from guided import train_guide, train_run, write_files
from torch import nn

import noiseloom
from noiseloom import Guide, PropertyGuided, Rng, acquisition
from noiseloom.cli import main
from noiseloom.guided_drawing import site_gains
from noiseloom.ranking import said_of
from noiseloom.recipes import Guiding
from noiseloom.redesign import Redesign, mutations
from noiseloom.rows import redesigned_rows, say_edits
from noiseloom.steering import load_guides
from noiseloom.terminal import number

TINY = ["--steps", "4", "--batch-size", "8", "--width", "16", "--depth", "1", "--heads", "2"]
TINY += ["--sampling-steps", "4", "--no-evaluate"]
STATES = ("masked", "uniform", "marginal", "bits", "onehot", "embedding", "autoregressive")
PARENT = "ACGTTACG"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path, draw = tmp_path_factory.mktemp("redesign") / "sequences.txt", random.Random(0)
    path.write_text(
        "\n".join("".join(draw.choices("ACGT", k=draw.randint(3, 11))) for _ in range(300))
    )
    return path


def trained(data, tmp_path, state="masked"):
    out = tmp_path / "run"
    command = ["train", "sequences", "--data", str(data), "--out", str(out), "--state", state]
    assert main([*command, *TINY]) == 0
    return out


def edits(a, b):
    assert len(a) == len(b)
    return [i + 1 for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]


@pytest.mark.filterwarnings("default:a causal network sees no later token")
@pytest.mark.parametrize("state", STATES)
def test_samples_differ_at_no_more_sites_than_were_allowed(state, data, tmp_path, capsys):
    out, file = trained(data, tmp_path, state), tmp_path / "drawn.txt"
    words = ["sample", str(out), "--parent", PARENT, "--out", str(file), "--force", "-n", "200"]
    assert main([*words, "--max-edits", "3"]) == 0
    found = [edits(PARENT, line) for line in file.read_text().splitlines()]
    # An untrained model draws letters at random: of three free sites most change.
    assert len(found) == 200
    assert max(map(len, found)) == 3
    assert {site for sites in found for site in sites} == set(range(1, 9))
    assert "of 3 free sites" in capsys.readouterr().err

    assert main([*words, "--max-edits", "2", "--sites", "2,5-7"]) == 0
    found = [edits(PARENT, line) for line in file.read_text().splitlines()]
    assert max(map(len, found)) == 2
    assert {site for sites in found for site in sites} == {2, 5, 6, 7}

    assert main([*words, "--sites", "8"]) == 0
    assert {line[:7] for line in file.read_text().splitlines()} == {PARENT[:7]}
    assert {line[7:] for line in file.read_text().splitlines()} == set("ACGT")


@pytest.mark.parametrize("options", [["--unmask", "confidence"], ["--resample", "2"]])
def test_other_ways_to_draw_keep_to_it(options, data, tmp_path, capsys):
    out, file = trained(data, tmp_path), tmp_path / "drawn.txt"
    words = ["sample", str(out), "--parent", PARENT, "--out", str(file), "-n", "100"]
    assert main([*words, "--max-edits", "2", *options]) == 0
    assert max(len(edits(PARENT, s)) for s in file.read_text().splitlines()) == 2
    capsys.readouterr()


def test_the_longest_parent_and_one_of_one_symbol_keep_their_length(data, tmp_path, capsys):
    run = noiseloom.load(trained(data, tmp_path))
    for parent in ("A", "ACGTACGTACG"):
        given = redesigned_rows(run, Redesign(parent, 100), 50, 0)
        assert (~given["known"]).sum(1).tolist() == [len(parent)] * 50
        drawn = run.samples(given)
        words = noiseloom.data.vocabulary(run.facts["vocabulary"])
        assert {len(s) for s in words.decode(drawn)} == {len(parent)}
    alone = run.samples({name: rows[17:18] for name, rows in given.items()})
    *_, last = run.steps({name: rows[17:18] for name, rows in given.items()}, start=17)
    assert torch.equal(last.result, drawn[17:18])
    assert alone.shape == (1, 11)
    capsys.readouterr()


class Counts(nn.Module):
    """Says how many tokens are of the first class."""

    def forward(self, x, log_snr, cond=None):
        return x[..., 0].sum(1, keepdim=True)


@pytest.mark.parametrize("state", ["masked", "uniform"])
def test_a_guide_has_its_way_at_the_free_sites_alone(state, data, tmp_path, capsys):
    run = noiseloom.load(trained(data, tmp_path, state))
    guide = Guide(Counts(), run.diffusion, 1)
    with torch.no_grad():
        guide.heads.weight.copy_(torch.tensor([[1.0], [0.0]]))
        guide.heads.bias.zero_()
    guided = PropertyGuided(run.denoiser, run.diffusion, guide, acquisition.mean(), scale=50.0)
    given = redesigned_rows(run, Redesign("CGTCGTCG", 3), 100, 0)
    keys = Rng(1).samples(100)
    parts = replace(run.parts, denoiser=guided)
    *_, last = run.recipe.draw(parts, run.facts, given, keys)
    free = ~given["known"]
    assert (last.result[free] == 0).all()  # A, as the guide wants all to be
    assert torch.equal(last.result[~free], given["tokens"][~free])
    assert free.sum(1).tolist() == [3] * 100
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parent", "ACG"], "needs --max-edits N, or --sites"),
        (["--parent", "ACG", "--max-edits", "0"], "max_edits must be at least 1"),
        (["--max-edits", "2"], "--max-edits is of --parent SEQUENCE"),
        (["--sites", "2"], "--sites is of --parent SEQUENCE"),
        (["--choose", "guide"], "--choose is of --parent SEQUENCE"),
        (["--parent", "ACG", "--max-edits", "1", "--choose", "guide"], "needs --guide FOLDER"),
        (["--parent", "AXG", "--max-edits", "1"], "the parent: 'X', symbol 2, is none of the 4"),
        (["--parent", "A" * 12, "--max-edits", "1"], "the parent has 12 symbols, and 11 are"),
        (["--parent", "", "--max-edits", "1"], "the parent has no symbols"),
        (["--parent", "ACG", "--sites", "2-9"], "there are the sites 1 to 3, and 2-9"),
        (["--parent", "ACG", "--max-edits", "1", "--known", "A__"], "give one of them"),
    ],
)
def test_what_does_not_fit_is_one_line(words, message, data, tmp_path, capsys):
    out = trained(data, tmp_path)
    capsys.readouterr()
    assert main(["sample", str(out), *words, "--out", str(tmp_path / "x.txt")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "x.txt").exists()


def test_only_sequences_are_redesigned(tmp_path, capsys):
    for run, message in [
        ("bits-digits", "draws no rows of tokens: leave --parent out"),
        (str(text_run(tmp_path)), "a sequence of symbols, which this run does not draw"),
    ]:
        words = ["sample", run, "--parent", "so", "--max-edits", "1"]
        assert main([*words, "--out", str(tmp_path / "x.txt")]) == 2
        assert message in capsys.readouterr().err


def text_run(tmp_path):
    (tmp_path / "text.txt").write_text("so it goes on and on " * 40)
    out = tmp_path / "text"
    command = ["train", "text", "--data", str(tmp_path / "text.txt"), "--length", "8"]
    assert main([*command, "--out", str(out), *TINY]) == 0
    return out


@pytest.fixture(scope="module", params=["masked", "bits"])
def led(request, tmp_path_factory):
    """A run, and a guide of how many As there are."""
    files = write_files(tmp_path_factory.mktemp("files"))
    run = train_run(files, tmp_path_factory.mktemp("led") / "run", request.param)
    return run, train_guide(run, files)


@pytest.mark.parametrize("choose", ["random", "guide"])
def test_led_redesigns_have_no_more_edits_and_go_where_the_guide_leads(
    choose, led, tmp_path, capsys
):
    run, guide = led
    file, parent = tmp_path / "hits.csv", "AAGGTA"
    words = ["sample", str(run), "--guide", str(guide), "--target", "maximise", "--scale", "8"]
    words += ["--parent", parent, "--max-edits", "2", "--choose", choose, "-n", "200"]
    assert main([*words, "--out", str(file)]) == 0
    assert "of 2 free sites" in capsys.readouterr().err
    with file.open() as table:
        rows = list(csv.DictReader(table))
    found = [(edits(parent, row["structure"]), int(row["times"])) for row in rows]
    assert sum(times for _, times in found) == 200
    assert max(len(sites) for sites, _ in found) == 2
    # The best has As where there were none.
    assert rows[0]["structure"].count("A") >= 4
    changed = [site for sites, times in found for site in sites for _ in range(times)]
    right = sum(site in (3, 4, 5) for site in changed)
    assert right > 0.5 * len(changed)


def test_sites_are_chosen_by_what_the_best_substitution_gains(led):
    folder, guide = led
    run = noiseloom.load(folder)
    loaded, records = load_guides(run, str(guide))
    redesign = Redesign("AAGGTA", 2, None, "guide")
    gains = site_gains(run, loaded, records, Guiding(target="maximise"), redesign)
    assert gains[:6].std(correction=0).item() == pytest.approx(1, rel=1e-4)
    # One more A is one more: at the three sites without one all gain as much, at others nothing.
    assert gains[[2, 3, 4]].min() > gains[[0, 1, 5]].max() + 1
    given = redesigned_rows(run, redesign, 4000, 0, gains)
    free = (~given["known"]).double().mean(0)
    assert free.sum().item() == pytest.approx(2)
    assert free[[2, 3, 4]].min() > 2 * free[[0, 1, 5]].max()


def test_a_table_of_redesigns_says_what_was_changed_and_what_the_parent_is_worth(
    led, tmp_path, capsys
):
    folder, guide = led
    file, parent = tmp_path / "hits.csv", "AAGGTA"
    words = ["sample", str(folder), "--guide", str(guide), "--target", "maximise"]
    words += ["--parent", parent, "--max-edits", "2", "-n", "60", "--out", str(file), "--force"]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    with file.open() as table:
        rows = list(csv.DictReader(table))
    assert list(rows[0])[:5] == [
        *("structure", "edits", "mutations", "prediction_a", "deviation_a"),
    ]
    for row in rows:
        sites = edits(parent, row["structure"])
        assert int(row["edits"]) == len(sites)
        right = [f"{parent[site - 1]}{site}{row['structure'][site - 1]}" for site in sites]
        assert row["mutations"].split() == right
    assert {int(row["edits"]) for row in rows} == {0, 1, 2}
    same = sum(int(row["times"]) for row in rows if row["structure"] == parent)
    assert told["unchanged"] == same
    mean = sum(int(row["edits"]) * int(row["times"]) for row in rows) / 60
    assert told["edits"] == pytest.approx(mean)

    run = noiseloom.load(folder, device="cpu")
    loaded, _ = load_guides(run, str(guide))
    tokens = noiseloom.data.vocabulary(run.facts["vocabulary"]).encode([parent])
    said = said_of(run, loaded, tokens)
    assert told["parent"] == {
        "structure": parent,
        "prediction_a": pytest.approx(said.mean.item(), rel=1e-5),
        "deviation_a": pytest.approx(said.variance.sqrt().item(), rel=1e-5),
    }
    assert main(words) == 0
    right = f"parent: AAGGTA, a {number(said.mean.item())} ({number(said.variance.sqrt().item())})"
    assert right in capsys.readouterr().out


def test_mutations_are_letter_place_letter():
    symbols, parent = ("A", "C", "Cl", "G"), torch.tensor([0, 2, 1, 3, 4])
    rows = torch.tensor([[0, 2, 1, 3, 4], [3, 2, 1, 3, 4], [1, 0, 1, 2, 4]])
    assert mutations(parent, rows, symbols) == [[], ["A1G"], ["A1C", "Cl2A", "G4Cl"]]


def test_that_most_draws_are_the_parent_is_said(capsys):
    for same, told in ((4, False), (5, False), (6, True), (10, True)):
        tokens = torch.zeros(10, 4, dtype=torch.int64)
        drawn = tokens.clone()
        drawn[same:, 1] = 1
        given = {"tokens": tokens, "known": torch.tensor([True, False, False, True]).repeat(10, 1)}
        counts = say_edits(given, drawn)
        assert counts == {"edits": pytest.approx(1 - same / 10), "unchanged": same}
        said = capsys.readouterr().err
        assert (f"{same} of 10 draws are the parent itself" in said) == told
        assert ("--sites" in said) == told

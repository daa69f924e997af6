"""Samples that a guide leads: a property that is known exactly goes where it was asked to go."""

import csv
import math
from dataclasses import replace

import pytest
import torch
from guided import load_run, train_guide, train_run, write_files
from torch import nn

import noiseloom
from noiseloom import ancestral
from noiseloom.cli import main
from noiseloom.conditioning import SelfConditioned
from noiseloom.context import GuideOutput
from noiseloom.data import vocabulary
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion, ProductDiffusion
from noiseloom.guidance import PropertyGuided, nudged
from noiseloom.guide_folder import load_guide
from noiseloom.metrics.rows import mean_and_error
from noiseloom.noise import EDM, LinearGamma
from noiseloom.recipes import Guiding
from noiseloom.rng import Rng
from noiseloom.steering import _default_begin, _rule, aim_of, steered, steering_of

COUNT = 256
ROWS = {"row": torch.arange(COUNT)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    """Runs of each state with a guide of the number of A, made when they are asked for."""
    folder, found = tmp_path_factory.mktemp("runs"), {}

    def of(state):
        if state not in found:
            run = train_run(files, folder / state, state)
            found[state] = run, train_guide(run, files)
        return found[state]

    return of


def counts(run, letter="A", **options):
    """How often a letter is in each of the samples."""
    words = vocabulary(run.facts["vocabulary"])
    return torch.tensor([s.count(letter) for s in words.decode(run.samples(ROWS, **options))])


def apart(low, high):
    """By how many standard errors one mean is above the other."""
    (a, da), (b, db) = (mean_and_error(v.double()) for v in (low, high))
    return (b - a) / (da * da + db * db) ** 0.5


# States: masks and uniform noise, which have classes, and bits, which are numbers.


@pytest.mark.parametrize("state", ["masked", "uniform", "marginal", "bits", "onehot", "embedding"])
def test_the_true_property_goes_up_and_down_and_to_a_value(made, state):
    folder, guide = made(state)
    run = load_run(folder)
    free = counts(run, seed=1)
    most = counts(steered(run, guide, target="maximise", scale=3.0), seed=1)
    least = counts(steered(run, [guide], target="minimise", scale=3.0), seed=1)
    assert apart(free, most) > 6, (free.double().mean(), most.double().mean())
    assert apart(least, free) > 6, (free.double().mean(), least.double().mean())
    near = counts(steered(run, [guide], target="3", scale=1.0), seed=1)
    assert apart((near - 3).abs(), (free - 3).abs()) > 6


@pytest.mark.parametrize("state", ["masked", "bits"])
def test_scale_0_is_unguided_bit_for_bit(made, state):
    folder, guide = made(state)
    run = load_run(folder)
    ways = ["tilt", "nudge"] if state == "bits" else ["tilt"]
    plain = run.samples(ROWS, seed=2)
    for way in ways:
        assert torch.equal(steered(run, [guide], way=way, scale=0.0).samples(ROWS, seed=2), plain)
        led = steered(run, [guide], way=way, scale=3.0).samples(ROWS, seed=2)
        assert not torch.equal(led, plain)
    # Not only by leaving the guide out: nor do the wrappers change anything.
    own, _ = load_guide(guide, run)

    def wrapped(denoiser, solver):
        aim = noiseloom.acquisition.mean()
        solver = nudged(solver, own, aim, 0.0) if state == "bits" else solver
        return PropertyGuided(denoiser, run.diffusion, own, aim, 0.0), solver

    same = replace(run, parts=replace(run.parts, steering=wrapped))
    assert torch.equal(same.samples(ROWS, seed=2), plain)


class Heard(nn.Module):
    """A denoiser that remembers what it was told."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.estimates = inner, []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.estimates.append(cond["estimate"])
        return self.inner(x, t, cond, carry, rng)


def test_a_self_conditioned_network_is_told_the_guided_estimate(made):
    folder, guide = made("bits")
    led = steered(load_run(folder), [guide], scale=3.0)
    heard = Heard(led.parts.denoiser)
    denoiser, _ = led.parts.steered(SelfConditioned(heard), ancestral())
    encoded = led.parts.codec.encode(torch.zeros(4, 6, dtype=torch.int64))
    x, t = torch.randn_like(encoded), torch.tensor(0.5)
    first, carry = denoiser(x, t, {}, None, Rng(0))
    denoiser(x, t, {}, carry, Rng(0))
    assert torch.equal(heard.estimates[1], first.mean)
    free, _ = led.parts.denoiser(x, t, {"estimate": torch.zeros_like(x)})
    assert (free.mean - first.mean).abs().max() > 0.01


def test_samples_do_not_depend_on_the_batch_they_are_in(made):
    folder, guide = made("masked")
    led = steered(load_run(folder), [guide], scale=2.0)
    assert torch.equal(led.samples(ROWS, seed=3, batch_size=100), led.samples(ROWS, seed=3))


def test_numbers_are_moved_after_steps_and_corrected_before(made):
    folder, guide = made("bits")
    run = load_run(folder)
    free = counts(run, seed=1)
    for options in (
        {"way": "nudge", "scale": 3.0},
        {"rule": "norm-ratio", "scale": 0.6},
        {"rule": "decay", "scale": 20.0},
        {"objective": "improvement", "scale": 2.0},
        {"objective": "ucb", "scale": 3.0},
        {"scale": 3.0, "corrector": 1},
    ):
        assert apart(free, counts(steered(run, [guide], **options), seed=1)) > 3, options
    # A corrector alone is no guidance.
    still = counts(steered(run, [guide], scale=0.0, corrector=1), seed=1)
    assert abs(apart(free, still)) < 5


def test_hidden_states_are_moved_by_a_guide_that_reads_them(made, files, capsys):
    folder, plain = made("masked")
    out = folder / "guides" / "hidden"
    guide = train_guide(folder, files, "--reads", "denoiser", "--out", str(out))
    assert guide != out
    run = load_run(folder)
    free = run.samples(ROWS, seed=1)
    options = {"way": "hidden", "hidden_rate": 0.5}
    assert torch.equal(steered(run, [out], scale=0.0, **options).samples(ROWS, seed=1), free)
    most, least = (
        counts(steered(run, [out], target=target, **options), seed=1)
        for target in ("maximise", "minimise")
    )
    assert apart(least, most) > 5
    assert least.double().mean() < counts(run, seed=1).double().mean() < most.double().mean()
    with pytest.raises(ValueError, match="--reads denoiser"):
        steered(run, [plain], way="hidden")
    late = folder / "guides" / "late"
    words = ["--reads", "denoiser", "--noisiest", "0.6", "--steps", "5", "--out", str(late)]
    train_guide(folder, files, *words)
    with pytest.raises(ValueError, match=r"knows noise up to time 0\.6, and --way hidden asks it"):
        steered(run, [late], way="hidden")
    # Its states are of these weights alone.
    weights = folder / "ema.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(ValueError, match="for runs with another weights"):
        load_guide(out, load_run(folder))
    weights.write_bytes(before)


def test_several_properties_and_several_guides_each_have_a_target(made, files, tmp_path):
    folder, guide = made("masked")
    both = tmp_path / "both"
    train_guide(folder, files, "--out", str(both), columns="a,c")
    run = load_run(folder)
    free = [counts(run, letter, seed=1) for letter in "AC"]
    led = steered(run, [both], target="maximise,minimise", scale=3.0)
    assert apart(free[0], counts(led, "A", seed=1)) > 5
    assert apart(counts(led, "C", seed=1), free[1]) > 5
    led = steered(run, [guide, both], target="any,any,maximise", scale=3.0)
    assert apart(free[1], counts(led, "C", seed=1)) > 5
    with pytest.raises(
        ValueError, match="1 targets for 3 properties: give one for each of a, a, c"
    ):
        steered(run, [guide, both])


# What is asked.


class Record:
    names = ("y",)
    labels = {"lowest": (-1.0,), "highest": (5.0,), "deviation": (2.0,)}  # noqa: RUF012


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, 3.0 / 2),
        ({"target": "minimise"}, -3.0 / 2),
        ({"objective": "lcb", "kappa": 2.0}, (3.0 - 2.0 * 2.0) / 2),
        ({"objective": "ucb", "target": "minimise"}, -(3.0 + 2.0) / 2),
        ({"target": "4"}, "at 4"),
        ({"objective": "improvement"}, "above 5"),
        ({"objective": "improvement", "target": "minimise"}, "below -1"),
    ],
)
def test_aims_are_counted_in_deviations_of_the_labels(options, value):
    said = GuideOutput(torch.tensor([[3.0]]), torch.tensor([[4.0]]), torch.zeros(1, 1))
    found = float(aim_of([Record()], Guiding(**options))(said))
    law = torch.distributions.Normal(3.0, 2.0)
    if value == "at 4":
        value = float(law.log_prob(torch.tensor(4.0)))
    elif value == "above 5":
        value = float((1 - law.cdf(torch.tensor(5.0))).log())
    elif value == "below -1":
        value = float(law.cdf(torch.tensor(-1.0)).log())
    assert found == pytest.approx(value, abs=1e-5)


def test_parts_are_guided_from_the_time_on_at_which_none_is_too_noisy():
    """At a log-SNR of -5 sigma^2 is 1 / (1 + e^-5), which is t where alpha^2 = 1 - t."""
    late = 1 / (1 + math.exp(-5))
    parts = {
        "a": GaussianDiffusion(LinearGamma(clip=0.0)),
        "b": GaussianDiffusion(EDM(math.exp(2.5))),  # which is there at time 1 alone
        "c": CategoricalDiffusion(3),
    }
    assert _default_begin(parts["a"]) == pytest.approx(late, abs=1e-6)
    assert _default_begin(parts["b"]) == pytest.approx(1, abs=1e-6)
    assert _default_begin(parts["c"]) == 1
    for names in ("abc", "cba", "bac"):
        product = ProductDiffusion({name: parts[name] for name in names})
        assert _default_begin(product) == pytest.approx(late, abs=1e-6)


@pytest.mark.parametrize("way", ["tilt", "nudge"])
@pytest.mark.parametrize("clip", [None, 4.0])
def test_a_limit_is_put_on_the_rule_that_was_asked_for(way, clip):
    """4 with --clip; else 10 of a nudge, and with a tilt what moves estimates by 3 an entry."""
    diffusion = GaussianDiffusion(LinearGamma(clip=0.0))  # sigma^2 / alpha = t / sqrt(1 - t)
    rule = _rule(Guiding(way=way, rule="decay", clip=clip), diffusion)
    t = torch.tensor([0.5, 0.5, 0.8], dtype=torch.float64)
    pull = torch.tensor([[1.0, -2.0], [200.0, 100.0], [500.0, 0.0]], dtype=torch.float64)
    (factor,) = rule(2.0, {"": pull}, {}, {"": t}).values()
    free = 2 * 0.1**t * pull.norm(dim=1)
    entries = torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)  # that are pulled
    limit = clip or (10.0 if way == "nudge" else 3 * entries.sqrt() / (t / (1 - t).sqrt()))
    right = free.minimum(torch.as_tensor(limit, dtype=torch.float64).expand(3))
    assert (right < free).tolist() == [False, True, True]
    torch.testing.assert_close((factor * pull).norm(dim=1), right)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"target": "most"}, "a target is maximise, minimise, any or a number, got 'most'"),
        ({"target": "any"}, "nothing is wanted"),
        ({"target": "nan"}, "a target is"),
        ({"objective": "log-prob"}, "objective log-prob needs as a target a value"),
        ({"target": "2", "objective": "mean"}, "needs as a target maximise or minimise"),
        ({"scale": -1.0}, "scale must be at least 0"),
        ({"way": "hidden", "clip": 2.0}, "clip says nothing to way hidden"),
        ({"kappa": 2.0}, "kappa says nothing to objective auto"),
        ({"objective": "improvement", "kappa": 2.0}, "kappa says nothing to objective improvement"),
        ({"hidden_steps": 3}, "hidden_steps says nothing to way tilt"),
        ({"way": "nudge", "stability": 0.1}, "stability says nothing to way nudge"),
        ({"way": "nudge", "rule": "norm-ratio"}, "rule norm-ratio is of --way tilt"),
        ({"way": "nudge"}, "move numbers, and this run has classes"),
        ({"corrector": 1}, "move numbers, and this run has classes"),
    ],
)
def test_what_cannot_be_asked_gets_one_line(made, options, told):
    folder, guide = made("masked")
    with pytest.raises(ValueError, match=told):
        steered(load_run(folder), [guide], **options)


def test_numbers_have_no_hidden_states_and_noise_not_seen_is_not_asked_about(made, files, tmp_path):
    folder, guide = made("bits")
    run = load_run(folder)
    with pytest.raises(ValueError, match="moves classes, and this run has numbers"):
        steered(run, [guide], way="hidden")
    late = tmp_path / "late"
    train_guide(folder, files, "--noisiest", "0.6", "--steps", "20", "--out", str(late))
    with pytest.raises(ValueError, match=r"knows noise up to time 0\.6"):
        steered(run, [late], guide_begin=0.8)
    own, record = load_guide(late, run)
    guided, _ = steering_of(run, own, [record], Guiding())(run.denoiser, None)
    assert guided.denoiser.begin == 0.6  # inside of self-conditioning


# The command.


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_ranked_rows_are_written_with_what_is_known_of_them(made, files, tmp_path, capsys):
    folder, guide = made("masked")
    out = tmp_path / "hits.csv"
    words = ["sample", str(folder), "--guide", str(guide), "--target", "maximise", "--scale", "4"]
    assert main([*words, "-n", "100", "--out", str(out), "--seed", "5"]) == 0
    told = capsys.readouterr().out
    assert "100 drawn" in told
    assert "distance: characters put in, taken out or changed" in told
    rows = read(out)
    assert list(rows[0]) == [
        *("structure", "prediction_a", "deviation_a", "distance", "new", "times"),
    ]
    means = [float(row["prediction_a"]) for row in rows]
    assert means == sorted(means, reverse=True)
    assert sum(int(row["times"]) for row in rows) == 100
    assert len({row["structure"] for row in rows}) == len(rows)
    learnt = (files / "labels.csv").read_text()
    trained = set((files / "train.txt").read_text().split())
    for row in rows:
        inside = row["structure"] in trained
        assert row["new"] == ("no" if inside else "yes")
        assert inside or int(row["distance"]) > 0
        assert row["structure"] in learnt or int(row["distance"]) > 0
    # What it says is what the guide says of the structure as it is.
    run = load_run(folder)
    own, _ = load_guide(guide, run)
    tokens = vocabulary(run.facts["vocabulary"]).encode([row["structure"] for row in rows])
    said = own.predict(tokens, torch.zeros(len(rows)))
    right = torch.tensor(means)[:, None]
    torch.testing.assert_close(said.mean.float(), right, atol=1e-4, rtol=0)
    assert main([*words, "--out", str(out)]) == 2
    assert "exists: choose another with --out" in capsys.readouterr().err


def test_a_template_is_filled_under_guidance(made, tmp_path, capsys):
    folder, guide = made("masked")
    out = tmp_path / "hits.csv"
    words = ["sample", str(folder), "--guide", str(guide), "--target", "minimise", "--scale", "4"]
    assert main([*words, "--known", "AC__GT", "-n", "20", "--out", str(out)]) == 0
    for row in read(out):
        assert row["structure"].startswith("AC")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "maximise"], "--target needs --guide FOLDER"),
        (["--guide", "X"], "--guide needs --target"),
        (["--guide", "nowhere", "--target", "2"], "no guide at nowhere: make it with noiseloom"),
        (["--guide", "X", "--target", "2", "--label", "1"], "--label is not for guided samples"),
        (["--guide", "X", "--target", "2", "--start", "1"], "--start is not for guided samples"),
        (["--guide", "X", "--target", "2", "--goal", "1"], "--goal is not for guided samples"),
        (["--guide", "G", "--target", "2", "--out", "x.txt"], "name it .csv"),
    ],
)
def test_what_is_missing_gets_one_line(made, words, told, capsys):
    folder, guide = made("masked")
    words = [str(guide) if word == "G" else word for word in words]
    assert main(["sample", str(folder), *words]) == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_guide_of_other_states_or_words_is_refused(made, files, tmp_path, capsys):
    _, guide = made("masked")
    other, _ = made("bits")
    words = ["sample", str(other), "--guide", str(guide), "--target", "2"]
    assert main(words) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "is for runs with another state than" in told
    assert 'state is "masked" there and "bits" here' in told
    (tmp_path / "train.txt").write_text("\n".join(["ACGTUU", "AACGTU", "ACCGTU", "GATTAU"] * 3))
    run = train_run(tmp_path, tmp_path / "run", "masked", "--steps", "2")
    assert main(["sample", str(run), "--guide", str(guide), "--target", "2"]) == 2
    assert "is for runs with another vocabulary than" in capsys.readouterr().err.splitlines()[-1]


def test_a_recipe_that_draws_without_its_guide_is_found_out(made, monkeypatch, tmp_path, capsys):
    folder, guide = made("masked")
    monkeypatch.setattr(
        noiseloom.Parts, "steered", lambda self, denoiser, solver: (denoiser, solver)
    )
    words = ["sample", str(folder), "--guide", str(guide), "--target", "2"]
    assert main([*words, "--out", str(tmp_path / "x.csv")]) == 2
    assert "draws without asking for its guide" in capsys.readouterr().err.splitlines()[-1]


def test_a_guide_that_pulls_ever_harder_throws_no_sample_out(made):
    """A slope that grows with the state is what learnt guides have far from all they know."""

    class Steep(nn.Module):
        def __init__(self, like):
            super().__init__()
            self.like, self.diffusion = like, like.diffusion

        def predict(self, x, t, cond=None):
            value = 1e6 * x.square().flatten(1).sum(1, keepdim=True)
            return GuideOutput(value, torch.ones_like(value), value)

    folder, guide = made("bits")
    run = load_run(folder)
    own, record = load_guide(guide, run)
    steering = steering_of(run, Steep(own), [record], Guiding(scale=5.0))
    run = replace(run, parts=replace(run.parts, steering=steering), statistics={})
    drawn = run.samples({"row": torch.arange(32)}, seed=0)
    assert len(drawn) == 32

"""Guides of finished runs: killed and gone on with, by every method, and what is refused."""

import itertools
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import warnings
from dataclasses import asdict, replace

import pytest
import torch
import yaml
from guided import load_run, train_guide, train_run, write_files
from safetensors.torch import load_file

import noiseloom.fit_guide
import noiseloom.guide_folder
import noiseloom.guide_report
import noiseloom.guide_stages
from noiseloom import Rng
from noiseloom.cli import main
from noiseloom.context import Guide
from noiseloom.fit_guide import fit_guide
from noiseloom.found_guides import guides_in
from noiseloom.guide_folder import load_guide, read_guide, structures
from noiseloom.guide_material import Picked, Sources, _digest, read_material
from noiseloom.guide_stages import Pretrained, make_trained
from noiseloom.recipes import GuideTraining, Labelled
from noiseloom.recipes.guide_options import DECAYED, METHODS, OWN_OPTIONS, WITH_CONTEXT
from noiseloom.terminal import number
from noiseloom.training import Training, loop

TINY = GuideTraining(
    steps=12,
    batch_size=16,
    width=8,
    depth=1,
    context_size=6,
    members=2,
    pretraining_steps=12,
    checkpoint_every=5,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    return train_run(files, tmp_path_factory.mktemp("runs") / "run", "masked", "--steps", "20")


def sources_of(files):
    paths = (str(files / name) for name in ("labels.csv", "context.fasta", "shifted.csv"))
    return Sources(*paths, ("a",))


@pytest.fixture(scope="module")
def material(folder, files):
    return read_material(load_run(folder), sources_of(files), TINY.held_out)


def made(folder, files, material, out, method="none", **changes):
    """A guide; returns its folder."""
    options = replace(TINY, method=method, **changes)
    fit_guide(load_run(folder), options, out, material, sources_of(files))
    return out


def weights(out, name="ema", stage="."):
    return load_file(out / stage / f"{name}.safetensors")


def same(ours, theirs):
    first, second = (weights(out) for out in (ours, theirs))
    return first.keys() == second.keys() and all(
        torch.equal(v, second[k]) for k, v in first.items()
    )


# Killed anywhere, it goes on to the same weights.


def killed_at(folder, files, out, method, place):
    """Train until something is called for the nth time; `place` is (module, name, n), or None."""
    torch.set_num_threads(1)
    if place is not None:
        module, name, n = place
        owner = {"loop": loop._Run, "fit": noiseloom.fit_guide, "page": noiseloom.guide_report}
        inner, calls = getattr(owner[module], name), []

        def last_time(*args, **more):
            calls.append(1)
            if len(calls) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*args, **more)

        setattr(owner[module], name, last_time)
    run = load_run(folder)
    material = read_material(run, sources_of(files), TINY.held_out)
    fit_guide(run, replace(TINY, method=method), out, material, sources_of(files))


STOPS = {
    "pretrained": [
        ("loop", "_update", 3),  # of the pretraining, before any checkpoint
        ("loop", "_update", 8),
        ("loop", "_update", 10),  # of the training on labels, the third
    ],
    "adversarial": [("loop", "_update", 3)],
}


@pytest.mark.parametrize("method", STOPS)
def test_a_guide_killed_at_any_place_comes_to_the_same_weights(
    method, folder, files, material, tmp_path
):
    whole = made(folder, files, material, tmp_path / "whole", method)
    out = tmp_path / "killed"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["noiseloom.fit_guide", "torch._dynamo"])
    places = [
        *STOPS[method],
        ("loop", "_update", 8),  # with a checkpoint at 5
        ("fit", "calibrate", 1),
        ("page", "write_text", 1),
        None,
    ]
    for place in places:
        process = context.Process(target=killed_at, args=(folder, files, out, method, place))
        process.start()
        process.join()
        assert process.exitcode == (0 if place is None else -9), place
        if place is not None:
            assert not read_guide(out).finished
            with pytest.raises(FileNotFoundError, match="the guide is not finished"):
                load_guide(out, load_run(folder))
    assert same(out, whole)
    assert read_guide(out) == read_guide(whole)
    assert (out / "calibration.json").read_text() == (whole / "calibration.json").read_text()
    losses = [
        [json.loads(line)["loss"] for line in (o / "metrics.jsonl").read_text().splitlines()]
        for o in (out, whole)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 12


# Every method does what its name says.


def test_context_at_weight_0_is_none_bit_for_bit(folder, files, material, tmp_path):
    plain = made(folder, files, material, tmp_path / "none")
    zero = made(folder, files, material, tmp_path / "zero", "context", weight=0.0)
    on = made(folder, files, material, tmp_path / "on", "context")
    first, second, third = (weights(out) for out in (plain, zero, on))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert any(not torch.equal(third[name], value) for name, value in first.items())


def test_random_features_are_never_trained_and_classifiers_are(folder, files, material, tmp_path):
    run = load_run(folder)
    for method in ("context", "adversarial", "confusion"):
        out = made(folder, files, material, tmp_path / method, method)
        before = make_trained(run, replace(TINY, method=method), material).state_dict()
        after = weights(out)
        assert before.keys() == after.keys()
        moved = {n for n in after if n.startswith("term.") and not torch.equal(after[n], before[n])}
        if method == "context":
            assert any(name.startswith("term.random.") for name in after)
            assert not moved
        else:
            assert moved == {"term.classifier.weight", "term.classifier.bias"}
        assert not torch.equal(after["guide.heads.weight"], before["guide.heads.weight"])


def test_decay_is_adamws_and_only_of_the_methods_that_have_it(folder, files, material, tmp_path):
    for method in METHODS:
        options = replace(TINY, method=method, decay=0.3)
        decay = options.training(Training()).weight_decay
        assert decay == (0.3 if method in DECAYED else 0.0)
        assert options.pretraining(Training()).weight_decay == 0
        assert options.needs_context == (method in WITH_CONTEXT)
    # At a rate that moves nothing else: weights shrink by the product of 1 - rate decay.
    options = {"learning_rate": 1e-3, "decay": 30.0, "steps": 12}
    plain = made(folder, files, material, tmp_path / "none", **options)
    decayed = made(folder, files, material, tmp_path / "decayed", "weight-decay", **options)
    rates = replace(TINY, **options).training(Training())
    share = math.prod(1 - 30.0 * rates.rate(step) for step in range(1, 13))
    sizes = [
        weights(out, "model")["guide.network.encoder.input.weight"].norm()
        for out in (decayed, plain)
    ]
    assert float(sizes[0] / sizes[1]) == pytest.approx(share, abs=0.05)


def test_a_parameter_prior_is_a_term_that_draws_to_zero(folder, files, material, tmp_path):
    sizes = []
    for method, variance in (("none", 1.0), ("parameter-prior", 1e-6)):
        out = made(
            folder, files, material, tmp_path / method, method, prior_variance=variance, steps=40
        )
        state = weights(out, "model")
        sizes.append(sum(v.square().sum() for n, v in state.items() if "encoder.input" in n))
    assert sizes[1] < 0.9 * sizes[0]


def test_an_ensemble_has_members_of_their_own_weights_and_noise(folder, files, material, tmp_path):
    out = made(folder, files, material, tmp_path / "ensemble", "ensemble", members=3)
    guide, record = load_guide(out, load_run(folder))
    assert len(guide.members) == 3
    assert record.options.members == 3
    each = [guide.members[i].heads.weight for i in range(3)]
    assert not torch.equal(each[0], each[1])
    x, t = torch.randint(0, 4, (5, 6)), torch.full((5,), 0.5)
    said = [member.predict(x, t).mean for member in guide.members]
    torch.testing.assert_close(guide.predict(x, t).mean, torch.stack(said).mean(0))
    assert replace(TINY).members == 2
    assert GuideTraining().members == 5


def test_a_member_of_an_ensemble_is_trained_as_alone(folder, files, material, tmp_path):
    for members in (1, 3):
        out = tmp_path / str(members)
        made(folder, files, material, out, "ensemble", members=members, learning_rate=0.01)
    alone, beside = (weights(tmp_path / members, "model") for members in ("1", "3"))
    own = {name: value for name, value in beside.items() if ".members.0." in name}
    assert own.keys() == alone.keys()
    torch.testing.assert_close(own, alone)
    lines = (tmp_path / "1" / "metrics.jsonl").read_text().splitlines()
    norms = [json.loads(line)["grad_norm"] for line in lines]
    assert max(norms) > Training().clip  # else nothing is clipped


def test_pretraining_learns_of_the_context_and_hands_the_network_on(
    folder, files, material, tmp_path
):
    changes = {"pretraining_steps": 150, "learning_rate": 3e-3}
    out = made(folder, files, material, tmp_path / "a", "pretrained", **changes)
    losses = [
        json.loads(line)["loss"]
        for line in (out / "pretraining" / "metrics.jsonl").read_text().splitlines()
    ]
    # 1 is what the mean target costs, and what is noise alone cannot be told from others.
    assert sum(losses[:5]) / 5 > 0.8
    assert sum(losses[-20:]) / 20 < 0.75
    # Where labels move nothing, what is left is the network that the context has made.
    idle = {"learning_rate": 1e-12, "pretraining_steps": 12}
    first = made(folder, files, material, tmp_path / "b", "pretrained", **idle)
    handed, known = weights(first, "model"), weights(first, "ema", "pretraining")
    names = [name for name in handed if name.startswith("guide.network.")]
    assert names
    for name in names:
        torch.testing.assert_close(handed[name], known[name], atol=1e-6, rtol=0)
    # The target is a function of the clean state, under a network that stays as it is.
    assert all(not name.startswith("head") for name in handed)


def test_pretrainings_target_is_what_a_random_network_says_of_the_clean_state(folder, material):
    run = load_run(folder)
    guide = make_trained(run, TINY, material).guide
    with Rng(0).torch():
        random = run.recipe.guide_network(run.facts, 8, 1).requires_grad_(False)
    stage = Pretrained(guide, random, 8, Rng(1))
    clean = material.context[torch.arange(50)]["tokens"]
    stage.measure(stage.embedded(clean, {}))
    with torch.no_grad():
        stage.head.weight.zero_()
        stage.head.bias.zero_()
    loss = stage.loss(clean, {}, Rng(2), 1.0).detach()
    assert loss.shape == (50,)
    assert float(loss.mean()) == pytest.approx(1, abs=1e-5)
    one_hot = torch.nn.functional.one_hot(clean, run.diffusion.width).float()
    right = random.eval()(one_hot, torch.zeros(50))
    assert torch.equal(stage.embedded(clean, {}), right)


@pytest.mark.parametrize("method", ["none", "context", "pretrained"])
def test_no_guide_sees_more_noise_than_it_is_to_nor_another_number_of_context(
    method, folder, files, material, tmp_path, monkeypatch
):
    seen, inner = [], Guide.inputs

    def watched(self, x, t):
        seen.append(t)
        return inner(self, x, t)

    monkeypatch.setattr(Guide, "inputs", watched)
    out = made(folder, files, material, tmp_path / "guide", method, noisiest=0.25, context_size=23)
    assert read_guide(out).finished
    assert float(torch.cat(seen).max()) == 0.25  # of the last level that it is judged at
    drawn = [t for t in seen if len(t.unique()) > 1]  # of updates; the others are of one level
    count = 2 * TINY.steps if method == "pretrained" else TINY.steps
    every = [t for t in drawn if len(t) == 16 + 23 * (method == "context")]
    assert len(every) == count
    assert all(float(t.max()) > 0.12 for t in every)
    assert {len(t) for t in drawn} <= ({16, 23, 39} if method == "context" else {16})


def test_scales_of_pretraining_are_those_of_all_the_context(
    folder, files, material, tmp_path, monkeypatch
):
    """A file in some order begins with structures that are alike."""
    monkeypatch.setattr(noiseloom.guide_stages, "_SAMPLES", 30)
    alike = torch.cat((torch.zeros(30, dtype=torch.int64), torch.arange(300)))
    ordered = replace(material, context=Picked(material.context, alike))
    out = made(folder, files, ordered, tmp_path / "guide", "pretrained")
    first, *_ = (out / "pretraining" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(first)["loss"] < 5


def test_a_context_makes_a_guide_doubt_itself_outside_of_its_data(folder, files, tmp_path_factory):
    out, told = tmp_path_factory.mktemp("out"), {}
    shifted = ["--shifted", str(files / "shifted.csv"), "--tau", "0.1"]
    for method, words in (("none", shifted[:2]), ("context", shifted)):
        train_guide(folder, files, *words, "--out", str(out / method), method=method)
        told[method] = read_guide(out / method).summary
    plain, honest = told["none"], told["context"]
    assert honest["deviation_context"] > 1.2 * plain["deviation_context"]
    assert honest["mean_context"] < plain["mean_context"]
    assert plain["mean_context"] > 0.5  # it goes on where there are no labels
    page = (out / "context" / "guide.html").read_text()
    for text in ("Shifted, ", "Held out, 1", "Context, ", "<svg", "share that the interval"):
        assert text in page
    assert "<script" not in page


def test_the_page_shows_what_is_told_best_and_worst(folder, files, material, tmp_path):
    out = made(folder, files, material, tmp_path / "guide", "none")
    run, page = load_run(folder), (out / "guide.html").read_text()
    guide, _ = load_guide(out, run)
    state = run.recipe.clean(run.parts, material.held_out.rows[torch.arange(100)])
    with torch.no_grad():
        said = guide.predict(state, torch.zeros(100))
    labels = material.held_out.labels[:, 0]
    off = (labels - said.mean[:, 0]).abs()
    order = off.argsort(stable=True).tolist()
    assert page.count("<figcaption>told best") == page.count("<figcaption>told worst") == 1
    for rows, title in ((order[:6], "told best"), (order[:-7:-1], "told worst")):
        shown = page[: page.index(f"<figcaption>{title}")].rpartition("<figure>")[2]
        found = re.findall(r'anywhere">(.*?)</th><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>', shown)
        assert [key for key, *_ in found] == [material.keys["held_out"][i] for i in rows]
        for i, (_, *told) in zip(rows, found, strict=True):
            right = labels[i], said.mean[i, 0], said.variance[i, 0].sqrt()
            assert told == [number(float(value)) for value in right]


# What lies in the folder.


def test_held_out_structures_are_the_same_for_all_seeds_and_are_not_learnt(folder, files, material):
    again = read_material(load_run(folder), sources_of(files), TINY.held_out)
    assert again.keys == material.keys
    assert not set(material.keys["learnt"]) & set(material.keys["held_out"])
    assert len(material.held_out) == 100
    assert len(material.learnt) == 400
    lines = (files / "labels.csv").read_text().splitlines()
    for part in (material.learnt, material.held_out):
        keys = material.keys["learnt" if part is material.learnt else "held_out"]
        for key, label, line in zip(keys, part.labels[:, 0].tolist(), part.lines, strict=True):
            assert lines[line - 1].startswith(f"{key},{label:g},")


def test_equal_structures_stay_in_one_part(folder, files, tmp_path):
    text = (files / "labels.csv").read_text()
    rows = text.splitlines()[1:60]
    (tmp_path / "twice.csv").write_text("\n".join(["sequence,a,c", *rows, *rows]) + "\n")
    found = read_material(
        load_run(folder), Sources(str(tmp_path / "twice.csv"), columns=("a",)), 0.3
    )
    assert len(found.learnt) + len(found.held_out) == 118
    assert not set(found.keys["learnt"]) & set(found.keys["held_out"])


def test_digests_are_those_of_earlier_guides_where_float32_tells_labels_apart():
    labels = torch.tensor([[0.1], [0.2]], dtype=torch.float64)
    assert _digest(["A", "B"], labels) == _digest(["A", "B"], labels.float())
    large = labels / 10 + 1e6
    assert _digest(["A", "B"], large) != _digest(["A", "B"], large.float())
    assert _digest(["A", "B"], large) != _digest(["A", "B"], large.flip(0))


def test_nothing_is_replaced_unless_it_is_asked_for(folder, files, material, tmp_path, capsys):
    out = made(folder, files, material, tmp_path / "guide")
    before = weights(out)
    made(folder, files, material, out)  # finished: it stays
    assert "is finished" in capsys.readouterr().err
    with pytest.raises(FileExistsError, match="was begun with width 8, not 16: replace it"):
        made(folder, files, material, out, width=16)
    other = replace(material, digests={"labels": "others"})
    with pytest.raises(FileExistsError, match="was begun with another file of labels"):
        made(folder, files, other, out)
    assert all(torch.equal(v, before[n]) for n, v in weights(out).items())
    run, options = load_run(folder), replace(TINY, method="none", width=16)
    fit_guide(run, options, out, material, sources_of(files), force=True)
    assert read_guide(out).options.width == 16
    assert not (out / ".lock").exists()
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(FileExistsError, match="holds something that is no guide"):
            fit_guide(run, TINY, strange, material, sources_of(files), force=force)
    assert [path.name for path in strange.iterdir()] == ["thesis.txt"]


def test_a_guide_that_was_damaged_or_left_while_it_was_removed_is_made_again_by_force(
    folder, files, material, tmp_path, monkeypatch
):
    run, sources = load_run(folder), sources_of(files)
    options = replace(TINY, method="none")
    out = made(folder, files, material, tmp_path / "guide")
    before = weights(out)

    def stop(*given, **more):
        raise KeyboardInterrupt

    # Of one that is not finished nothing is kept.
    told = yaml.safe_load((out / "guide.yaml").read_text())
    (out / "guide.yaml").write_text(yaml.safe_dump({**told, "summary": {}}))
    monkeypatch.setattr(noiseloom.guide_folder.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        fit_guide(run, options, out, material, sources, force=True)
    monkeypatch.undo()
    with pytest.raises(
        ValueError, match=r"does not describe a guide .* make it again with --force"
    ):
        fit_guide(run, options, out, material, sources)
    assert fit_guide(run, options, out, material, sources, force=True).finished
    assert all(torch.equal(value, before[name]) for name, value in weights(out).items())
    # Nor is one that was killed as it began something else that is in the way.
    monkeypatch.setattr(noiseloom.fit_guide, "structures", stop)
    with pytest.raises(KeyboardInterrupt):
        made(folder, files, material, tmp_path / "begun")
    monkeypatch.undo()
    assert same(made(folder, files, material, tmp_path / "begun"), out)
    # Nor one that was killed in the middle of its first file.
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / ".guide.yaml.part").write_text("opt")
    assert same(made(folder, files, material, tmp_path / "earlier"), out)


def test_an_error_after_pretraining_leaves_what_was_learnt(
    folder, files, material, tmp_path, monkeypatch
):
    out, inner = tmp_path / "guide", loop._Run._update

    def full(self, step):
        if self.out == out:
            raise OSError("no space left")
        return inner(self, step)

    monkeypatch.setattr(loop._Run, "_update", full)
    with pytest.raises(OSError, match="no space"):
        made(folder, files, material, out, "pretrained")
    assert (out / "pretraining" / "ema.safetensors").is_file()
    monkeypatch.undo()
    whole = made(folder, files, material, tmp_path / "whole", "pretrained")
    assert same(made(folder, files, material, out, "pretrained"), whole)


def test_a_finished_guide_is_judged_by_other_structures_and_not_trained_again(
    folder, files, material, tmp_path, monkeypatch
):
    without = replace(sources_of(files), shifted=None, context=None)
    first = read_material(load_run(folder), without, TINY.held_out)
    out = made(folder, files, first, tmp_path / "guide")
    before, told = weights(out), read_guide(out).summary
    assert "nll_shifted" not in told
    wider = made(folder, files, first, tmp_path / "wider", width=16)
    monkeypatch.setattr(noiseloom.fit_guide, "train_guide", None)
    made(folder, files, material, out)
    now = read_guide(out)
    assert {name: now.summary[name] for name in told} == told
    assert {"nll_shifted", "mean_context"} < set(now.summary)
    assert now.sources["shifted"] == str(files / "shifted.csv")
    assert all(torch.equal(value, before[name]) for name, value in weights(out).items())
    shutil.copy(wider / "ema.safetensors", out / "ema.safetensors")
    other = replace(material, digests={**material.digests, "shifted": "others"})
    with pytest.raises(ValueError, match=r"ema.safetensors is of another model: ") as said:
        made(folder, files, other, out)
    assert "\n" not in str(said.value)
    # Of one that has learnt with a context another one is another guide.
    monkeypatch.undo()
    out = made(folder, files, material, tmp_path / "context", "context")
    other = replace(material, digests={**material.digests, "context": "others"})
    with pytest.raises(FileExistsError, match="was begun with another file of context"):
        made(folder, files, other, out, "context")


def test_structures_are_kept_for_distances(folder, files, material, tmp_path):
    out = made(folder, files, material, tmp_path / "guide")
    assert structures(out) == material.keys
    (out / "guide.yaml").write_text("options: {widht: 3}\n")
    with pytest.raises(ValueError, match="does not describe a guide"):
        read_guide(out)


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        (
            "guide.yaml",
            {"labels": {}},
            r"guide.yaml does not describe a guide \(labels: 1 of lowest",
        ),
        ("guide.yaml", {"method": "magic"}, r"guide.yaml does not .* \(method must be one of"),
        ("structures.json", "{", r"structures.json does not list a guide's structures \(Expect"),
        ("structures.json", '{"learnt": []}', r"structures.json does not list .* \('held_out'\)"),
        ("structures.json", '{"learnt": 1, "held_out": []}', r"structures.json does not list"),
        ("selection.json", "{", r"selection.json does not say what guides were chosen by"),
        ("selection.json", "{}", r"selection.json does not say what guides were chosen by"),
    ],
)
def test_damaged_files_are_named(folder, files, material, tmp_path, name, changed, told):
    out = made(folder, files, material, tmp_path / "guide")
    path = out / name if name != "selection.json" else tmp_path / name
    if name == "guide.yaml":
        found = yaml.safe_load(path.read_text())
        inner = found["options"] if "method" in changed else found
        path.write_text(
            yaml.safe_dump(
                {**found, **changed}
                if inner is found
                else {**found, "options": {**inner, **changed}}
            )
        )
    else:
        path.write_text(changed)
    run = load_run(folder)
    read = structures if name == "structures.json" else lambda out: guides_in([str(out)], run)
    with pytest.raises(ValueError, match=told) as said:
        read(out)
    assert "\n" not in str(said.value)


def test_structures_without_lines_are_told_by_their_file(folder, files, monkeypatch):
    """Of computed labels nobody knows the lines: equal structures were left out."""
    run, sources = load_run(folder), sources_of(files)
    right = run.recipe.labelled(sources.labels, run.facts, sources.columns)

    def labelled(self, path, facts, columns):
        return Labelled(right.rows, right.labels.where(right.labels != 3, math.inf), right.names)

    monkeypatch.setattr(type(run.recipe), "labelled", labelled)
    with pytest.raises(ValueError, match=r"labels.csv, column 'a': the label is inf"):
        read_material(run, sources, 0.2)


# What is wrong gets one line.


def fails(capsys, *words):
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([str(word) for word in words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("noiseloom: error: ")
    return line


HEAD = "sequence,y\n"
GOOD = "".join(
    f"AC{a}{b}GT,{i}\n" for i, (a, b) in enumerate(zip("ACGTACGT", "AACCGGTT", strict=True))
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + GOOD + "AAAAAA,nan\n", "labels.csv, line 10, column 'y': the label is 'nan'"),
        (HEAD + GOOD + "AAAAAA,-1e39\n", "labels.csv, line 10, column 'y': the label is '-1e39'"),
        (HEAD + "AAAAAA,1\nCCCCCC,1\nGGGGGG,1\nTTTTTT,1\n", "all 4 labels are 1, from line 2 to 5"),
        (
            HEAD + GOOD + "AAXAAA,2\n",
            "labels.csv, line 10: 'X', symbol 3, is none of the 4",
        ),
        (HEAD + GOOD + "AAAAAAA,2\n", "labels.csv, line 10 has 7 symbols, and 6 are the most"),
        (HEAD + GOOD + ",2\n", "labels.csv, line 10: there is no sequence"),
        (HEAD + "AAAAAA,1\nCCCCCC,2\n", "has 2 different structures, and at least 4 are needed"),
        ("sequence,y,z\nAAAAAA,1,2\n", "several columns of numbers, y, z: say which are labels"),
        ("a,y\nAAAAAA,1\n", "no column 'w'"),
    ],
)
def test_files_of_labels_that_are_wrong_are_told_by_line(folder, tmp_path, text, told, capsys):
    (tmp_path / "labels.csv").write_text(text)
    words = ["--columns", "w"] if "w" in told.split("'") else []
    line = fails(
        capsys, "guide", folder, "--labels", tmp_path / "labels.csv", "--method=none", *words
    )
    assert told in line, line
    assert not (folder / "guides" / "none-0").exists()


def test_a_context_that_is_labelled_too_is_warned_of(folder, files, tmp_path):
    labelled = [s.split(",")[0] for s in (files / "labels.csv").read_text().splitlines()[1:8]]
    (tmp_path / "context.txt").write_text("\n".join([*labelled, "AAAAAA", "AAAAAT"]) + "\n")
    sources = replace(sources_of(files), context=str(tmp_path / "context.txt"))
    with pytest.warns(UserWarning, match=r"7 of 9 structures of .* are labelled in .* fit is lost"):
        found = read_material(load_run(folder), sources, 0.2)
    assert found.counts["shared"] == 7
    (tmp_path / "context.txt").write_text("AAAAAA\nAAUAAA\n")
    with pytest.raises(ValueError, match=r"context.txt, line 2: 'U', symbol 3, is none of the 4"):
        read_material(load_run(folder), sources, 0.2)


def test_shifted_structures_that_are_labelled_too_are_warned_of(folder, files, tmp_path):
    rows = (files / "labels.csv").read_text().splitlines()[:8]
    others = (files / "shifted.csv").read_text().splitlines()[1:4]
    (tmp_path / "shifted.csv").write_text("\n".join([*rows, *others]) + "\n")
    sources = replace(sources_of(files), shifted=str(tmp_path / "shifted.csv"))
    with pytest.warns(UserWarning, match=r"7 of 10 structures of .*shifted.csv are labelled in "):
        found = read_material(load_run(folder), sources, 0.2)
    assert found.counts["shared_shifted"] == 7
    assert read_material(load_run(folder), sources_of(files), 0.2).counts["shared_shifted"] == 0


def test_labels_that_choose_nothing_are_judged_by_beside_the_others(folder, files, tmp_path):
    """Two halves of one file; some of the second are unlabelled structures of the context, too."""
    head, *rows = (files / "shifted.csv").read_text().splitlines()
    for name, part in (("shifted", rows[:20]), ("test", rows[20:])):
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *part]) + "\n")
    both = [row.split(",")[0] for row in rows[20:27]]
    context = (files / "context.fasta").read_text() + "".join(f">x\n{s}\n" for s in both)
    (tmp_path / "context.fasta").write_text(context)
    sources = replace(
        sources_of(files),
        **{n: str(tmp_path / f"{n}.csv") for n in ("shifted", "test")},
        context=str(tmp_path / "context.fasta"),
    )
    run = load_run(folder)
    found = read_material(run, sources, 0.2)
    counts = found.counts
    assert (counts["shifted"], counts["test"]) == (20, len(rows) - 20)
    assert (counts["unlabelled_shifted"], counts["unlabelled_test"]) == (0, 7)
    told = fit_guide(run, replace(TINY, method="none"), tmp_path / "guide", found, sources).summary
    calibration = json.loads((tmp_path / "guide" / "calibration.json").read_text())
    for name in ("shifted", "test"):
        nats = calibration["sets"][name]["properties"]["a"]["nll"]
        assert told[f"nll_{name}"] == pytest.approx(sum(nats) / len(nats))
        assert calibration["sets"][name]["n"] == counts[name]
    assert told["nll_shifted"] != told["nll_test"]
    page = (tmp_path / "guide" / "guide.html").read_text()
    assert "<dt>test, in the context too</dt><dd>7</dd>" in page


@pytest.mark.parametrize("part", ["learnt", "held_out", "shifted"])
def test_labels_that_no_float32_holds_in_the_guides_units_are_told_by_line(folder, tmp_path, part):
    """Of small deviations: 1e38 held out is 1e40 of them; learnt ones of 1e-200 have none."""
    path, run = tmp_path / "labels.csv", load_run(folder)
    letters = ["".join(pair) + "ACGT" for pair in itertools.product("ACGT", repeat=2)]
    text = [f"{s},{i % 2 / 100}" for i, s in enumerate(letters)]
    path.write_text(HEAD + "\n".join(text) + "\n")
    found = read_material(run, Sources(str(path)), 0.2)
    if part == "learnt":
        path.write_text(HEAD + "\n".join(t.replace("0.01", "1e-200") for t in text) + "\n")
        row, sources, told = found.learnt.lines[0], Sources(str(path)), "labels.csv"
    else:
        row = found.held_out.lines[0]
        text[row - 2] = letters[row - 2] + ",1e38"
        wrong = path if part == "held_out" else tmp_path / "shifted.csv"
        wrong.write_text(HEAD + "\n".join(text) + "\n")
        shifted = str(wrong) if part == "shifted" else None
        sources, told = Sources(str(path), shifted=shifted), f"{wrong.name}"
    with pytest.raises(ValueError, match=rf"{told}, line {row}, column 'y': the label is "):
        read_material(run, sources, 0.2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "context"], "method context needs unlabelled structures: --context FILE"),
        (["--method", "none,coral"], "method coral needs unlabelled structures"),
        (
            ["--method", "coral", "--context", "C", "--context-size", "1"],
            "coral compares covariances: context_size must be 2 or more, got 1",
        ),
        (["--method", "nonsense"], "--method: expected one of context, none, weight-decay"),
        (
            ["--tau", "1e-5", "--context", "C"],
            "is below 0.001, where the covariance is all",
        ),
        (["--method", "none", "--sigma", "1"], "--sigma says nothing to method none: leave it out"),
        (["--method", "none", "--held-out", "1"], "held_out is a share between 0 and 1"),
        (["--method", "none", "--seeds", "0"], "--seeds must be at least 1"),
        (["--method", "none", "--select", "shifted"], "some are needed: --shifted FILE"),
        (["--method", "decay"], "expected one of"),
    ],
)
def test_options_that_are_wrong_get_one_line(folder, files, words, told, capsys):
    words = [str(files / "context.fasta") if word == "C" else word for word in words]
    labels = ["--labels", str(files / "labels.csv"), "--columns", "a"]
    assert told in fails(capsys, "guide", folder, *labels, *words)
    assert not list(folder.glob("guides/*"))


def test_a_singular_covariance_in_training_ends_it_and_leaves_nothing(
    folder, files, tmp_path, capsys, monkeypatch
):
    def singular(*given):
        raise ValueError("the context's covariance of 6 points is singular: take a larger tau")

    monkeypatch.setattr("noiseloom.context.regulariser.Kernel", singular)
    words = ["--labels", files / "labels.csv", "--columns", "a", "--steps", "5"]
    out = tmp_path / "guide"
    told = fails(
        capsys, "guide", folder, *words, "--context", files / "context.fasta", "--out", out
    )
    assert "is singular: take a larger tau" in told
    assert not out.exists()


def test_runs_without_states_to_read_are_refused(files, tmp_path, capsys):
    for state in ("autoregressive", "latent"):
        words = ["--prior", "tabular"] if state == "latent" else []
        run = train_run(files, tmp_path / state, state, "--steps", "2", *words)
        told = fails(capsys, "guide", run, "--labels", files / "labels.csv", "--method=none")
        assert f"a run of state {state} cannot be guided: train one of state masked" in told
    (tmp_path / "text.txt").write_text("so it goes " * 60)
    run = tmp_path / "text"
    words = ["--width=8", "--depth=1", "--heads=2", "--steps=2", "--no-evaluate", "--length=8"]
    assert (
        main(["train", "text", "--data", str(tmp_path / "text.txt"), "--out", str(run), *words])
        == 0
    )
    told = fails(capsys, "guide", run, "--labels", files / "labels.csv", "--method=none")
    assert "is a run of 'text', which cannot be guided" in told
    run = train_run(files, tmp_path / "masked", "masked", "--steps", "2")
    assert "guide needs --labels FILE" in fails(capsys, "guide", run)
    told = fails(capsys, "guide", "bits-digits", "--labels", files / "labels.csv", "--method=none")
    assert "bits-digits is no folder of yours to keep guides in: say where, --out FOLDER" in told


def test_every_method_says_which_options_are_its_own():
    assert set(OWN_OPTIONS) == set(METHODS)
    assert {name for names in OWN_OPTIONS.values() for name in names} < set(asdict(TINY))


def test_a_stopped_guide_says_how_to_go_on(folder, files, tmp_path, capsys, monkeypatch):
    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop._Run, "_update", stop)
    words = ["guide", str(folder), "--labels", str(files / "labels.csv"), "--columns", "a"]
    words += ["--method", "none", "--out", str(tmp_path / "guide"), "--force"]
    assert main(words) == 130
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(f"go on with: noiseloom {' '.join(words[:-1])}")
    assert shutil.rmtree(tmp_path / "guide") is None

"""Molecules from end to end: states, training, guides, files, refusals."""

import csv
import math
import multiprocessing
import os
import re
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("rdkit", reason="needs the extra chem")

from rdkit import Chem

import noiseloom
from noiseloom import training
from noiseloom.cli import main
from noiseloom.data import chemistry
from noiseloom.data.chemistry import scores
from noiseloom.data.molecular_graphs import corrected_graphs, flat, smiles_of_graphs
from noiseloom.data.molecules import parse_molecules
from noiseloom.metrics.molecules import nearest_similarity
from noiseloom.ranking import ranked
from noiseloom.recipes import ContextMolecules, Guiding
from noiseloom.recipes.molecule_states import GraphCodec, pack
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.sampling import final
from noiseloom.steering import load_guides, steered
from noiseloom.training import checkpoint, loop

SAMPLE = Path(__file__).parent / "data" / "zinc_sample.smi"
NETWORK = {"width": 16, "edge_width": 8, "depth": 1, "heads": 2}
WORDS = [f"--{name.replace('_', '-')}={value}" for name, value in NETWORK.items()]
TINY = [*WORDS, "--max-atoms", "12", "--sampling-steps", "6", "--samples", "12"]
GUIDE = ["--steps", "20", "--width", "8", "--depth", "1", "--context-size", "8"]
ROWS = {"row": torch.arange(10)}
TRAIN = ["train", "context-molecules", "--data", str(SAMPLE), *TINY]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def own_recipe(**options):
    return ContextMolecules(**{**NETWORK, "max_atoms": 12, "sampling_steps": 6, **options})


def awake(recipe, facts, seed=1):
    """The parts of a recipe, whose network says something of its state."""
    with Rng(seed).torch(), torch.no_grad():
        parts = recipe.build(facts)
        for parameter in parts.denoiser.parameters():
            parameter.normal_(std=0.2)
    return replace(parts, denoiser=parts.denoiser.eval().requires_grad_(False))


def permuted(graphs, order):
    graphs = graphs[:, order]
    return torch.cat((graphs[:, :, :1], graphs[:, :, 1:][:, :, order]), -1)


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISELOOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data():
    return own_recipe().load(str(SAMPLE))


@pytest.fixture(scope="module")
def facts(data):
    return own_recipe().facts(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a guide of either method."""
    folder = tmp_path_factory.mktemp("runs") / "molecules"
    assert main([*TRAIN, "--out", str(folder), "--steps", "30"]) == 0
    sources = ["--labels", str(SAMPLE), "--context", f"{SAMPLE}:validation"]
    sources += ["--shifted", f"{SAMPLE}:test"]
    assert main(["guide", str(folder), *sources, "--method", "context,none", *GUIDE]) == 0
    return folder


def load(folder):
    return noiseloom.load(folder, device="cpu")


# Data and states.


def test_the_better_half_is_held_out(data, facts):
    """Check 17: no label of training exceeds the median, and nothing is on both sides."""
    whole, _ = own_recipe().read(str(SAMPLE))
    assert data.train.labels.max() <= whole.labels.median() <= data.held_out.labels.min()
    assert len(data.train) + len(data.held_out) == len(whole)
    assert not set(data.train.keys) & set(data.held_out.keys)
    assert facts["ceiling"] == float(data.train.labels.max())
    parts = [own_recipe().part(whole, word) for word in ("validation", "test")]
    assert {k for p in parts for k in p.keys} == set(data.held_out.keys)
    at_random = own_recipe(split="random").load(str(SAMPLE))
    assert len(at_random.train) == len(data.train)
    assert at_random.train.labels.max() > data.held_out.labels.min()


def test_facts_count_atoms(data, facts):
    sizes = [flat(key).GetNumAtoms() for key in data.train.keys]
    assert facts["counts"] == [sizes.count(n) for n in range(facts["atoms"] + 1)]


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, 3.0)])
def test_states_are_graphs_and_come_back(data, scales):
    graphs = data.train.graphs
    codec = GraphCodec(len(data.train.kinds), *scales)
    state = codec.encode(graphs)
    assert torch.equal(codec.decode(state), graphs)
    assert torch.equal(codec.mask(state), graphs[:, :, 0] >= 0)
    nodes, edges = state["nodes"], state["edges"][..., 0]
    assert torch.equal(nodes.sum(-1), scales[0] * (graphs[:, :, 0] >= 0))
    assert torch.equal(edges, scales[1] * graphs[:, :, 1:])
    again = codec.unpack(pack(state))
    assert all(torch.equal(again[name], state[name]) for name in state)
    noise = Rng(0).normal(edges.shape) * 0.4 * scales[1]
    near = {
        "nodes": nodes
        + 0.4 * scales[0] * Rng(1).uniform(nodes.shape) * (nodes > 0).any(-1)[..., None]
    }
    near["edges"] = (edges + noise.clamp(-0.4 * scales[1], 0.4 * scales[1]))[..., None]
    assert torch.equal(codec.decode(near), graphs)


def test_heads_know_the_codes(data, facts):
    codec = own_recipe().codec(facts)
    state = codec.encode(data.train.graphs)
    kinds = data.train.graphs[:, :, 0].long().clamp(min=0)
    logits = 50.0 * torch.nn.functional.one_hot(kinds, codec.kinds)
    real = codec.mask(state)
    torch.testing.assert_close(codec.node_head(logits).mean[real], state["nodes"][real])
    orders = data.train.graphs[:, :, 1:].long()
    logits = 50.0 * torch.nn.functional.one_hot(orders, 4)
    torch.testing.assert_close(codec.edge_head(logits).mean, state["edges"])


# Networks and losses.


def test_what_is_said_follows_the_order_of_the_atoms(data, facts):
    recipe, order = own_recipe(), Rng(3).permutation(12)
    parts = awake(recipe, facts)
    graphs = data.train.graphs[:6]
    codec, t = recipe.codec(facts), torch.linspace(0.1, 0.9, 6)

    def said(graphs, noise):
        cond = recipe.told({"graph": graphs}, facts, Rng(0))
        clean = codec.encode(graphs)
        schedule = parts.diffusion.schedule(t[:, None, None])
        x = {"nodes": schedule[0] * clean["nodes"] + schedule[1] * noise["nodes"]}
        alpha, sigma = (v[..., None] for v in schedule)
        x["edges"] = alpha * clean["edges"] + sigma * noise["edges"]
        x = {
            n: own.subspace.project(x[n])
            for n, own in parts.diffusion.on(cond["mask"]).parts.items()
        }
        return parts.denoiser(x, t, cond)[0]

    noise = {
        "nodes": Rng(1).normal((6, 12, len(facts["kinds"]))),
        "edges": Rng(2).normal((6, 12, 12, 1)),
    }
    moved = {"nodes": noise["nodes"][:, order], "edges": noise["edges"][:, order][:, :, order]}
    one, other = said(graphs, noise), said(permuted(graphs, order), moved)
    torch.testing.assert_close(other["nodes"].mean, one["nodes"].mean[:, order], rtol=0, atol=1e-5)
    expected = one["edges"].mean[:, order][:, :, order]
    torch.testing.assert_close(other["edges"].mean, expected, rtol=0, atol=1e-5)
    assert one["nodes"].mean.std() > 0.05


def test_the_loss_does_not_know_the_order_nor_the_padding(data, facts):
    """At time 0 there is no noise that could tell: the losses of a graph moved, and in a larger
    table, are its own."""
    recipe = own_recipe()
    parts = awake(recipe, facts)
    graphs = data.train.graphs[:8]
    wide = data.train.fitted(facts["kinds"], 15)[0].graphs[:8]
    order = Rng(3).permutation(12)

    def loss(graphs):
        clean = parts.codec.encode(graphs)
        cond = recipe.told({"graph": graphs}, facts, Rng(0))
        diffusion = parts.diffusion.on(cond["mask"])
        found = noiseloom.denoising_loss(
            parts.denoiser, diffusion, clean, torch.zeros(8), cond, Rng(5), cross_entropy=True
        )
        return found["nodes"] + 5 * found["edges"]

    first = loss(graphs)
    torch.testing.assert_close(loss(permuted(graphs, order)), first, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(loss(wide), first, rtol=1e-2, atol=1e-3)
    assert first.std() > 0.05


def test_the_loss_is_of_atoms_and_bonds_that_are_there(data, facts):
    """By hand: nats of a network that says nothing are ln K and, a pair, 5 ln 4."""
    recipe = own_recipe()
    with Rng(0).torch():
        parts = recipe.build(facts)
    graphs = data.train.graphs[:5]
    found = recipe.loss(parts, facts)(parts.denoiser, {"graph": graphs}, Rng(1), torch.arange(5))
    expected = math.log(len(facts["kinds"])) + 5 * math.log(4)
    torch.testing.assert_close(found, torch.full((5,), expected))


@pytest.mark.parametrize("corrector", [0, 2])
def test_samples_are_graphs_of_as_many_atoms_as_were_asked_for(facts, corrector):
    recipe = own_recipe(corrector=corrector)
    parts, counts = awake(recipe, facts), torch.tensor([1, 3, 7, 12])
    rng = Rng(2).samples(4)
    steps = list(recipe.draw(parts, facts, {"atoms": counts}, rng))
    for step in steps:
        state = parts.codec.unpack(step.result)
        nodes, edges = state["nodes"], state["edges"]
        real = torch.arange(12) < counts[:, None]
        assert torch.equal(parts.codec.mask(state), real)
        assert not nodes[~real].any()
        assert not edges[~(real[:, :, None] & real[:, None])].any()
        assert torch.equal(edges, edges.transpose(1, 2))
        assert not edges.diagonal(dim1=1, dim2=2).any()
    drawn = recipe.decode(parts, steps[-1].result, {})
    assert (drawn[:, :, 0] >= 0).sum(1).tolist() == counts.tolist()
    assert torch.equal(drawn[:, :, 1:], drawn[:, :, 1:].mT)
    with pytest.raises(ValueError, match="atoms must be 1 to 12, got 0 to 3"):
        final(recipe.draw(parts, facts, {"atoms": torch.tensor([0, 3])}, Rng(2).samples(2)))


def test_numbers_of_atoms_are_those_of_training(facts):
    """A chi-square of 3,000 draws: within 3.8 deviations of its law, and a bit for its skew."""
    recipe = own_recipe(sampling_steps=1)
    mask = recipe._mask(facts, {}, Rng(0).samples(3000).fold("atoms"), torch.device("cpu"))
    share = torch.tensor(facts["counts"], dtype=torch.float64)
    expected = 3000 * share / share.sum()
    found = mask.sum(1).bincount(minlength=len(share)).double()
    assert not found[expected == 0].any()
    there = expected > 0
    freedom = int(there.sum()) - 1
    square = float(((found - expected)[there] ** 2 / expected[there]).sum())
    assert square < freedom + 3.8 * math.sqrt(2 * freedom) + 10


def test_a_sample_is_the_same_in_any_batch(facts, tmp_path):
    recipe = own_recipe()
    own = Run(tmp_path, recipe, facts, awake(recipe, facts))
    whole = own.samples(ROWS, seed=3)
    assert torch.equal(own.samples(ROWS, seed=3, batch_size=3), whole)
    assert torch.equal(own.samples({"row": torch.arange(4)}, seed=3), whole[:4])
    other = own.with_options(corrector=1).samples(ROWS, seed=3)
    assert not torch.equal(other, whole)


def test_a_handful_is_learnt_by_heart(tmp_path):
    """Four molecules of three atoms, 1,000 updates: most draws are one of them, as drawn."""
    keys = ["CCO", "CC=O", "C1CC1", "FCF"]
    recipe = ContextMolecules(
        **{**NETWORK, "width": 32, "edge_width": 16, "depth": 2},
        steps=1000,
        batch_size=24,
        learning_rate=4e-3,
        max_atoms=3,
        self_conditioning=0.9,
        sampling_steps=40,
        ema_decay=0.98,
    )
    found, _, _ = parse_molecules(keys, keys, max_atoms=3)
    sizes = found.sizes.bincount(minlength=4).tolist()
    facts = {"kinds": list(found.kinds), "atoms": 3, "counts": sizes, "ceiling": 1.0}
    with Rng(0).torch():
        parts = recipe.build(facts)
    loss = recipe.loss(parts, facts)
    for _ in training.train(parts.denoiser, loss, found, recipe, tmp_path / "run"):
        pass
    parts.denoiser.load_state_dict(checkpoint.read(tmp_path / "run" / "ema.safetensors"))
    parts.denoiser.eval().requires_grad_(False)
    own = Run(tmp_path / "run", recipe, facts, parts)
    drawn = smiles_of_graphs(own.samples({"row": torch.arange(100)}, seed=1), found.kinds)
    known = {Chem.CanonSmiles(key) for key in keys}
    assert sum(key in known for key in drawn) >= 80
    assert set(drawn) >= known


# Runs.


def _killed(out):
    """Train, and end by SIGKILL at the 18th update, three after a checkpoint."""
    torch.set_num_threads(1)
    inner, calls = loop._Run._update, []

    def last_time(*args, **more):
        calls.append(1)
        if len(calls) == 18:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*args, **more)

    loop._Run._update = last_time
    main([*TRAIN, "--out", str(out), "--steps", "30", "--checkpoint-every", "5", "--no-evaluate"])


def test_a_training_that_was_killed_comes_to_the_same_weights(run, tmp_path):
    out = tmp_path / "killed"
    process = multiprocessing.get_context("forkserver").Process(target=_killed, args=(out,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert main(["train", "context-molecules", "--out", str(out), "--resume", "--no-evaluate"]) == 0
    for name in ("model", "ema"):
        one, other = (checkpoint.read(f / f"{name}.safetensors") for f in (run, out))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_is_judged_shown_and_drawn(run, tmp_path, capsys):
    assert main(["evaluate", str(run)]) == 0
    told = capsys.readouterr().out
    for name in ("valid", "valid_corrected", "unique", "novel", "label", "fingerprint_mmd"):
        assert name in told
    page = (run / "report.html").read_text()
    assert page.count("<svg") >= 3
    assert "held out" in page
    out = tmp_path / "drawn.csv"
    assert main(["sample", str(run), "-n", "6", "--seed", "3", "--out", str(out)]) == 0
    rows = rows_of(out)
    drawn = load(run).samples({"row": torch.arange(6)}, seed=3)
    kinds = load(run).facts["kinds"]
    assert [row["as_drawn"] for row in rows] == smiles_of_graphs(drawn, kinds)
    mended = smiles_of_graphs(corrected_graphs(drawn, kinds), kinds)
    assert [row["structure"] for row in rows] == mended
    assert all(mended)
    for row in rows:
        y, qed, sa = scores([Chem.MolFromSmiles(row["structure"])])[0].tolist()
        assert [float(row[n]) for n in ("qed_sa", "qed", "sa")] == pytest.approx(
            [y, qed, sa], abs=1e-6
        )
    assert out.with_suffix(".svg").read_text().startswith("<svg")
    sdf = list(Chem.SDMolSupplier(str(out.with_suffix(".sdf"))))
    assert [Chem.MolToSmiles(m) for m in sdf] == mended
    out.unlink()
    asked = ["sample", str(run), "-n", "6", "--out", str(out.with_suffix(".sdf"))]
    assert main(asked) == 2
    assert "drawn.sdf exists" in capsys.readouterr().err
    assert main([*asked, "--force"]) == 0
    assert len(rows_of(out)) == 6


def test_a_run_is_judged_on_other_molecules_that_it_knows(run, tmp_path, capsys):
    """Of a column that is named, in another file, with atoms that the run has not."""
    lines = [f"{i},{key}" for i, key in enumerate([*SAMPLE.read_text().split(), "C[Si]C"])]
    (tmp_path / "other.csv").write_text("\n".join(["id,smiles", *lines[5:]]) + "\n")
    assert main(["evaluate", str(run), "--data", str(tmp_path / "other.csv")]) == 0
    told = capsys.readouterr()
    assert "1 molecules with other elements are left out" in told.err
    assert "label" in told.out


def test_the_figures_of_an_evaluation_are_those_of_what_was_drawn(run, data):
    own = load(run)
    known = data.train.graphs[:3]
    known = torch.cat((known, data.held_out.graphs[:1], known[:1]))
    found = own.recipe.evaluate(lambda given: known, data, Rng(0))
    assert found["valid"] == 1
    assert found["unique"] == pytest.approx(4 / 5)
    assert found["novel"] == pytest.approx(1 / 4)
    similar = nearest_similarity(data.held_out.keys[:1], data.train.keys)
    assert found["far"] == pytest.approx(float(similar < 0.4) / 4)
    assert found["label_train"] == pytest.approx(float(data.train.labels.mean()))
    assert found["above"] == pytest.approx(1 / 5)


def test_molecules_may_stay_as_they_were_drawn(run):
    own = load(run)
    drawn = own.samples(ROWS, seed=1)
    raw = own.with_options(correct=False)
    kinds = own.facts["kinds"]
    assert raw.recipe.keys(own.parts, own.facts, drawn) == smiles_of_graphs(drawn, kinds)
    assert all(own.recipe.keys(own.parts, own.facts, drawn))


# Guides.


def test_how_samples_are_corrected_may_be_typed(run, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("noiseloom.drawing.sample", lambda _, changes, **__: asked.append(changes))
    monkeypatch.setattr("noiseloom.commands.evaluate", lambda _, new, **__: asked.append(new))
    options = {"corrector": 2, "corrector_noise": 0.5, "corrector_snr": 0.3, "correct": False}
    words = [w for n, v in options.items() for w in (f"--{n.replace('_', '-')}", str(v).lower())]
    for verb in ("sample", "evaluate"):
        assert main([verb, str(run), *words]) == 0
        assert asked.pop() == options
    monkeypatch.undo()
    assert load(run).with_options(**options).recipe.corrector == 2
    assert main(["sample", str(run), "--scale", "2"]) == 2
    _one_line(capsys, "--scale needs --guide FOLDER")


def test_training_times_are_logit_normal_or_uniform(data, facts, monkeypatch):
    """Of the two clocks half of the times are within (0.208, 0.435), or (0.25, 0.75)."""
    import noiseloom.recipes.context_molecules as module

    seen, batch = [], data.train[torch.zeros(2000, dtype=torch.int64)]

    def loss(model, diffusion, clean, times, *_, **__):
        seen.append(times)
        return {"nodes": times, "edges": times}

    monkeypatch.setattr(module, "denoising_loss", loss)
    for kind, low, high in (("logit-normal", 0.2076, 0.4353), ("uniform", 0.25, 0.75)):
        recipe = own_recipe(times=kind)
        parts = awake(recipe, facts)
        recipe.loss(parts, facts)(parts.denoiser, batch, Rng(0), torch.arange(2000))
        share = float(((seen[-1] > low) & (seen[-1] < high)).float().mean())
        assert share == pytest.approx(0.5, abs=0.04)


def test_guides_learn_the_labels_of_the_worse_half(run, data):
    own = load(run)
    labelled = own.recipe.labelled(str(SAMPLE), own.facts, None)
    assert labelled.names == ("qed_sa",)
    assert labelled.lines == ()  # equal ones were left out, and parts were made: nobody knows them
    torch.testing.assert_close(labelled.labels[:, 0], data.train.labels.double())
    shifted = own.recipe.labelled(f"{SAMPLE}:high", own.facts, ("qed_sa",))
    torch.testing.assert_close(shifted.labels[:, 0], data.held_out.labels.double())
    text = (run / "guides" / "context-0" / "guide.yaml").read_text()
    assert "shifted: " in text


@pytest.mark.parametrize(
    ("way", "rule", "corrector"),
    [
        ("tilt", "constant", 0),
        ("tilt", "constant", 1),
        ("nudge", "constant", 0),
        ("tilt", "norm-ratio", 0),
    ],
)
def test_scale_0_is_unguided_bit_for_bit_and_others_are_not(run, way, rule, corrector):
    guide = run / "guides" / "none-0"

    def steps(scale):
        more = {"way": way, "rule": rule, "corrector": corrector}
        led = steered(load(run), guide, target="maximise", scale=scale, **more)
        return final(led.steps(ROWS, seed=1)).result

    plain = load(run).with_options(corrector=corrector, corrector_noise=0.8)
    unguided = final(plain.steps(ROWS, seed=1)).result
    assert torch.equal(steps(0.0), unguided)
    moved = steps(3.0)
    assert not torch.equal(moved, unguided)
    codec = load(run).parts.codec
    assert torch.equal(codec.mask(codec.unpack(moved)), codec.mask(codec.unpack(unguided)))


def test_hits_are_ranked_and_written_as_a_table_and_as_sdf(run, tmp_path, capsys):
    out = tmp_path / "hits.sdf"
    words = ["--guide", str(run / "guides" / "context-0"), "--target", "0.6", "-n", "8"]
    words += ["--corrector", "1", "--out", str(out)]
    assert main(["sample", str(run), *words]) == 0
    assert str(out) in capsys.readouterr().out
    rows = rows_of(tmp_path / "hits.csv")
    sdf = list(Chem.SDMolSupplier(str(out)))
    assert [Chem.MolToSmiles(m) for m in sdf] == [row["structure"] for row in rows]
    for molecule, row in zip(sdf, rows, strict=True):
        for name in ("prediction_qed_sa", "deviation_qed_sa", "distance", "qed_sa", "new"):
            assert molecule.GetProp(name) == row[name]
    assert main(["sample", str(run), *words]) == 2
    assert "hits.csv exists" in capsys.readouterr().err
    (tmp_path / "hits.csv").unlink()
    assert main(["sample", str(run), *words]) == 2
    assert "hits.sdf exists" in capsys.readouterr().err
    picture = (tmp_path / "hits.svg").read_text()
    assert picture.startswith("<svg")
    out.unlink()
    assert main(["sample", str(run), *words]) == 2
    assert "hits.svg exists" in capsys.readouterr().err
    assert main(["sample", str(run), *words, "--force"]) == 0
    assert (tmp_path / "hits.svg").read_text() == picture


def test_the_page_of_a_guide_draws_held_out_molecules(run):
    page = (run / "guides" / "context-0" / "guide.html").read_text()
    for title in ("told best", "told worst"):
        shown = page[: page.index(f"<figcaption>{title}")].rpartition("<figure>")[2]
        assert shown.count("<svg") == 1
        assert len(set(re.findall(r"atom-(\d+)", shown))) > 3
        assert "</table>" not in shown


def test_a_table_of_hits_by_hand(run, data):
    own, folder = load(run), run / "guides" / "none-0"
    guide, records = load_guides(own, folder)
    drawn = torch.cat((data.train.graphs[:4], data.held_out.graphs[:2], data.train.graphs[:1]))
    table = ranked(own, guide, records, Guiding(target="maximise"), drawn, [folder])
    assert table.counts == {"drawn": 7, "invalid": 0, "different": 6, "new": 2}
    assert set(table.column("structure")) == {*data.train.keys[:4], *data.held_out.keys[:2]}
    predicted = table.column("prediction_qed_sa")
    assert predicted == sorted(predicted, reverse=True)
    from noiseloom.guide_folder import structures

    learnt = structures(folder)["learnt"]
    away = 1 - nearest_similarity(table.column("structure"), learnt)
    assert table.column("distance") == pytest.approx(away.tolist())


def test_true_values_are_of_molecules_alone(run, data):
    own = load(run)
    recipe = replace(own.recipe, correct=False)
    graphs = torch.cat((data.train.graphs[:3], torch.zeros_like(data.train.graphs[:1])))
    graphs[1, 0, 2:] = graphs[1, 2:, 1] = 3  # more bonds than an atom has
    found = recipe.true_values(own.parts, own.facts, graphs)
    keys = recipe.keys(own.parts, own.facts, graphs)
    assert [bool(key) for key in keys] == [True, False, True, False]
    by_hand = scores([Chem.MolFromSmiles(keys[0]), Chem.MolFromSmiles(keys[2])])
    for i, name in enumerate(("qed_sa", "qed", "sa")):
        assert found[name][[0, 2]].tolist() == pytest.approx(by_hand[:, i].tolist())
        assert found[name][[1, 3]].isnan().all()


def test_molecules_are_judged_beside_each_other_at_several_scales(run, tmp_path, capsys):
    words = ["--guide", "context-0,none-0", "--target", "maximise", "--scales", "0,1"]
    assert (
        main(["evaluate", str(run), *words, "--samples", "8", "--out", str(tmp_path / "table")])
        == 0
    )
    assert "best" in capsys.readouterr().out
    assert (tmp_path / "table" / "table.json").is_file()


def test_labels_of_ones_own_come_from_a_table(run, data, tmp_path):
    keys = [*data.train.keys[:12], "C[Si](C)(C)C", "CCCCCCCCCCCCCCCC"]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["smiles,y", *(f"{k},{i}" for i, k in enumerate(keys))]) + "\n")
    own = load(run)
    with pytest.warns(UserWarning, match=r"mine.csv: 1 molecules (with|of more) .* line 1[45]$"):
        found = own.recipe.labelled(str(path), own.facts, None)
    assert found.names == ("y",)
    assert found.labels[:, 0].tolist() == list(range(12))
    assert found.lines == tuple(range(2, 14))
    assert found.rows.keys == data.train.keys[:12]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        words = ["--labels", str(path), "--method", "none", "--out", str(tmp_path / "guide")]
        assert main(["guide", str(run), *words, *GUIDE[:-2]]) == 0


def test_molecules_that_the_run_does_not_know_are_told_by_the_first(run, data, tmp_path):
    own, path = load(run), tmp_path / "context.smi"
    assert "P" not in own.facts["kinds"]
    path.write_text("\n".join([*data.train.keys[:3], "CCP", "PC", "CCCCCCP", "CCP"]) + "\n")
    with pytest.warns(UserWarning, match=r"^3 molecules of .*context.smi have .* out: CCP first$"):
        assert len(own.recipe.unlabelled(str(path), own.facts)) == 3
    path.write_text("\n".join([*data.train.keys[:3], "CC.O", "C" * 13, "C" * 14]) + "\n")
    told = r"context.smi: 1 molecules in several pieces are left out, the first at line 4; 2 mol"
    with pytest.warns(UserWarning, match=told):
        assert len(own.recipe.unlabelled(str(path), own.facts)) == 3


# What is refused.


def _one_line(capsys, told):
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in error


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--max-atoms", "1"], "max_atoms must be 2 to 127, got 1"),
        (["--width", "9"], "must be even"),
        (["--heads", "3"], "heads a divisor of width"),
        (["--sampler", "heun"], "sampler heun is of states that are one tensor"),
        (["--churn", "4"], "churn is of states that are one tensor"),
        (["--corrector", "-1"], "a corrector needs snr > 0"),
        (["--edge-weight", "0"], "edge_weight must be above 0"),
    ],
)
def test_trainings_that_cannot_be(options, told, tmp_path, capsys):
    assert main([*TRAIN, "--out", str(tmp_path / "run"), *options]) == 2
    _one_line(capsys, told)


def test_without_rdkit_there_is_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    chemistry._sa_scorer.cache_clear()
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) != 0
    _one_line(capsys, "molecules need RDKit: pip install 'noiseloom[chem]'")
    assert not (tmp_path / "run").exists()


def test_files_that_do_not_fit(run, tmp_path, capsys):
    path = tmp_path / "labels.csv"
    path.write_text("smiles,y\nCCO,1\nC1CC,2\n")
    for words, told in (
        (["--labels", str(path)], "labels.csv, line 3: 'C1CC' is no SMILES"),
        (["--labels", str(SAMPLE), "--columns", "docking"], "one label is computed, qed_sa"),
        (["--labels", str(tmp_path / "no.smi")], "no.smi"),
        ([], "guide needs --labels FILE"),
    ):
        words = [*words, "--method", "none", "--out", str(tmp_path / "g")]
        assert main(["guide", str(run), *words]) == 2
        _one_line(capsys, told)
    train = ["train", "context-molecules", "--out", str(tmp_path / "run"), *TINY]
    assert main(train) == 2
    _one_line(capsys, "context-molecules needs --data FILE of SMILES")


def test_a_guide_of_other_atoms(run, tmp_path, capsys):
    folder = tmp_path / "small"
    words = ["--out", str(folder), "--steps", "2", "--max-atoms", "11", "--no-evaluate"]
    assert main([*TRAIN, *words]) == 0
    capsys.readouterr()
    words = ["--guide", str(run / "guides" / "none-0"), "--target", "minimise"]
    assert main(["sample", str(folder), *words, "--out", str(tmp_path / "hits.csv")]) == 2
    _one_line(capsys, "is for runs with another")

"""Captions by every state: what is drawn, what is told, what is refused, and how runs go on."""

import shutil
from dataclasses import replace
from itertools import islice

import pytest
import torch
from captioned_world import LENGTH, Halves, words
from torch import nn

from noiseloom import Rng
from noiseloom.captioning import captions_of, words_of, words_so_far
from noiseloom.data.tokens import halved
from noiseloom.next_token import NextToken
from noiseloom.recipes import Captions
from noiseloom.recipes.caption_encoders import Captioner, Lite0Maps
from noiseloom.recipes.class_pieces import Rows
from noiseloom.run import Run
from noiseloom.training import train

STATES = ("masked", "uniform", "marginal", "bits", "onehot", "embedding", "autoregressive")
CODES = ("bits", "onehot", "embedding")


def built(recipe, seed=0):
    data = recipe.load(None)
    facts = recipe.facts(data)
    with Rng(seed).torch():
        parts = recipe.build(facts)
    return parts, facts, data


def felt(parts):
    """The same parts, of which none is silent."""
    with Rng(9).torch(), torch.no_grad():
        for parameter in parts.denoiser.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.2)
    return parts


def learnt(recipe, folder):
    parts, facts, data = built(recipe)
    loss = recipe.loss(parts, facts)
    for _ in train(parts.denoiser, loss, data.train, recipe, folder):
        pass
    parts.denoiser.eval().requires_grad_(False)
    return Run(folder, recipe, facts, parts), data


def tiny(**options):
    return Halves(width=16, encoder_width=16, depth=1, **options)


def pixels(data, count=6):
    return data.held_out[torch.arange(count)]["pixels"]


@pytest.mark.parametrize(
    "state",
    [
        s if s in ("masked", "bits", "autoregressive") else pytest.param(s, marks=pytest.mark.slow)
        for s in STATES
    ],
)
def test_where_a_caption_is_a_function_of_the_picture_it_is_found(state, tmp_path, one_thread):
    more = {"temperature": 0.0} if state == "autoregressive" else {}
    if state not in ("masked", "bits", "autoregressive"):  # there is more to learn
        more = {"steps": 700, "sampling_steps": 30}
    run, data = learnt(Halves(state=state, **more), tmp_path / "run")
    found = run.recipe.evaluate(run.samples, data, Rng(0))
    assert found["true"] > 0.9  # there are 64 captions, of one word to five
    assert "invalid" not in found
    assert found["true_elsewhere"] < 0.2
    # A caption knows the picture, and no more than the picture.
    held = data.held_out
    told = captions_of(run, held.pixels[:16], seed=3)
    assert [c.text for c in told] == words().decode(
        run.samples({"pixels": held.pixels[:16]}, seed=3)
    )
    assert sum(c.text == held.sayings[i] for i, c in enumerate(told)) >= 13
    sure = [s for c in told for _, s in c.words]
    assert all(0 <= s <= 1 for s in sure)
    assert len(sure) == sum(len(c.text.split()) for c in told)
    assert len(told[0].steps) == (0 if state == "autoregressive" else run.recipe.sampling_steps)
    if state != "autoregressive":
        assert all(c.steps[-1] == c.text for c in told)
    for name in {"masked": ("confidence",), "autoregressive": ("beams",)}.get(state, ()):
        changes = {"unmask": "confidence"} if name == "confidence" else {"beams": 3}
        if name == "beams":
            changes["temperature"] = 1.0
        drawn = run.with_options(**changes).samples({"pixels": held.pixels}, seed=0)
        said = words().decode(drawn)
        assert sum(a == b for a, b in zip(said, held.sayings, strict=True)) > 0.9 * len(said)


def test_the_halves_of_what_is_held_out_share_no_picture():
    seen = {}
    for half in ("both", "first", "second"):
        recipe = tiny(half=half, samples=20)
        data = recipe.load(None)
        told = []

        def draw(given, told=told, data=data):
            told.append(given["pixels"])
            return data.held_out.values[: len(given["pixels"])]

        assert recipe.evaluate(draw, data, Rng(0))["n"] == 20
        seen[half] = told[0]
    held = data.held_out
    assert torch.equal(seen["both"], held.pixels[torch.arange(20) * 64 // 20])
    firsts = [texts[0] for texts in held.references]
    parts = [halved(firsts, half) for half in ("first", "second")]
    assert sorted(torch.cat(parts).tolist()) == list(range(64))
    assert not {firsts[row] for row in parts[0]} & {firsts[row] for row in parts[1]}
    assert abs(len(parts[0]) - 32) <= 1
    for half, rows in zip(("first", "second"), parts, strict=True):
        assert torch.equal(seen[half], held.pixels[rows[torch.arange(20) * len(rows) // 20]])
    assert "half" in recipe.changeable()


def test_halves_part_no_caption():
    """As many pictures have one caption: the styles of an emoji, or the pictures of a sentence."""
    said = ["sun", "moon", "star", "rain", "sun", "moon", "star", "rain"]
    assert halved(said, "first").tolist() == [0, 1, 4, 5]
    assert halved(said, "second").tolist() == [2, 3, 6, 7]
    assert halved(said, "both").tolist() == list(range(8))
    assert halved(["b", *"aaaaaaaaa"], "second").tolist() == list(range(1, 10))
    assert halved([*"aaaaaaaaa", "b"], "second").tolist() == [9]
    assert halved(["a", "a", "a", "b"], "second").tolist() == [3]
    recipe = tiny(half="second", samples=20)
    data = recipe.load(None)
    data.held_out.references = [(("!", "?")[row % 2],) for row in range(len(data.held_out))]
    told = []
    recipe.evaluate(lambda given: told.append(given) or data.held_out.values[:20], data, Rng(0))
    assert torch.equal(
        told[0]["pixels"], data.held_out.pixels[1 + 2 * (torch.arange(20) * 32 // 20)]
    )
    data.held_out.references = [("black",)] * len(data.held_out)
    with pytest.raises(ValueError, match="leave half at both"):
        recipe.evaluate(lambda given: None, data, Rng(0))


@pytest.mark.parametrize("state", STATES)
def test_a_picture_is_read_once_for_a_drawing_and_for_a_step(state):
    recipe = tiny(state=state, guidance=2.0)
    parts, facts, data = built(recipe)
    felt(parts)
    calls, reads = [], []
    parts.denoiser.encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    network = next(m for n, m in parts.denoiser.named_modules() if n.endswith("network"))
    network.register_forward_pre_hook(lambda *_: reads.append(1))
    batch, rows = data.train[torch.arange(8)], torch.arange(8)
    recipe.loss(parts, facts)(parts.denoiser.train(), batch, Rng(0).samples(8), rows)
    assert len(calls) == 1
    assert len(reads) == 1 + (state in CODES)  # two passes of self-conditioning
    calls.clear()
    reads.clear()
    *_, last = recipe.draw(parts, facts, {"pixels": pixels(data)}, Rng(1).samples(6))
    assert len(calls) == 1
    assert len(reads) > 2
    if state in CODES:
        assert len(reads) == 2 * recipe.sampling_steps  # two branches of guidance
    assert recipe.decode(parts, last.result, {}).shape == (6, LENGTH)


@pytest.mark.parametrize("state", STATES)
def test_guidance_at_one_is_none_and_at_zero_sees_no_picture(state):
    parts, facts, data = built(tiny(state=state))
    felt(parts)
    seen, other = pixels(data, 32), pixels(data, 32).flip(0)
    recipe, keys = tiny(state=state), Rng(2).samples(32)

    def drawn(options, shown=seen):
        steps = replace(recipe, **options).draw(parts, facts, {"pixels": shown}, keys)
        return [step.result for step in steps]

    plain, one = drawn({}), drawn({"guidance": 1.0})
    assert all(torch.equal(a, b) for a, b in zip(plain, one, strict=True))
    zero, blind = drawn({"guidance": 0.0}), drawn({"guidance": 0.0}, other)
    assert all(torch.equal(a, b) for a, b in zip(zero, blind, strict=True))
    assert not torch.equal(zero[-1], plain[-1])
    # What a model sees that is shown no pictures at all, rows of a batch among them.
    with torch.no_grad():
        parts.denoiser.encoder.keys.told.weight.zero_()
        parts.denoiser.encoder.keys.told.bias.zero_()
    for a, b in zip(drawn({}), zero, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("state", STATES)
def test_each_caption_is_of_its_own_picture(state):
    recipe = tiny(state=state)
    parts, facts, data = built(recipe)
    run = Run(None, recipe, facts, felt(parts))
    parts.denoiser.eval()
    shown = pixels(data, 12)
    drawn = run.samples({"pixels": shown}, seed=4)
    assert torch.equal(run.samples({"pixels": shown}, seed=4, batch_size=5), drawn)
    moved = shown.clone()
    moved[3] = 255 - moved[3]
    rows = list(run.steps({"pixels": moved}, seed=4))
    said = recipe.decode(parts, rows[-1].result, {})
    assert torch.equal(said[[0, 1, 2, *range(4, 12)]], drawn[[0, 1, 2, *range(4, 12)]])


def test_the_autoregressive_one_sees_no_later_token_and_the_others_do():
    data = tiny().load(None)
    batch = data.train[torch.arange(4)]
    later = batch["tokens"].clone()
    later[:, 3:] = (later[:, 3:] + 1) % 3
    for state in ("autoregressive", "masked", "bits"):
        parts, _, _ = built(tiny(state=state, sampling_steps=2))
        model, told = tiny(state=state).reading(felt(parts).denoiser.eval(), batch)
        if isinstance(model, NextToken):
            one, two = (model.conditionals(t, cond=told) for t in (batch["tokens"], later))
            assert torch.equal(one[:, :4], two[:, :4])
            assert not torch.allclose(one[:, 4:], two[:, 4:])
            continue
        states = [parts.codec.encode(t).detach() for t in (batch["tokens"], later)]
        t = torch.full((4,), 0.5)
        told = {"source": told["source"]}
        network = getattr(model, "denoiser", model)
        one, two = (network(x, t, told)[0].logits.flatten(2) for x in states)
        assert not torch.allclose(one[:, :3], two[:, :3])


def test_parameters_differ_by_places_and_estimates_alone():
    def count(state, **more):
        return sum(p.numel() for p in built(tiny(state=state, **more))[0].denoiser.parameters())

    # Beside rotary places, which all have, diffusions have learnt ones.
    width, places = 16, 16 * LENGTH
    assert count("masked") - count("autoregressive") == places
    n = (words().end).bit_length()
    bits = count("bits", self_conditioning=0.0)
    assert bits - count("masked") == width * (n - 1)  # of what it sees of a token
    assert count("bits") - bits == width * n  # of the estimate


def test_pictures_are_left_out_at_the_rate_that_is_said():
    recipe = tiny(picture_drop=0.3)
    parts, _, data = built(recipe)
    model = parts.denoiser
    assert isinstance(model, Captioner)
    batch = data.train[torch.arange(400)]
    source = model.source(batch["pixels"], Rng(0).samples(400))
    gone = ~source.flatten(1).any(1)
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 400) ** 0.5)
    kept = model.source(batch["pixels"])
    torch.testing.assert_close(source[~gone], kept[~gone])
    assert kept.flatten(1).any(1).all()


@pytest.mark.parametrize("state", ["bits", "masked", "autoregressive"])
def test_a_run_that_is_resumed_ends_where_it_would_have(state, tmp_path, one_thread):
    recipe = tiny(state=state, steps=6, checkpoint_every=3, batch_size=8, dropout=0.1)
    parts, facts, data = built(recipe)
    loss = recipe.loss(parts, facts)
    for _ in train(parts.denoiser, loss, data.train, recipe, tmp_path / "whole"):
        pass
    again, facts, data = built(recipe)
    loss = recipe.loss(again, facts)
    updates = train(again.denoiser, loss, data.train, recipe, tmp_path / "cut")
    list(islice(updates, 4))  # killed after a checkpoint and one update more
    updates.close()
    shutil.copytree(tmp_path / "cut", tmp_path / "gone on")
    fresh, facts, data = built(recipe, seed=1)
    loss = recipe.loss(fresh, facts)
    go_on = train(fresh.denoiser, loss, data.train, recipe, tmp_path / "gone on", resume=True)
    for _ in go_on:
        pass
    first, last = parts.denoiser.state_dict(), fresh.denoiser.state_dict()
    assert all(torch.equal(first[name], last[name]) for name in first)


@pytest.mark.parametrize(
    ("state", "plan"),
    [("masked", "autoregressive"), ("bits", "pyramid:1"), ("bits", "autoregressive")],
)
def test_plans_of_tokens_work_with_a_picture(state, plan):
    more = {} if state == "masked" else {"times": "independent"}
    recipe = tiny(state=state, plan=plan, sampling_steps=2, **more)
    parts, facts, data = built(recipe)
    run = Run(None, recipe, facts, felt(parts))
    parts.denoiser.eval()
    (one,) = captions_of(run, pixels(data, 1))
    assert len(one.steps) == len(recipe.plan_of(facts, parts.diffusion.schedule))
    assert one.steps[0].endswith("\u2026")  # no later token has moved
    assert one.steps[-1] == one.text
    assert all(0 <= sure <= 1 for _, sure in one.words)


def test_texts_on_the_way_have_dots_and_are_cut_by_a_decided_end_alone():
    vocabulary = words()
    end, (red, then, pink) = vocabulary.end, map(vocabulary.symbols.index, ("red", "then", "pink"))

    def text(row, shown, decided):
        flags = (torch.tensor([c == "1" for c in flag]) for flag in (shown, decided))
        return words_so_far(vocabulary, torch.tensor(row), *flags)

    row = [red, end, then, pink, end]
    assert text(row, "11111", "00000") == "red | then pink"
    assert text(row, "11111", "01000") == "red"
    assert text(row, "11111", "00001") == "red | then pink"
    assert text(row, "01101", "00000") == "\u2026 | then \u2026"
    assert text(row, "00000", "00000") == "\u2026"
    assert text([end] * 5, "11111", "00000") == ""
    assert text([red, end, end, end, then], "11110", "11110") == "red"


def test_masked_words_are_dots_until_the_state_has_them():
    recipe = tiny(state="masked", sampling_steps=6)
    parts, facts, data = built(recipe)
    run = Run(None, recipe, facts, felt(parts))
    parts.denoiser.eval()
    shown = pixels(data, 8)
    told, states = captions_of(run, shown, seed=2), list(run.steps({"pixels": shown}, seed=2))
    dotted = 0
    for i, one in enumerate(told):
        for text, step in zip(one.steps, states, strict=True):
            row = step.x[i].tolist()
            seen = row[: row.index(words().end)] if words().end in row else row
            assert ("\u2026" in text) is (words().end + 1 in seen)
            assert [w for w in text.split() if w != "\u2026"] == [
                words().symbols[k] for k in seen if k <= words().end
            ]
            dotted += "\u2026" in text
    assert dotted


def test_a_word_is_as_sure_as_the_least_of_its_tokens():
    from noiseloom.data import Phrases

    vocabulary = Phrases("characters", tuple("abc "), 8)
    tokens = vocabulary.encode(["ab ca"])[0]
    sure = torch.tensor([0.9, 0.4, 0.8, 0.7, 0.95, 0.1, 0.1, 0.1])
    text, told = words_of(vocabulary, tokens, sure)
    assert text == "ab ca"
    assert [word for word, _ in told] == ["ab", "ca"]
    assert [s for _, s in told] == pytest.approx([0.4, 0.7])
    assert words_of(vocabulary, torch.full((8,), vocabulary.end), sure) == ("", ())


def test_the_sureness_of_an_autoregressive_token_is_its_probability():
    recipe = tiny(state="autoregressive")
    parts, facts, data = built(recipe)
    run = Run(None, recipe, facts, felt(parts))
    parts.denoiser.eval()
    shown = pixels(data, 20)
    (step,) = run.steps({"pixels": shown}, seed=0)
    model, told = recipe.reading(parts.denoiser, {"pixels": shown})
    p = model.conditionals(step.result, cond=told).exp().gather(-1, step.result[..., None])
    for i, one in enumerate(captions_of(run, shown, seed=0)):
        assert [s for _, s in one.words] == pytest.approx(
            p[i, : len(one.words), 0].tolist(), abs=1e-5
        )


def test_invalid_codes_are_counted_before_the_nearest_code_is_taken():
    parts, *_ = built(tiny(state="bits"))
    bits, classes = 4, words().end + 1
    assert classes == 12
    state = torch.tensor([[[1.0 if k >> i & 1 else -1.0 for i in range(bits)] for k in range(16)]])
    assert parts.codec.misspelt(0.1 * state)[0].tolist() == [k >= classes for k in range(16)]
    assert int(parts.codec.decode(state).max()) < classes
    last = Rows(state)
    assert tiny(state="bits").inspect(parts, last) == {"invalid_codes": 4 / 16}
    assert tiny(state="onehot").inspect(parts, last) == {}
    assert tiny(state="masked").inspect(parts, last) == {}


class Constant(nn.Module):
    """Says the same logits of every token, whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x, log_snr, cond=None):
        return self.logits.expand(*x.shape[:2], -1)


@pytest.mark.parametrize("unmask", ["random", "confidence"])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_a_masked_token_is_as_sure_as_the_probability_it_was_drawn_with(unmask, steps):
    recipe = tiny(state="masked", unmask=unmask, sampling_steps=steps, self_conditioning=0.0)
    parts, facts, data = built(recipe)
    logits = torch.linspace(0, 2, words().end + 1)
    logits[-1] = -20.0  # no end
    parts.denoiser.denoiser.inner.network = Constant(logits)
    run = Run(None, recipe, facts, parts)
    parts.denoiser.eval()
    p, vocabulary = logits.softmax(-1), words()
    for one in captions_of(run, pixels(data, 20), seed=1):
        tokens = [vocabulary.symbols.index(word) for word, _ in one.words]
        assert [s for _, s in one.words] == pytest.approx(p[tokens].tolist(), abs=1e-6)


def test_each_beam_reads_a_token_of_its_own():
    recipe = tiny(state="autoregressive")
    parts, facts, data = built(recipe)
    absent = torch.zeros(LENGTH, words().end + 1, dtype=torch.bool)
    absent[:, -1] = True  # so that no search can end before the last token
    parts.denoiser.denoiser.absent = absent
    for beams in (1, 3):
        run = Run(None, replace(recipe, beams=beams), facts, parts)
        run.samples({"pixels": pixels(data, 4)})
        # The first token, before which there is one beginning, and then each beginning's.
        assert run.statistics["network_evaluations"] == 1 + beams * (LENGTH - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": "latent"}, "captions are told pictures"),
        ({"size": 9}, "cannot be cut into patches of 4 x 4"),
        ({"picture_drop": 1.5}, r"picture_drop must be in \[0, 1\]"),
        ({"picture_drop": 0.0, "guidance": 2.0}, "trained without pictures"),
        ({"state": "bits", "beams": 3}, "beams are of state autoregressive"),
        ({"state": "autoregressive", "beams": 3, "top_p": 0.5}, "a search draws nothing"),
        ({"beams": 0}, "beams must be at least 1"),
        ({"encoder": "resnet"}, "encoder must be one of"),
        ({"encoder_depth": 0}, "encoder_depth must be at least 1"),
    ],
)
def test_options_that_do_not_fit_are_said_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        Captions(**options)


def test_words_and_pictures_of_other_data_are_refused():
    recipe = tiny()
    _, facts, _ = built(recipe)
    other = {**facts, "vocabulary": {**facts["vocabulary"], "symbols": ["red", "then"]}}
    other["sizes"] = [4] * LENGTH
    with pytest.raises(ValueError, match="of 4 classes, is not the run's, of 12") as refusal:
        recipe.fits(other, facts)
    assert len(str(refusal.value)) < 150
    with pytest.raises(ValueError, match=r"of shape \[3, 8, 8\]"):
        recipe.fits({**facts, "shape": [3, 16, 16]}, facts)
    recipe.fits(facts, facts)
    parts, facts, _ = built(recipe)
    with pytest.raises(ValueError, match="captions are of pictures"):
        recipe.draw(parts, facts, {"row": torch.arange(3)}, Rng(0).samples(3))
    run = Run(None, recipe, facts, parts)
    with pytest.raises(ValueError, match=r"reads \(N, \*\(3, 8, 8\)\)"):
        captions_of(run, torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("size", "resized", "filled"),
    [
        (8, (128, 128), (128, 128)),
        (200, (224, 224), (224, 224)),
        ((64, 256), (128, 512), (128, 512)),
        ((40, 24), (213, 128), (224, 128)),
    ],
)
def test_pictures_are_not_stretched_for_a_known_network(size, resized, filled, monkeypatch):
    pytest.importorskip("efficientnet_lite_pytorch")
    maps, seen = Lite0Maps(size, tuned=False), []
    monkeypatch.setattr(
        maps.net, "extract_features", lambda x: seen.append(x) or torch.zeros(1, 1280, 2, 3)
    )
    height, width = (size, size) if isinstance(size, int) else size
    assert maps(torch.full((1, 3, height, width), 255, dtype=torch.uint8)).shape == (1, 6, 1280)
    (x,) = seen
    assert x.shape[2:] == filled
    assert (x[0, 0] > 0.9).sum() == resized[0] * resized[1]  # and the rest is grey, 0
    assert x[:, :, : resized[0], : resized[1]].amin() > 0.9


@pytest.mark.parametrize("encoder", ["lite0", "lite0-tuned"])
def test_the_features_of_a_known_network_are_read(encoder, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    recipe = tiny(state="bits", encoder=encoder, steps=2, batch_size=2)
    parts, facts, data = built(recipe)
    inner = felt(parts).denoiser.encoder.inner
    assert isinstance(inner, Lite0Maps)
    features = inner(pixels(data, 2))
    assert features.shape == (2, 16, 1280)  # 128 / 32 places a side
    from noiseloom.metrics.lite0 import Lite0Features

    torch.testing.assert_close(features.mean(1), Lite0Features()(pixels(data, 2)))
    before = {name: value.clone() for name, value in inner.state_dict().items()}
    for _ in train(parts.denoiser, recipe.loss(parts, facts), data.train, recipe, tmp_path / "r"):
        pass
    moved = {
        name for name, value in inner.state_dict().items() if not torch.equal(value, before[name])
    }
    assert bool(moved) is (encoder == "lite0-tuned")
    assert not any("running" in name or "_fc" in name for name in moved)

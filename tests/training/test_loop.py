import json
import math
import shutil
from dataclasses import dataclass, replace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from toy_run import OPTIONS, Points, Toy, finish, losses, records, toy_loss

from noiseloom.training import Training, sample_order, train
from noiseloom.training.batches import Batches, fits
from noiseloom.training.optimizer import adamw, guarded_step


def stop_after(out, step, options=OPTIONS, dropout=0.0):
    for progress in train(Toy(dropout), toy_loss, Points(), options, out):
        if progress.step == step:
            break


@pytest.mark.parametrize("stop", [3, 5, 12, 24])
def test_resumed_run_continues_the_file_without_gaps_or_repeats(tmp_path, stop):
    options = replace(OPTIONS, post_hoc_ema=True)
    finish(tmp_path / "whole", options, dropout=0.3)
    out = tmp_path / "parts"
    stop_after(out, stop, options, dropout=0.3)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "lo')  # what a kill leaves behind
    finish(out, options, dropout=0.3, resume=True)
    assert losses(out) == losses(tmp_path / "whole")
    seconds = [r["seconds"] for r in records(out)]
    assert seconds == sorted(seconds)
    for path in (tmp_path / "whole" / "ema_snapshots").iterdir():
        ours, theirs = load_file(out / "ema_snapshots" / path.name), load_file(path)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_torch_dropout_draws_anew_at_each_update_and_leaves_the_global_generator_alone(tmp_path):
    masks = []

    def loss(model, batch, rng, rows):
        masks.append(nn.functional.dropout(torch.ones(50)))
        return toy_loss(model, batch, rng, rows)

    before = torch.get_rng_state()
    finish(tmp_path / "run", replace(OPTIONS, accumulate=2), loss=loss)
    assert torch.equal(before, torch.get_rng_state())
    assert len({tuple(mask.tolist()) for mask in masks}) == len(masks) == 48


@pytest.mark.parametrize("before", [True, False])
def test_attention_is_not_cudnns_while_it_trains(tmp_path, before):
    sdp = torch.backends.cuda
    kept, seen = sdp.cudnn_sdp_enabled(), []

    def loss(model, batch, rng, rows):
        seen.append(sdp.cudnn_sdp_enabled())
        return toy_loss(model, batch, rng, rows)

    try:
        sdp.enable_cudnn_sdp(before)
        finish(tmp_path / "run", loss=loss)
        assert sdp.cudnn_sdp_enabled() == before
    finally:
        sdp.enable_cudnn_sdp(kept)
    assert seen
    assert not any(seen)


def test_keys_belong_to_rows_of_the_global_batch(tmp_path):
    seen = {}

    def loss(model, batch, rng, rows):
        seen.setdefault(len(rows), []).append((rng.key, rows, batch["x"]))
        return toy_loss(model, batch, rng, rows)

    finish(tmp_path / "1", replace(OPTIONS, steps=3), loss=loss)
    finish(tmp_path / "4", replace(OPTIONS, steps=3, accumulate=4), loss=loss)
    for whole, parts in zip(zip(*seen[8], strict=True), zip(*seen[2], strict=True), strict=True):
        assert torch.equal(torch.cat(whole), torch.cat(parts))
    keys = torch.cat([key for key, *_ in seen[8]])
    assert len(keys.unique()) == 24


def test_every_epoch_is_a_permutation():
    for batch in (3, 8, 100):  # also batches of several epochs
        order = torch.cat([sample_order(0, 37, k * batch, (k + 1) * batch) for k in range(40)])
        epochs = order[: len(order) // 37 * 37].reshape(-1, 37)
        assert (epochs.sort(1).values == torch.arange(37)).all()
        assert len({tuple(epoch.tolist()) for epoch in epochs}) == len(epochs)
    assert torch.equal(sample_order(0, 37, 30, 50), sample_order(0, 37, 0, 60)[30:50])
    assert not torch.equal(sample_order(1, 37, 0, 37), sample_order(0, 37, 0, 37))


def test_the_update_is_adamw_with_clipping_and_warm_up(tmp_path):
    """The loop against the same updates written out."""
    options = replace(OPTIONS, steps=8, clip=0.05, weight_decay=0.1, beta2=0.95)
    model = finish(tmp_path / "run", options)
    plain = Toy()
    adamw = torch.optim.AdamW(plain.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    batches = Batches(Points(), options, Accelerator(cpu=True))
    expected = []
    for step in range(1, 9):
        adamw.param_groups[0]["lr"] = options.rate(step)
        part = batches.part(step, 0)
        loss = toy_loss(plain, part.batch, part.rng, part.rows).mean()
        adamw.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum() for p in plain.parameters()))
        for p in plain.parameters():
            p.grad *= min(1, 0.05 / norm)
        adamw.step()
        expected.append((loss.item(), norm, options.rate(step)))
    rows = [(r["loss"], r["grad_norm"], r["learning_rate"]) for r in records(tmp_path / "run")]
    for row, values in zip(rows, expected, strict=True):
        assert row == pytest.approx(values, rel=1e-4)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_learning_rate():
    constant = Training(steps=100, warmup=10, learning_rate=2.0)
    assert [constant.rate(k) for k in (1, 5, 10, 11, 100)] == [0.2, 1.0, 2.0, 2.0, 2.0]
    cosine = replace(constant, steps=110, decay="cosine")
    assert cosine.rate(10) == 2.0
    assert 0 < cosine.rate(110) < 2e-3
    assert cosine.rate(60) == pytest.approx(1 + math.cos(math.pi * 50 / 101))


def test_training_lowers_the_loss_and_reports(tmp_path):
    seen = list(train(Toy(), toy_loss, Points(), replace(OPTIONS, steps=150), tmp_path / "run"))
    assert [p.step for p in seen] == list(range(1, 151))
    assert sum(losses(tmp_path / "run")[-20:]) < 0.8 * sum(losses(tmp_path / "run")[:20])
    assert seen[-1].loss == losses(tmp_path / "run")[-1]
    assert seen[-1].seconds_left == 0
    assert seen[-1].samples_per_second > 0


def test_an_existing_run_is_refused(tmp_path):
    finish(tmp_path, replace(OPTIONS, steps=2))
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="--resume"):
        train(Toy(), toy_loss, Points(), OPTIONS, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    shutil.rmtree(tmp_path / "state")
    finish(tmp_path, replace(OPTIONS, steps=2), resume=True)  # killed before its first checkpoint
    assert len(losses(tmp_path)) == 2


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(tmp_path):
    calls = []

    def loss(model, batch, rng, rows):
        calls.append(rows)
        return toy_loss(model, batch, rng, rows) * (math.nan if len(calls) == 8 else 1)

    with pytest.raises(ValueError, match="the loss is nan at step 8"):
        finish(tmp_path, loss=loss)
    assert len(losses(tmp_path)) == 7
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000005"]


class _NoSlope(torch.autograd.Function):
    """The identity, with a gradient that is no number."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.nan


def without_slope(*bad):
    """A loss whose gradient is no number in some calls."""
    calls = []

    def loss(model, batch, rng, rows):
        calls.append(rows)
        each = toy_loss(model, batch, rng, rows)
        return _NoSlope.apply(each) if len(calls) in bad else each

    return loss


def test_gradients_that_are_not_finite_do_not_reach_a_checkpoint(tmp_path):
    with (
        pytest.warns(UserWarning, match="is nan at step [89]: that update is left out"),
        pytest.raises(ValueError, match="the gradient's norm is nan at step 10"),
    ):
        finish(tmp_path, loss=without_slope(8, 9, 10))  # the last is a step that is saved
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000005"]
    for name in ("model", "ema"):
        state = load_file(tmp_path / f"{name}.safetensors")
        assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize("fused", [True, False])
def test_an_update_without_a_gradient_is_left_out_and_leaves_no_trace(fused):
    ends = []
    for steps in ([1, 2, 3], [1, None, 2, None, 3]):
        model, options = Toy(), replace(OPTIONS, weight_decay=0.1)
        optimizer = adamw(model, options)
        if not fused:
            optimizer = torch.optim.AdamW(
                model.parameters(),
                **{
                    k: v
                    for k, v in optimizer.defaults.items()
                    if k in ("lr", "betas", "weight_decay")
                },
            )
        for step in steps:
            for p in model.parameters():
                p.grad = torch.full_like(p, math.nan if step is None else step)
            guarded_step(optimizer, nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        moments = [v for state in optimizer.state.values() for v in state.values()]
        ends.append([*model.parameters(), *moments])
    for a, b in zip(*ends, strict=True):
        assert torch.equal(a, b)


def test_a_run_says_which_update_it_has_left_out(tmp_path):
    with pytest.warns(UserWarning, match="the gradient's norm is nan at step 7: that update"):
        finish(tmp_path, loss=without_slope(7))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "left_out" in row] == [7]
    assert [row["grad_norm"] for row in rows if "left_out" in row] == [0]
    assert len(rows) == OPTIONS.steps


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \[0, 1\)"),
        ({"decay": "linear"}, "decay must be constant or cosine"),
        ({"precision": "half"}, "precision must be auto or float32 or bfloat16"),
    ],
)
def test_options_are_checked(wrong, message):
    @dataclass(frozen=True)
    class Recipe(Training):
        width: int = 8

    with pytest.raises(ValueError, match=message):
        Recipe(**wrong)


def test_bad_losses_and_data(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(8,\), got \(\)"):
        finish(tmp_path / "a", loss=lambda *arguments: toy_loss(*arguments).mean())
    with pytest.raises(ValueError, match="the data set is empty"):
        finish(tmp_path / "b", data=Points(0))


@pytest.mark.parametrize("change", [{"seed": 4}, {"batch_size": 4}])
def test_a_resumed_run_must_see_the_same_samples(tmp_path, change):
    stop_after(tmp_path, 6)
    with pytest.raises(ValueError, match="order of the samples"):
        finish(tmp_path, replace(OPTIONS, **change), resume=True)


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "null", '{"step": 5, "options": {}, "threads": 1}', '{"step": 5, "options": 1}'],
)
def test_a_checkpoint_that_does_not_know_its_run_is_damaged(tmp_path, content):
    stop_after(tmp_path, 6)
    (tmp_path / "state" / "step-00000005" / "state.json").write_text(content)
    with pytest.raises(ValueError, match=r"state\.json is truncated or damaged .*: restore") as e:
        finish(tmp_path, resume=True)
    assert "\n" not in str(e.value)


def test_another_thread_count_warns(tmp_path):
    stop_after(tmp_path, 6)
    path = tmp_path / "state" / "step-00000005" / "state.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "threads": facts["threads"] + 1}))
    with pytest.warns(UserWarning, match="to rounding only"):
        finish(tmp_path, resume=True)


def test_bfloat16_is_for_the_network_only(tmp_path):
    kinds = []

    class Probe(Toy):
        def forward(self, x, t, estimate, mask):
            hidden = self.network(torch.cat((x, t[:, None], estimate), 1))
            kinds.append((hidden.dtype, self.head(hidden).dtype, torch.is_autocast_enabled("cpu")))
            return self.head(hidden * mask)

    model = Probe()
    inner = []
    model.network[0].register_forward_hook(lambda _, __, result: inner.append(result.dtype))
    options = replace(OPTIONS, steps=3, precision="bfloat16")
    for _ in train(model, toy_loss, Points(), options, tmp_path / "half"):
        pass
    assert set(inner) == {torch.bfloat16}
    assert set(kinds) == {(torch.float32, torch.float32, False)}
    # The first pass has no gradient; the second must have one all the same.
    assert not torch.equal(model.network[0].weight, Probe().network[0].weight)
    model.network(torch.zeros(1, 11))
    assert inner[-1] == torch.float32
    finish(tmp_path / "full", replace(options, precision="float32"))
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "full"), rel=0.02)


def test_compiling_compiles_the_network_and_keeps_the_names(tmp_path, monkeypatch):
    compiled = []

    def compile_(self, **settings):
        compiled.append((self, settings))

    monkeypatch.setattr(nn.Module, "compile", compile_)
    model = finish(tmp_path, replace(OPTIONS, steps=2, compile=True))
    assert compiled == [(model.network, {"dynamic": False, "mode": None})]
    monkeypatch.undo()
    model.network.compile(backend="eager")
    assert model.state_dict().keys() == load_file(tmp_path / "model.safetensors").keys()


def test_whole_model_is_compiled_without_a_network(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    model = nn.Linear(5, 5)
    options = replace(OPTIONS, steps=1, compile=True)

    def loss(model, batch, rng, rows):
        return model(batch["x"]).square().mean(1)

    list(train(model, loss, Points(), options, tmp_path))
    assert compiled == [model]


def test_the_same_seed_the_same_run(tmp_path):
    finish(tmp_path / "a", dropout=0.1)
    finish(tmp_path / "b", dropout=0.1)
    finish(tmp_path / "c", replace(OPTIONS, seed=4), dropout=0.1)
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")


@pytest.mark.parametrize(("size", "fit"), [(None, True), (50, True), (51, False)])
def test_data_that_would_fill_a_gpu_stay_where_they_are(monkeypatch, size, fit):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100, 200))
    data = Points()
    if size is not None:
        data.nbytes = size
    assert fits(data) == fit

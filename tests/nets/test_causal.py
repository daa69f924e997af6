import shutil

import pytest
import torch
from causal_cases import (
    BUILDS,
    CODES,
    EVERYTHING,
    WINDOWED,
    A,
    B,
    K,
    T,
    part,
    recurrent,
    transformer,
    video,
)

SETTINGS = pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"window": 1}, id="window-1"),
        pytest.param({"window": 50, "depth": 1}, id="window-50"),
        pytest.param({"num_classes": K}, id="labels"),
        pytest.param({"action_features": A}, id="actions"),
        pytest.param({"self_conditioning": True}, id="estimates"),
        pytest.param({"dropout": 0.3}, id="dropout"),
        pytest.param({**EVERYTHING, "window": 3, "depth": 3}, id="everything"),
    ],
)


@BUILDS
@SETTINGS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_later_tokens_change_nothing_at_all(build, options, dtype, awake):
    network = awake(build(**options)).to(dtype).train()
    x, log_snr, cond = build.inputs(options, dtype=dtype)
    before = network(x, log_snr, cond)
    for t in range(T - 1):
        z, level, other = x.clone(), log_snr.clone(), {k: v.clone() for k, v in cond.items()}
        z[:, t + 1 :] += 3
        level[:, t + 1 :] -= 4
        for name in ("action", "estimate"):
            if name in other:
                other[name][:, t + 1 :] -= 2
        if "action_mask" in other:
            other["action_mask"][:, t + 1 :] ^= True
        change = (network(z, level, other) - before).abs()
        assert change[:, : t + 1].max() == 0
        assert change[:, t + 1].min() > 1e-6


@BUILDS
@pytest.mark.parametrize("name", ["x", "log_snr", "estimate", "action"])
def test_each_input_alone_is_felt_from_its_token_on(build, name, awake):
    network = awake(build(window=T, **EVERYTHING)).train()
    x, log_snr, cond = build.inputs()
    cond["action_mask"][:] = True
    before = network(x, log_snr, cond)
    changed = {"x": x, "log_snr": log_snr, **cond}
    changed[name] = changed[name].clone()
    changed[name][:, 4] += 1
    after = network(changed.pop("x"), changed.pop("log_snr"), changed)
    change = (after - before).abs().transpose(0, 1).flatten(1).amax(1)
    assert change[:4].max() == 0
    assert change[4:].min() > 1e-7


@BUILDS
@pytest.mark.parametrize(("window", "depth"), [(1, 3), (2, 1), (3, 2), (4, 2), (20, 1)])
def test_gradients_reach_as_far_as_windows_through_depth(build, window, depth, awake):
    network = awake(build(window=window, depth=depth, **EVERYTHING)).train()
    reach = T if build is recurrent else build.layers(depth) * (window - 1)
    x, log_snr, cond = build.inputs()
    x.requires_grad_()
    y = network(x, log_snr, cond)
    for t in range(T):
        (grad,) = torch.autograd.grad(y[:, t].sum(), x, retain_graph=True)
        felt = grad.abs().flatten(2).amax(2)
        near = torch.tensor([0 <= t - s <= reach for s in range(T)])
        assert (felt[:, near] > 0).all()
        assert (felt[:, ~near] == 0).all()


@BUILDS
@SETTINGS
def test_a_longer_sequence_begins_with_the_outputs_of_a_shorter(build, options, awake):
    network = awake(build(**options)).train()
    data = build.inputs(options)
    whole = network(*data)
    for length in range(1, T):
        y = network(*part(data, 0, length))
        torch.testing.assert_close(y, whole[:, :length], rtol=0, atol=1e-11)


@BUILDS
def test_rows_of_a_batch_are_independent(build, awake):
    network = awake(build(**EVERYTHING)).train()
    x, log_snr, cond = build.inputs()
    whole = network(x, log_snr, cond)
    for rows in ([1], [2, 0, 1], [0, 0, 2]):
        y = network(x[rows], log_snr[rows], {k: v[rows] for k, v in cond.items()})
        torch.testing.assert_close(y, whole[rows], rtol=0, atol=1e-11)
    assert (whole - network.eval()(x, log_snr, cond)).abs().max() > 1e-3  # dropout was on


@BUILDS
def test_the_output_starts_at_zero(build):
    network = build(**EVERYTHING).double()
    y = network(*build.inputs())
    assert y.shape == (B, T, *build.output)
    assert not y.any()


@BUILDS
def test_absent_conditions_are_null(build, awake):
    network = awake(build(**EVERYTHING)).eval()
    x, log_snr, cond = build.inputs()
    absent = network(x, log_snr)
    null = {
        "label": torch.full((B,), K),
        "estimate": torch.zeros_like(x),
        "action": cond["action"],
        "action_mask": torch.zeros(B, dtype=torch.bool),
    }
    if build.reads:
        null["codes"] = torch.zeros(B, *CODES)
    torch.testing.assert_close(network(x, log_snr, null), absent, rtol=0, atol=1e-12)
    for key in ("label", "estimate", "action"):
        assert (network(x, log_snr, {key: cond[key]})[0] - absent[0]).abs().max() > 1e-3
    known = torch.tensor([True, False, True])
    some = network(x, log_snr, {"action": cond["action"], "action_mask": known})
    full = network(x, log_snr, {"action": cond["action"]})
    torch.testing.assert_close(some[known], full[known], rtol=0, atol=1e-12)
    torch.testing.assert_close(some[~known], absent[~known], rtol=0, atol=1e-12)


@BUILDS
def test_one_time_equals_the_same_time_for_every_token(build, awake):
    network = awake(build(**EVERYTHING)).eval()
    x, log_snr, cond = build.inputs()
    per_token = log_snr[:, :1].expand(B, T).contiguous()
    torch.testing.assert_close(
        network(x, log_snr[:, 0], cond), network(x, per_token, cond), rtol=0, atol=1e-12
    )


@BUILDS
def test_gradients_reach_every_parameter(build, awake):
    network = awake(build(**{**EVERYTHING, "num_classes": 2})).train()
    network(*build.inputs()).square().sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@BUILDS
def test_wrong_inputs_are_named(build):
    network = build(**EVERYTHING).double().eval()
    x, log_snr, cond = build.inputs()
    state = _text(x)
    for wrong in (x[:, :, :1], x[0]):
        with pytest.raises(ValueError, match=rf"{_text(wrong)}: expected \(B, T, {x.shape[2]}"):
            network(wrong, log_snr)
    for shape in ((), (1,), (T,), (B, 1), (B, T, x.shape[2])):
        with pytest.raises(ValueError, match=rf"log-SNR.*{state}"):
            network(x, torch.zeros(shape))
    for name, wrong in {
        "estimate": x[:, :5],
        "action": x,
        "action_mask": cond["action_mask"][:, :5],
        "mask": torch.ones(B, 5, dtype=torch.bool),
    }.items():
        with pytest.raises(ValueError, match=rf"{name}.*{_text(wrong)}.*{state}"):
            network(x, log_snr, {**cond, name: wrong})
    with pytest.raises(ValueError, match=rf"action.*{state}: expected \(3, 9, 2\)"):
        network(x, log_snr, {"action": x})
    with pytest.raises(ValueError, match="no condition 'hidden'"):
        network(x, log_snr, {"hidden": x})
    with pytest.raises(ValueError, match="action_features"):
        build().double()(x, log_snr, {"action": cond["action"]})
    _, cache = network(x, log_snr, {**cond, "cache": {}})
    some = {k: v[:2] for k, v in cond.items()} | {"cache": cache, "position": 9}
    with pytest.raises(ValueError, match=rf"cached.*\(3, 9, .*{_text(x[:2])}.*\(2, n, "):
        network(x[:2], log_snr[:2], some)
    with pytest.raises(ValueError, match=rf"mask.*\(3, 9\).*{state} after 9.*\(3, 18\)"):
        network(x, log_snr, {**cond, "cache": cache, "position": 9, "mask": torch.ones(B, T) > 0})


def _text(tensor):
    return str(tuple(tensor.shape)).replace("(", r"\(").replace(")", r"\)")


@WINDOWED
def test_a_transformers_own_errors(build):
    network = build().double()
    x, log_snr, _ = build.inputs({})
    _, cache = network(x, log_snr, {"cache": {}})
    with pytest.raises(ValueError, match="9 tokens without a position"):
        network(x, log_snr, {"cache": cache})
    with pytest.raises(ValueError, match=rf"position of shape \(2,\).*{_text(x)}"):
        network(x, log_snr, {"position": torch.zeros(2, dtype=torch.int64)})
    few, many = build.layers(2), build.layers(3)
    with pytest.raises(ValueError, match=f"{few} blocks for a network of {many}"):
        build(depth=3).double()(x, log_snr, {"cache": cache, "position": 9})
    with pytest.raises(ValueError, match="at least 1"):
        build(window=0)


@pytest.mark.parametrize("build", [transformer, video], ids=lambda b: b.name)
def test_heads_of_an_odd_width_are_refused(build):
    with pytest.raises(ValueError, match="16 cannot be divided among 6 heads of an even number"):
        build(heads=6)


def test_states_stay_in_full_precision_under_autocast(awake):
    network = awake(recurrent(**EVERYTHING)).float().eval()
    data = recurrent.inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, new = network(*data[:2], {**data[2], "cache": {}})
    assert new["tokens"]["states"].dtype == torch.float32
    torch.testing.assert_close(y.float(), network(*data), rtol=0, atol=0.3)


@BUILDS
def test_compiles_to_one_graph(build, awake):
    network = awake(build(**EVERYTHING)).train()
    data = build.inputs()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*data), network(*data), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="compiling needs a C++ compiler")
@BUILDS
def test_compiled_code_says_the_same(build, awake):
    network = awake(build(depth=1, **EVERYTHING)).train()
    data = build.inputs()
    compiled = torch.compile(network, fullgraph=True)
    torch.testing.assert_close(compiled(*data), network(*data), rtol=1e-9, atol=1e-9)

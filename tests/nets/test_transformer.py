import shutil

import pytest
import torch

from noiseloom.nets import DiT, Transformer
from noiseloom.rng import Rng

SMALL = {
    "width": 16,
    "depth": 2,
    "heads": 2,
    "num_classes": 3,
    "self_conditioning": True,
    "hidden_conditioning": True,
}


def sequence_network(**options):
    with Rng(0).torch():
        return Transformer(3, 5, max_length=8, **SMALL | options)


def picture_network(**options):
    with Rng(0).torch():
        return DiT(4, 5, size=(8, 4), patch=2, **SMALL | options)


def inputs(shape=(3, 6, 3), tokens=6):
    rng, dtype = Rng(7), torch.float64
    x = rng.fold("x").normal(shape, dtype)
    log_snr = 5 * rng.fold("t").normal(shape[:1], dtype)
    cond = {
        "label": torch.arange(shape[0]) % 4,
        "estimate": rng.fold("estimate").normal_like(x),
        "dropout": rng.samples(shape[0]).key,
        "hidden": rng.fold("hidden").normal((shape[0], tokens, 16), dtype),
    }
    return x, log_snr, cond


CASES = [
    pytest.param(sequence_network, inputs(), id="sequence"),
    pytest.param(picture_network, inputs((3, 4, 8, 4), 8), id="picture"),
]


def test_the_parameters_are_counted_by_hand():
    w, d, t, i, o = 32, 3, 8, 3, 5
    block = 4 * w * w + 4 * w + 8 * w * w + 5 * w
    expected = (
        2 * (w * w + w)  # embedding
        + (i * w + w)
        + t * w
        + d * block
        + (w + 1) * (6 * d + 2) * w
        + (w + 1) * o
    )
    network = Transformer(i, o, max_length=t, width=w, depth=d, heads=4)
    assert sum(p.numel() for p in network.parameters()) == expected


@pytest.mark.parametrize(("build", "data"), CASES)
def test_the_output_starts_at_zero(build, data):
    x, log_snr, cond = data
    y, hidden = build().double()(x, log_snr, cond)
    assert y.shape == ((3, 5, 8, 4) if x.ndim == 4 else (3, 6, 5))
    assert not y.any()
    assert hidden.shape == cond["hidden"].shape


@pytest.mark.parametrize(("build", "data"), CASES)
def test_hidden_states_have_no_effect_at_the_start(build, data):
    x, log_snr, cond = data
    network = build().double()
    without = {k: v for k, v in cond.items() if k != "hidden"}
    assert torch.equal(network(x, log_snr, cond)[1], network(x, log_snr, without)[1])


@pytest.mark.parametrize(("build", "data"), CASES)
def test_absent_conditions_are_null(build, data, awake):
    x, log_snr, cond = data
    network = awake(build())
    absent = network(x, log_snr)
    null = {
        "label": torch.full((3,), 3),
        "estimate": torch.zeros_like(x),
        "hidden": torch.zeros_like(cond["hidden"]),
    }
    torch.testing.assert_close(network(x, log_snr, null), absent, rtol=0, atol=1e-12)
    for key in null:
        assert (network(x, log_snr, {key: cond[key]})[0][0] - absent[0][0]).abs().max() > 1e-3


@pytest.mark.parametrize(("build", "data"), CASES)
def test_rows_of_a_batch_are_independent(build, data, awake):
    x, log_snr, cond = data
    network = awake(build(dropout=0.2)).train()
    whole = network(x, log_snr, cond)
    one = network(x[2:3], log_snr[2:3], {k: v[2:3] for k, v in cond.items()})
    for a, b in zip(one, whole, strict=True):
        torch.testing.assert_close(a, b[2:3], rtol=0, atol=1e-10)
    assert not torch.equal(network.eval()(x, log_snr, cond)[0], whole[0])


@pytest.mark.parametrize(("build", "data"), CASES)
def test_gradients_reach_every_parameter(build, data, awake):
    x, log_snr, cond = data
    network = awake(build(num_classes=2))
    if x.ndim == 3:  # as many tokens as there are positions
        x, log_snr, cond = inputs((3, 8, 3), 8)
    cond = {**cond, "label": torch.arange(3)}
    network(x, log_snr, cond)[0].square().sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_one_time_equals_the_same_time_for_every_token(awake):
    x, log_snr, cond = inputs()
    network = awake(sequence_network())
    per_token = log_snr[:, None].expand(3, 6).contiguous()
    torch.testing.assert_close(network(x, per_token, cond), network(x, log_snr, cond))


def test_a_time_reaches_the_other_tokens_through_attention_only(awake):
    x, log_snr, cond = inputs()
    network = awake(sequence_network())
    before = log_snr[:, None].repeat(1, 6)
    after = before.clone()
    after[:, 2] += 3
    others = [0, 1, 3, 4, 5]

    change = (network(x, after, cond)[0] - network(x, before, cond)[0]).abs().amax((0, 2))
    assert (change > 1e-6).all()
    # Token 2 is padding: nobody attends to it, and only itself feels its time.
    cond["mask"] = torch.arange(6).expand(3, 6) != 2
    change = (network(x, after, cond)[0] - network(x, before, cond)[0]).abs().amax((0, 2))
    assert change[2] > 1e-6
    assert not change[others].any()


def test_padding_does_not_reach_real_tokens(awake):
    x, log_snr, cond = inputs()
    network = awake(sequence_network())
    cond["mask"] = torch.arange(6).expand(3, 6) < 4
    y, hidden = network(x, log_snr, cond)
    short = {k: v[:, :4] if k in ("estimate", "hidden", "mask") else v for k, v in cond.items()}
    z, hidden_short = network(x[:, :4], log_snr, short)
    torch.testing.assert_close(y[:, :4], z, rtol=0, atol=1e-10)
    torch.testing.assert_close(hidden[:, :4], hidden_short, rtol=0, atol=1e-10)


def test_wrong_inputs_are_named():
    network = sequence_network(hidden_conditioning=False).double()
    x, log_snr, cond = inputs()
    for wrong in (x[..., :2], x[0], x.repeat(1, 2, 1)):
        with pytest.raises(ValueError, match=r"expected \(B, T, 3\) with T at most 8"):
            network(wrong, log_snr)
    for shape in ((), (1,), (6,), (3, 1), (3, 6, 3)):
        with pytest.raises(ValueError, match=r"log-SNR.*\(3, 6, 3\)"):
            network(x, torch.zeros(shape))
    with pytest.raises(ValueError, match="hidden_conditioning=True"):
        network(x, log_snr, {"hidden": cond["hidden"]})
    with pytest.raises(ValueError, match=r"\(3, 5, 3\).*\(3, 6, 3\)"):
        network(x, log_snr, {"estimate": x[:, :5]})
    with pytest.raises(ValueError, match=r"mask.*\(3, 5\).*\(3, 6, 3\)"):
        network(x, log_snr, {"mask": torch.ones(3, 5, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"hidden.*\(3, 5, 16\).*\(3, 6, 3\)"):
        sequence_network().double()(x, log_snr, {"hidden": cond["hidden"][:, :5]})


def test_wrong_pictures_are_named():
    network = picture_network().double()
    x, log_snr, _ = inputs((3, 4, 8, 4), 8)
    with pytest.raises(ValueError, match=r"\(3, 4, 4, 4\).*\(B, 4, 8, 4\)"):
        network(x[:, :, :4], log_snr)
    with pytest.raises(ValueError, match=r"log-SNR.*\(3, 8\).*\(3, 4, 8, 4\)"):
        network(x, torch.zeros(3, 8))
    with pytest.raises(ValueError, match=r"\(2, 4, 8, 4\).*\(3, 4, 8, 4\)"):
        network(x, log_snr, {"estimate": x[:2]})
    with pytest.raises(ValueError, match=r"8 x 5 pixels.*2 x 2"):
        DiT(4, 4, size=(8, 5))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="compiling needs a C++ compiler")
@pytest.mark.parametrize(("build", "data"), CASES)
def test_compiles_to_one_graph(build, data, awake):
    x, log_snr, cond = data
    torch.compiler.reset()  # of what other tests have compiled
    network = awake(build(dropout=0.2))
    expected = network(x, log_snr, cond)
    compiled = torch.compile(network, fullgraph=True)
    torch.testing.assert_close(compiled(x, log_snr, cond), expected, rtol=1e-9, atol=1e-9)


def test_rotary_positions_are_differences() -> None:
    """Without the learnt ones, tokens say the same wherever the sequence begins."""
    with Rng(0).torch():
        net = Transformer(3, 2, max_length=8, width=16, depth=2, heads=2, rotary=True)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        torch.nn.init.zeros_(net.position.weight)
    x, clock = Rng(1).normal((2, 6, 3)), torch.zeros(2)
    mask = torch.arange(6) >= 2
    late = net(x, clock, {"mask": mask.expand(2, 6)})[:, 2:]
    torch.testing.assert_close(late, net(x[:, 2:], clock), atol=1e-5, rtol=1e-5)
    swapped = net(x[:, [0, 1, 3, 2, 4, 5]], clock)[:, [0, 1, 3, 2, 4, 5]]
    assert not torch.allclose(swapped, net(x, clock), atol=1e-3)  # order counts
    with pytest.raises(ValueError, match=r"even|heads"):
        Transformer(3, 2, max_length=8, width=6, depth=1, heads=2, rotary=True)


def test_an_action_is_told_of_a_token_and_felt_by_all(awake):
    x, log_snr, cond = inputs()
    network = awake(sequence_network(action_features=2))
    action = Rng(8).normal((3, 6, 2), torch.float64)
    absent, known = network(x, log_snr, cond)[0], network(x, log_snr, {**cond, "action": action})[0]
    other = action.clone()
    other[:, 2] += 1
    change = network(x, log_snr, {**cond, "action": other})[0] - known
    assert (change.abs().amax((0, 2)) > 1e-6).all()  # the network sees all tokens

    def told(mask):
        return network(x, log_snr, {**cond, "action": action, "action_mask": mask})[0]

    torch.testing.assert_close(told(torch.zeros(3, dtype=torch.bool)), absent, rtol=0, atol=1e-12)
    torch.testing.assert_close(told(torch.ones(3, 6, dtype=torch.bool)), known, rtol=0, atol=0)
    partly = torch.ones(3, 6, dtype=torch.bool)
    partly[:, 2] = False
    hidden = network(x, log_snr, {**cond, "action": other, "action_mask": partly})[0]
    torch.testing.assert_close(hidden, told(partly), rtol=0, atol=0)
    network(x, log_snr, {**cond, "action": action, "action_mask": partly})[0].sum().backward()
    assert all(parameter.grad.any() for parameter in (network.action.weight, network.no_action))


def test_a_network_with_actions_begins_as_the_one_without_them():
    without, with_ = sequence_network(), sequence_network(action_features=2)
    old = without.state_dict()
    assert all(torch.equal(value, with_.state_dict()[name]) for name, value in old.items())
    new = with_.inherit(old, None)
    with_.load_state_dict({**with_.state_dict(), **new})
    x, log_snr, cond = inputs()
    told = {**cond, "action": torch.ones(3, 6, 2)}
    with_, without = with_.double(), without.double()
    torch.testing.assert_close(with_(x, log_snr, told)[1], without(x, log_snr, cond)[1])


def test_wrong_actions_are_named():
    x, log_snr, _ = inputs()
    action = torch.zeros(3, 6, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="build it with action_features"):
        sequence_network().double()(x, log_snr, {"action": action})
    network = sequence_network(action_features=2).double()
    with pytest.raises(ValueError, match=r"an action of shape \(3, 5, 2\).* expected \(3, 6, 2\)"):
        network(x, log_snr, {"action": action[:, :5]})
    with pytest.raises(ValueError, match=r"an action_mask of shape \(6,\).* \(3,\) or \(3, 6\)"):
        network(x, log_snr, {"action": action, "action_mask": torch.ones(6, dtype=torch.bool)})

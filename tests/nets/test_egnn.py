"""Networks for points: they turn with them, know no order, and see nothing of padding."""

import math

import pytest
import torch

from noiseloom.nets import EGNN, PointEncoder
from noiseloom.nets.geometry import moments
from noiseloom.rng import Rng

F64 = torch.float64
B, N, F = 4, 6, 3
COUNTS = torch.tensor([6, 3, 1, 4])
MASK = torch.arange(N) < COUNTS[:, None]
LOG_SNR = torch.linspace(-6, 7, B)
NODE_LOG_SNR = torch.linspace(-5, 5, B * N).reshape(B, N)
FORMS = {
    "positions": {},
    "kinds": {"kinds": F},
    "everything": {"kinds": F, "num_classes": 2, "self_conditioning": True},
}
forms = pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)


def inputs(options, dtype=F64, name="x"):
    """A state, log-SNRs and conditions, with nonsense in padding."""
    draw = Rng(0).fold(name)
    x, log_snr = draw.fold("positions").normal((B, N, 3), dtype), LOG_SNR
    if "kinds" in options:
        x = {"positions": x, "kinds": draw.fold("kinds").normal((B, N, F), dtype)}
        log_snr = {"positions": LOG_SNR, "kinds": NODE_LOG_SNR}
    cond = {"mask": MASK}
    if "num_classes" in options:
        cond["label"] = torch.tensor([0, 1, 2, 0])
    if options.get("self_conditioning"):
        cond["estimate"] = inputs({"kinds": F}, dtype, "estimate")[0]
    return x, log_snr, cond


def each(function, state, positions_only=False):
    """A function of positions, or of all parts, wherever they are."""
    if isinstance(state, torch.Tensor):
        return function(state)
    return {
        k: function(v) if k == "positions" or not positions_only else v for k, v in state.items()
    }


def in_all(function, x, cond, positions_only=False):
    told = dict(cond)
    if "estimate" in told:
        told["estimate"] = each(function, told["estimate"], positions_only)
    return each(function, x, positions_only), told


def close(found, expected, atol=1e-10):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def make(awake, options, **sizes):
    return awake(EGNN(width=12, depth=3, **sizes, **options))


def rotation(determinant):
    q, r = torch.linalg.qr(Rng(5).normal((3, 3), F64))
    q = q * r.diagonal().sign()
    return q * (torch.linalg.det(q).sign() * determinant)  # 3 axes: the sign of q is that of det


@forms
@pytest.mark.parametrize("determinant", [1, -1], ids=["rotation", "reflection"])
def test_positions_turn_and_features_stay(options, determinant, awake):
    """Check: equivariant to 1e-10 in float64, of outputs that are not small."""
    net, q = make(awake, options), rotation(determinant)
    assert torch.linalg.det(q) * determinant > 0
    x, log_snr, cond = inputs(options)
    shift = torch.tensor([3.0, -1.0, 0.5], dtype=F64)
    expected = net(x, log_snr, cond)
    # Of the estimate too: it is a guess of the same points.
    turned, told = in_all(lambda p: p @ q + shift, x, cond, positions_only=True)
    found = net(turned, log_snr, told)
    close(found, each(lambda p: p @ q, expected, positions_only=True))
    sizes = [expected] if isinstance(expected, torch.Tensor) else list(expected.values())
    assert all(part.abs().max() > 0.1 for part in sizes)


@forms
def test_the_order_of_the_points_does_not_matter(options, awake):
    net, order = make(awake, options), torch.tensor([4, 2, 0, 5, 1, 3])
    x, log_snr, cond = inputs(options)
    expected = net(x, log_snr, cond)
    moved, told = in_all(lambda p: p[:, order], x, cond)
    told["mask"] = MASK[:, order]
    if isinstance(log_snr, dict):
        log_snr = {**log_snr, "kinds": NODE_LOG_SNR[:, order]}
    close(net(moved, log_snr, told), each(lambda p: p[:, order], expected))


@forms
@pytest.mark.parametrize("nonsense", [7.0, 1e30, math.nan])
def test_padding_takes_no_part(options, nonsense, awake):
    net = make(awake, options)
    x, log_snr, cond = inputs(options)
    expected = net(x, log_snr, cond)
    other, told = in_all(lambda p: torch.where(MASK[..., None], p, nonsense), x, cond)
    found = net(other, log_snr, told)
    for part in [found] if isinstance(found, torch.Tensor) else found.values():
        assert not part[~MASK].any()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for i, n in enumerate(COUNTS.tolist()):

        def alone(v, i=i, n=n):
            return v[i : i + 1, :n]

        small, own = in_all(alone, x, cond)
        own = {k: v[i : i + 1] if k == "label" else v for k, v in own.items() if k != "mask"}
        clock = log_snr
        if isinstance(clock, dict):
            clock = {"positions": LOG_SNR[i : i + 1], "kinds": NODE_LOG_SNR[i : i + 1, :n]}
        else:
            clock = clock[i : i + 1]
        close(net(small, clock, own), each(alone, expected))


@forms
def test_what_is_said_of_positions_has_no_centre(options, awake):
    y = make(awake, options)(*inputs(options))
    positions = y if isinstance(y, torch.Tensor) else y["positions"]
    assert positions.sum(1).abs().max() < 1e-12
    assert not positions[2].any()  # a single point has nowhere to go


@forms
def test_the_output_is_0_at_first_and_everything_can_learn(options):
    with Rng(0).torch():
        net = EGNN(width=12, depth=2, **options)
    args = inputs(options, torch.float32)
    y = net(*args)
    parts = [y] if isinstance(y, torch.Tensor) else list(y.values())
    assert not any(part.any() for part in parts)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(4):
        optimiser.zero_grad()
        y = net(*args)
        parts = [y] if isinstance(y, torch.Tensor) else list(y.values())
        goals = [Rng(i).normal(part.shape) for i, part in enumerate(parts)]
        sum((a - b).square().sum() for a, b in zip(parts, goals, strict=True)).backward()
        optimiser.step()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize("name", ["label", "estimate", "positions", "kinds", "mask", "level"])
def test_everything_it_is_told_has_an_effect(name, awake):
    options = FORMS["everything"]
    net = make(awake, options)
    x, log_snr, cond = inputs(options)
    expected = net(x, log_snr, cond)
    if name == "label":
        cond = {**cond, "label": 1 - cond["label"].clamp(max=1)}
    elif name == "estimate":
        cond = {k: v for k, v in cond.items() if k != "estimate"}
    elif name == "mask":
        cond = {**cond, "mask": torch.ones_like(MASK)}
    elif name == "level":
        log_snr = {**log_snr, "kinds": NODE_LOG_SNR + 1}
    else:
        x = {**x, name: x[name] * 1.1}
    found = net(x, log_snr, cond)
    for part in found:
        changed = (found[part] - expected[part])[1, : COUNTS[1]].abs().amax(-1)
        assert changed.min() > 1e-7


def test_an_absent_estimate_is_zeros(awake):
    options = FORMS["everything"]
    net = make(awake, options)
    x, log_snr, cond = inputs(options)
    null = {**cond, "estimate": {k: torch.zeros_like(v) for k, v in x.items()}}
    bare = {k: v for k, v in cond.items() if k != "estimate"}
    torch.testing.assert_close(net(x, log_snr, bare), net(x, log_snr, null), rtol=0, atol=0)


def test_an_encoder_does_not_depend_on_how_points_lie_or_in_which_order(awake):
    encoder = awake(PointEncoder(F, width=12, depth=3, num_classes=2))
    x, log_snr, cond = inputs({"kinds": F, "num_classes": 2})
    expected = encoder(x, log_snr, cond)
    assert expected.shape == (B, 12)
    turned, _ = in_all(lambda p: p @ rotation(-1) - 2, x, cond, positions_only=True)
    close(encoder(turned, log_snr, cond), expected)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    found = encoder(
        each(lambda p: p[:, order], x),
        {**log_snr, "kinds": NODE_LOG_SNR[:, order]},
        {**cond, "mask": MASK[:, order]},
    )
    close(found, expected)
    other = each(lambda p: torch.where(MASK[..., None], p, math.nan), x)
    torch.testing.assert_close(encoder(other, log_snr, cond), expected, rtol=0, atol=0)


def test_an_encoder_tells_points_apart_as_it_is_made():
    """The frozen random copy of a context regulariser is one."""
    with Rng(0).torch():
        encoder = PointEncoder(width=16, depth=3)
    x = Rng(1).normal((64, 5, 3))
    h = encoder(x, torch.zeros(64))
    assert h.std(0).min() > 1e-3
    assert (encoder(x, torch.ones(64)) - h).abs().max() > 1e-3
    fewer = encoder(x, torch.zeros(64), {"mask": (torch.arange(5) < 4).expand(64, 5)})
    assert (fewer - h).abs().amax(1).min() > 1e-3


def test_gradients_in_positions_exist_where_points_meet(awake):
    encoder = awake(PointEncoder(width=12, depth=2))
    x = Rng(1).normal((2, 4, 3), F64)
    x[:, 1] = x[:, 0]
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(x, torch.zeros(2)).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.sum(1).abs().max() < 1e-10  # no force on the centre
    torque = torch.linalg.cross(x - x.mean(1, keepdim=True), gradient).sum(1)
    assert torque.abs().max() < 1e-10
    torch.autograd.gradcheck(
        lambda p: encoder(p, torch.zeros(2)), x.detach()[:, 1:].requires_grad_()
    )


def test_moments_are_those_of_the_points_about_their_centre():
    x = Rng(0).normal((B, N, 3), F64)
    invariants, powers = moments(torch.where(MASK[..., None], x, 0), MASK)
    for i, n in enumerate(COUNTS.tolist()):
        own = x[i, :n] - x[i, :n].mean(0)
        moment = own.T @ own / n
        trace = moment.trace() + 1e-6
        moment = moment / trace
        for k in range(3):
            expected = own @ torch.linalg.matrix_power(moment, k)
            close(powers[i, :n, k], expected)
            close(invariants[i, :n, k], (own * expected).sum(-1) / trace)
        values = torch.linalg.eigvalsh(moment)
        of_all = torch.stack((trace.log(), (values**2).sum(), (values**3).sum()))
        close(invariants[i, 0, 3:], of_all)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's
def test_a_compiled_network_says_the_same(awake):
    options = FORMS["everything"]
    net = awake(EGNN(width=12, depth=2, **options))
    args = inputs(options)
    expected = net(*args)
    net.compile(dynamic=False, backend="aot_eager")
    close(net(*args), expected)


def test_in_bfloat16_it_turns_to_the_rounding_of_its_coefficients(awake):
    """Points and lines stay in single precision under autocast."""
    net = make(awake, {}).float()
    x, log_snr, cond = inputs({}, torch.float32)
    q = rotation(-1).float()
    turned = x @ q
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = net(x, log_snr, cond), net(turned, log_snr, cond)
    assert expected.dtype == torch.float32
    torch.testing.assert_close(found, expected @ q, rtol=0, atol=0.02 * expected.abs().max().item())


def test_bad_input_is_refused():
    x, log_snr, _ = inputs({}, torch.float32)
    net = EGNN(width=8, depth=1)
    with pytest.raises(ValueError, match="x: expected one tensor, got parts"):
        net({"positions": x}, log_snr)
    with pytest.raises(ValueError, match=r"expected positions \(B, N, 3\), and log-SNRs \(B,\)"):
        net(x[..., :2], log_snr)
    with pytest.raises(ValueError, match=r"log-SNRs of shapes \[\(4, 6\)\]"):
        net(x, NODE_LOG_SNR)
    with pytest.raises(ValueError, match=r"expected bool of shape \(4, 6\)"):
        net(x, log_snr, {"mask": MASK.float()})
    with pytest.raises(ValueError, match="without self-conditioning"):
        net(x, log_snr, {"estimate": x})
    with pytest.raises(ValueError, match="knows no condition 'codes'"):
        net(x, log_snr, {"codes": x})
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        EGNN(width=8, depth=0)
    net = EGNN(2, width=8, depth=1, self_conditioning=True)
    parts = {"positions": x, "kinds": torch.zeros(B, N, 2)}
    times = {"positions": LOG_SNR, "kinds": LOG_SNR}
    with pytest.raises(ValueError, match=r"log_snr: expected the parts \['kinds', 'positions'\]"):
        net(parts, log_snr)
    with pytest.raises(ValueError, match=r"\(4, 6, 3\)\] for a state of shapes"):
        net(parts, times, {"estimate": {**parts, "kinds": torch.zeros(B, N, 3)}})
    assert net(parts, times, {"dropout": torch.arange(B)})["kinds"].shape == (B, N, 2)
    assert EGNN(2, 5, width=8, depth=1)(parts, times)["kinds"].shape == (B, N, 5)

"""Rollouts as a compiler and a CUDA graph see them: one form of call, and results that are lent."""

import contextlib
import itertools

import pytest
import torch
from recorded import capture
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from noiseloom import (
    ClassifierFree,
    Cosine,
    GaussianDiffusion,
    HistoryGuided,
    Preconditioned,
    RewardGuided,
    Rng,
    SamplingPlan,
    SelfConditioned,
    SigmoidHead,
    along,
    ancestral,
    compiled,
    dpm_solver_pp_2m,
    final,
    fractional_history,
    heun,
    replay,
    sample,
)
from noiseloom.carry import caches
from noiseloom.nets import CausalTransformer, Recurrent, VideoTransformer
from noiseloom.rollouts import rollout
from noiseloom.training.precision import in_bfloat16

SCHEDULE = Cosine()
DIFFUSION = GaussianDiffusion(SCHEDULE)
B, D, K, A = 2, 3, 4, 2
SHAPES = {"transformer": (D,), "recurrent": (D,), "video": (D, 2, 4)}
KINDS = pytest.mark.parametrize("kind", SHAPES)


def build(kind, window=4, dtype=torch.float64, depth=2):
    options = {"width": 16, "num_classes": K, "action_features": A, "self_conditioning": True}
    with Rng(0).torch():
        if kind == "recurrent":
            network = Recurrent(D, D, depth=depth, **options)
        elif kind == "video":
            options |= {"depth": depth, "heads": 2, "window": window}
            network = VideoTransformer(D, D, patch=2, **options)
        else:
            options |= {"depth": depth, "heads": 2, "window": window}
            network = CausalTransformer(D, D, **options)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    return network.to(dtype).eval()


class Growing(nn.Module):
    """A network without blank caches: they grow from nothing, and hold what there has been."""

    def __init__(self, network):
        super().__init__()
        self.inner, self.memory = network, network.memory

    def forward(self, x, log_snr, cond):
        return self.inner(x, log_snr, cond)


class Lending(nn.Module):
    """What a CUDA graph does: a result is lent until the next call, whichever is made."""

    def __init__(self, network):
        super().__init__()
        self.inner, self.lent = network, []
        self.memory = getattr(network, "memory", 0)
        if hasattr(network, "blank"):
            self.blank = network.blank

    def forward(self, x, log_snr, cond):
        for leaf in self.lent:
            leaf.fill_(torch.nan)
        result = self.inner(x, log_snr, cond)
        self.lent = leaves(result)
        return result


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree] if tree.is_floating_point() else []
    return [x for y in (tree.values() if isinstance(tree, dict) else tree) for x in leaves(y)]


def plain(inner):
    return inner


def guided(inner):
    return SelfConditioned(ClassifierFree(inner, 1.7))


def momentum(inner):
    return ClassifierFree(SelfConditioned(inner, momentum=0.3), 1.7)


def limited(inner):
    return SelfConditioned(inner, limit=1.0)


def historical(inner):
    return SelfConditioned(HistoryGuided(inner, DIFFUSION, fractional_history(1.7, 0.5)))


BRANCHES = {plain: 1, guided: 2, momentum: 2, historical: 3}
WRAPPERS = pytest.mark.parametrize("wrap", BRANCHES)


def run(network, kind, wrap=guided, *, n=2, count=10, chunk=1, dtype=torch.float64, **options):
    """The first tokens of a rollout, and its last carry."""
    head = options.pop("head", None)
    denoiser = wrap(Preconditioned(network, SCHEDULE, head=head))
    first = options.get("position", 0)
    actions = Rng(5).normal((B, 60, A), dtype)
    options.setdefault("cond", along({"label": torch.tensor([1, 3])}, action=actions))
    plan = SamplingPlan.uniform(3) if chunk == 1 else SamplingPlan.autoregressive(3, chunk)
    steps = rollout(
        denoiser,
        DIFFUSION,
        plan,
        Rng(3).normal((B, n, *SHAPES[kind]), dtype),
        memory=network.memory,
        chunk=chunk,
        rng=Rng(4),
        **options,
    )
    found = list(itertools.islice(steps, count))
    assert found[0].position == first + n
    return torch.cat([step.x for step in found], 1), found


@KINDS
@pytest.mark.parametrize("n", [0, 2, 7])
@WRAPPERS
def test_caches_have_one_form_from_the_first_token_on(kind, n, wrap):
    network = build(kind)
    _, found = run(network, kind, wrap, n=n)
    forms = {
        tuple((leaf.shape, leaf.stride()) for leaf in leaves(caches(step.carry))) for step in found
    }
    assert len(forms) == 1
    assert {shape[1] for shape, _ in forms.pop()} == {network.memory}


@KINDS
@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize(("n", "chunk", "window"), [(0, 1, 4), (2, 3, 4), (6, 1, 3), (1, 1, 1)])
def test_what_is_not_there_is_not_seen(kind, start, n, chunk, window):
    network = build(kind, window)
    settings = {"n": n, "chunk": chunk, "position": start, "count": 5}
    expected, _ = run(Growing(network), kind, **settings)
    y, _ = run(network, kind, **settings)
    assert expected.std() > 0.1
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)


@KINDS
def test_masks_cover_what_is_kept(kind):
    network, n = build(kind), 3
    real = torch.arange(20).expand(B, 20) >= torch.tensor([[0], [2]])  # padding comes first
    padded = torch.cat((torch.ones(B, network.memory, dtype=torch.bool), real), 1)

    def growing(first, count):
        return {"mask": real[:, max(first - network.memory, 0) : first + count]}

    def fixed(first, count):
        return {"mask": padded[:, first : first + network.memory + count]}

    expected, _ = run(Growing(network), kind, n=n, cond=growing)
    y, _ = run(network, kind, n=n, cond=fixed)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    other, _ = run(network, kind, n=n, cond={})
    assert (other - y)[0].abs().max() < 1e-10 < 1e-3 < (other - y)[1].abs().max()


@KINDS
@WRAPPERS
@pytest.mark.parametrize("head", [None, SigmoidHead()])
def test_nothing_is_kept_in_memory_that_is_lent(kind, wrap, head):
    network = build(kind)
    expected, _ = run(network, kind, wrap, head=head)
    y, _ = run(Lending(network), kind, wrap, head=head)
    assert torch.equal(y, expected)


class Copies(TorchDispatchMode):
    """Counts copies from the host: a number given to `where` becomes a tensor of the host's."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.name() in ("aten::where.self", "aten::copy_", "aten::_to_copy"):
            places = [x.device.type for x in (*args, result) if isinstance(x, torch.Tensor)]
            self.count += len(set(places)) > 1
        return result


class Belief(nn.Module):
    """A network that hands on a hidden state."""

    def forward(self, x, log_snr, cond):
        hidden = torch.zeros_like(x) if cond.get("hidden") is None else cond["hidden"]
        return x / 2 + hidden, hidden + 0.1 * x


@pytest.mark.parametrize("kind", ["hidden", "estimate"])
def test_nor_when_sampling(kind):
    x, results = Rng(0).normal((B, 5)), []
    for network in (Belief(), Lending(Belief())):
        denoiser = SelfConditioned(Preconditioned(network, SCHEDULE), kind=kind)
        plan = SamplingPlan.uniform(4)
        steps = list(sample(denoiser, DIFFUSION, plan, x, rng=Rng(1), solver=ancestral(1.0)))
        results.append([(step.x, step.result, step.prediction.mean) for step in steps])
    for expected, found in zip(*results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    ("kind", "wrap", "chunk", "graphs"),
    [
        ("transformer", plain, 1, 1),
        ("recurrent", plain, 1, 1),
        ("video", plain, 1, 1),
        ("transformer", guided, 1, 2),  # one without the label
        ("transformer", historical, 1, 1),  # what is hidden is of the same form
        ("transformer", plain, 3, 2),  # times per token, and one time to write at
    ],
)
def test_a_rollout_of_three_windows_compiles_the_network_once(kind, wrap, chunk, graphs):
    network = build(kind, dtype=torch.float32, depth=1)
    settings = {"n": 2, "count": 12 // chunk, "chunk": chunk, "dtype": torch.float32}
    expected, _ = run(network, kind, wrap, **settings)
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    strict = torch._dynamo.config.patch(error_on_recompile=graphs == 1)
    with strict, compiled(network, backend=counter):
        y, _ = run(network, kind, wrap, **settings)
    assert counter.frame_count == graphs
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-4)
    again, _ = run(network, kind, wrap, **settings)
    assert counter.frame_count == graphs  # it is as it was
    assert torch.equal(again, expected)


@KINDS
@WRAPPERS
@pytest.mark.parametrize(
    "settings", [{"n": 0}, {"n": 2, "chunk": 3}, {"n": 6, "solver": ancestral(1.0)}]
)
def test_a_token_is_made_by_one_recording(kind, wrap, settings, monkeypatch):
    monkeypatch.setitem(replay._CAPTURES, "cpu", capture)
    network, calls = build(kind, depth=1), []
    expected, _ = run(network, kind, wrap, count=7, **settings)
    network.register_forward_hook(lambda *_: calls.append(1))
    y, found = run(network, kind, wrap, count=7, graph=True, **settings)
    # To rounding: a recording is given contiguous copies, which some processors multiply otherwise.
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    # The context; a first token, without a past another form; a token as it is; and a recorded one.
    tokens = 3 if settings["n"] == 0 else 2
    steps, chunk = 3, settings.get("chunk", 1)
    assert len(calls) == BRANCHES[wrap] * ((settings["n"] > 0) + tokens * (steps * chunk + 1))
    places = [leaf.data_ptr() for step in found for leaf in leaves(step.carry)]
    assert len(set(places)) == len(places) or network.memory == 0  # none is lent


@KINDS
def test_nothing_is_compiled_while_it_is_recorded(kind, monkeypatch):
    """A compiler asks the device, which a recording forbids; and it compiles for strides."""
    torch.compiler.reset()
    counter, compiled_then = CompileCounterWithBackend("eager"), []

    def captured(function, inputs):
        before = counter.frame_count
        outputs = function(*inputs)
        compiled_then.append(counter.frame_count - before)
        return lambda: None, outputs

    monkeypatch.setitem(replay._CAPTURES, "cpu", captured)
    network = build(kind, dtype=torch.float32, depth=1)
    with compiled(network, backend=counter):
        run(network, kind, plain, n=2, count=3, dtype=torch.float32, graph=True)
    assert counter.frame_count > 0
    assert compiled_then == [0]


@KINDS
@pytest.mark.parametrize("wrap", [limited, historical])
def test_nothing_waits_for_the_device(kind, wrap, monkeypatch):
    # On the device "meta" there are no numbers: whoever asks for one raises.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    network = build(kind, dtype=torch.float32, depth=1).to("meta")
    context = torch.empty(B, 2, *SHAPES[kind], device="meta")
    for chunk, solver in ((1, ancestral(1.0)), (2, heun()), (2, dpm_solver_pp_2m())):
        plan = SamplingPlan.uniform(2) if chunk == 1 else SamplingPlan.autoregressive(2, chunk)
        steps = rollout(
            wrap(Preconditioned(network, SCHEDULE, target="v")),
            DIFFUSION,
            plan,
            context,
            memory=network.memory,
            chunk=chunk,
            rng=Rng(0),
            solver=solver,
        )
        next(steps)
        with Copies() as copies:
            assert [step.x.device.type for step in itertools.islice(steps, 2)] == ["meta"] * 2
        assert copies.count == 0


@pytest.mark.parametrize("kind", ["transformer", "video"])
def test_in_bfloat16_so_are_caches(kind):
    network = build(kind, dtype=torch.float32)
    expected, _ = run(network, kind, plain, dtype=torch.float32, count=4)
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    with compiled(network, bfloat16=True, backend=counter):
        y, found = run(network, kind, plain, dtype=torch.float32, count=4)
    assert {leaf.dtype for leaf in leaves(caches(found[-1].carry))} == {torch.bfloat16}
    assert y.dtype == torch.float32
    assert counter.frame_count == 1
    assert 0 < (y - expected).square().mean().sqrt() < 0.1 * expected.std()
    assert "forward" not in vars(network)
    assert "blank" not in vars(network)


def test_regions_in_bfloat16_nest():
    """As where samples of a loaded run, drawn in bfloat16, are drawn with compiled networks."""
    network = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    plain = network(x)
    with in_bfloat16([network], x.device):
        outer = network(x)
        with in_bfloat16([network], x.device):
            assert torch.equal(network(x), outer)
        assert torch.equal(network(x), outer)
        assert not torch.equal(outer, plain)
    assert torch.equal(network(x), plain)
    assert "forward" not in vars(network)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's
def test_guides_go_back_through_a_compiled_network_once_and_several_times():
    network = build("transformer", dtype=torch.float32)
    denoiser = Preconditioned(network, SCHEDULE)
    x, t = Rng(0).normal((B, 4, D)), torch.full((B, 4), 0.5)
    cond = {"label": torch.tensor([1, 3]), "action": Rng(1).normal((B, 4, A))}

    def reward(x):
        return -(x - 2).square().sum(-1).add(1e-6).sqrt().mean(1)

    guides = [RewardGuided(denoiser, DIFFUSION, reward, 100.0, rounds=k) for k in (0, 3)]
    expected = [guide(x, t, cond)[0].mean for guide in guides]
    with compiled(network, backend="aot_eager"):
        got = [guide(x, t, cond)[0].mean for guide in guides]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_the_network_inside_is_what_is_compiled(monkeypatch):
    seen = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **given: seen.append((self, given)))
    denoiser = guided(Preconditioned(build("recurrent"), SCHEDULE))
    with compiled(denoiser):
        pass
    inner = denoiser.denoiser.denoiser.network
    assert seen == [(inner, {"dynamic": False, "backend": "inductor", "mode": None})]


def test_a_time_that_the_host_knows_is_worked_out_once(monkeypatch):
    calls = []
    real = Cosine._pair
    monkeypatch.setattr(Cosine, "_pair", lambda self, t: calls.append(t) or real(self, t))
    schedule = Cosine(ns=1.25e-4)
    denoiser, diffusion = Preconditioned(Belief(), schedule), GaussianDiffusion(schedule)
    plan, x = SamplingPlan.uniform(7), Rng(0).normal((B, 5))
    ends = [final(sample(denoiser, diffusion, plan, x, cond={}, rng=Rng(0))).x for _ in range(3)]
    assert torch.equal(ends[0], ends[2])
    assert len(calls) == 8

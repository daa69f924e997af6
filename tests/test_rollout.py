"""Rollouts against one pass over the whole history, and against a process whose laws are known."""

import gc
import itertools

import pytest
import torch
from oracles import LastSeen
from torch import nn

from noiseloom import (
    ClassifierFree,
    Clipped,
    Cosine,
    GaussianDiffusion,
    MonteCarloGuided,
    Preconditioned,
    Prediction,
    RewardGuided,
    Rng,
    SamplingPlan,
    SelfConditioned,
    SelfGuided,
    ancestral,
    heun,
)
from noiseloom.carry import caches
from noiseloom.nets import CausalTransformer, Recurrent, Transformer, VideoTransformer, VideoUNet
from noiseloom.rollouts import along, rollout
from noiseloom.sampling import final, sample
from noiseloom.sliding import slide

SCHEDULE = Cosine()
DIFFUSION = GaussianDiffusion(SCHEDULE)
B, D, K, A, LEVEL = 2, 3, 4, 2, 0.1
SHAPES = {"transformer": (D,), "recurrent": (D,), "video": (D, 2, 4), "unet": (D, 2, 4)}


class Counted(nn.Module):
    """A network that counts the tokens it reads, of a sample and of all rows of a batch."""

    def __init__(self, network):
        super().__init__()
        self.network, self.tokens, self.rows = network, 0, 0

    def forward(self, x, log_snr, cond):
        self.tokens += x.shape[1]
        self.rows += x.shape[0] * x.shape[1]
        return self.network(x, log_snr, cond)


def build(kind, window=4, dtype=torch.float64, **options):
    options = {"width": 16, "num_classes": K, "action_features": A, **options}
    options["self_conditioning"] = True
    with Rng(0).torch():
        if kind == "recurrent":
            network = Recurrent(D, D, depth=2, **options)
        elif kind == "video":
            options |= {"depth": 2, "heads": 2, "window": window}
            network = VideoTransformer(D, D, patch=2, **options)
        elif kind == "unet":
            options |= {"blocks": 1, "attention": (False, True), "time": (True, True)}
            options |= {"multipliers": (1, 2), "head_width": 8, "width": 8, "window": window}
            network = VideoUNet(D, D, patch=1, **options)
        else:
            network = CausalTransformer(D, D, depth=2, heads=2, window=window, **options)
    with Rng(1).torch(), torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    return network.to(dtype).eval()


def plain(inner):
    return inner


def estimates(inner):
    return SelfConditioned(inner, limit=2.0)


def guided(inner):
    return SelfConditioned(Clipped(ClassifierFree(inner, 1.7), 3.0), momentum=0.3)


def twice(inner):
    return SelfGuided(inner, 2.0, limit=2.0)


def nearer(x):
    """A reward of the newest token."""
    return -(x[:, -1] - 0.5).square().flatten(1).sum(1)


def rewarded(inner):
    return SelfConditioned(RewardGuided(inner, DIFFUSION, nearer, 0.3, begin=0.9))


WRAPPERS = pytest.mark.parametrize("wrap", [plain, estimates, guided, twice])
KINDS = pytest.mark.parametrize("kind", ["transformer", "recurrent", "video", "unet"])


def conditions(tokens, dtype=torch.float64):
    actions = Rng(5).normal((B, tokens, A), dtype)
    return along({"label": torch.tensor([1, 3])}, action=actions)


class History:
    """The reference: no cache, no forgetting; every call is a pass over all there has been."""

    def __init__(self, denoiser, rng, each):
        self.denoiser, self.rng, self.each = denoiser, rng, each
        self.seen, self.carries = None, []

    def call(self, x, t, start, carry):
        """The denoiser's word on the newest tokens, and the carry of these tokens."""
        count = x.shape[1]
        known = 0 if self.seen is None else self.seen.shape[1]
        assert known == start
        state = x if known == 0 else torch.cat((self.seen, x), 1)
        times = torch.full((1, start + count), LEVEL, dtype=x.dtype)
        times[:, start:] = t
        parts = [*self.carries, carry or {"self_conditioning": {}, "self_guided": {}}]
        estimates = [
            part.get("self_conditioning", {}).get("estimate", x.new_zeros(B, n, *x.shape[2:]))
            for part, n in zip(parts, [*(n for n in self.sizes), count], strict=True)
        ]
        given = {"self_conditioning": {"estimate": torch.cat(estimates, 1)}}
        prediction, after = self.denoiser(state, times, self.each(0, start + count), given)
        estimate = after.get("self_conditioning", {}).get("estimate")
        own = {} if estimate is None else {"self_conditioning": {"estimate": estimate[:, start:]}}
        return Prediction(prediction.mean[:, start:]), own

    def run(self, plan, context, chunk, chunks, solver):
        """What a rollout should yield."""
        self.sizes, start, found, shape = [], 0, [], (B, chunk, *context.shape[2:])
        if context.shape[1]:
            self.write(context, 0, None)
            start = context.shape[1]
        for _ in range(chunks):
            draws = self.rng.each("token", torch.arange(start, start + chunk))

            def denoise(x, t, cond=None, carry=None, rng=None, start=start):
                return self.call(x, t, start, carry)

            x = DIFFUSION.prior(context.new_empty(shape), draws.fold("prior"))
            last = final(
                sample(denoise, DIFFUSION, plan, x, rng=draws.fold("sampling"), solver=solver)
            )
            self.write(last.x, start, last.carry)
            found.append(last.x)
            start += chunk
        return torch.cat(found, 1)

    def write(self, x, start, carry):
        draws = self.rng.each("token", torch.arange(start, start + x.shape[1]))
        level = torch.tensor(LEVEL, dtype=x.dtype)
        noisy = DIFFUSION.corrupt(x, level, draws.fold("stabilisation"))
        self.seen = noisy if self.seen is None else torch.cat((self.seen, noisy), 1)
        self.carries.append(carry or {})
        self.sizes.append(x.shape[1])


SETTINGS = [
    (4, 1, 3, ancestral()),
    (2, 1, 0, heun()),
    (3, 3, 2, ancestral(1.0)),
    (4, 1, 6, ancestral(1.0)),
    (30, 1, 1, ancestral(0.5)),
    (1, 1, 2, ancestral()),
]
KINDS_AND_SETTINGS = [
    *(("video", *some) for some in SETTINGS[:3]),
    *(("unet", *some) for some in (SETTINGS[0], SETTINGS[2])),
    *((kind, *some) for kind in ("transformer", "recurrent") for some in SETTINGS),
]


CASES = [(wrap, *some) for wrap in (plain, estimates, guided) for some in KINDS_AND_SETTINGS]
CASES += [
    (wrap, kind, *some)
    for wrap in (rewarded, twice)
    for kind in SHAPES
    for some in (SETTINGS[0], SETTINGS[2])
]


@pytest.mark.parametrize(("wrap", "kind", "window", "chunk", "n", "solver"), CASES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_rollout_is_the_pass_over_the_whole_history(
    wrap, kind, window, chunk, n, solver, dtype, limit
):
    network = build(kind, window, dtype)
    denoiser = wrap(Preconditioned(network, SCHEDULE))
    context, rng = Rng(3).normal((B, n, *SHAPES[kind]), dtype), Rng(4).samples(B)
    plan = SamplingPlan.uniform(4) if chunk == 1 else SamplingPlan.autoregressive(4, chunk)
    each = conditions(n + 3 * 4, dtype)
    steps = rollout(
        denoiser,
        DIFFUSION,
        plan,
        context,
        memory=network.memory,
        chunk=chunk,
        stabilisation=LEVEL,
        cond=each,
        rng=rng,
        solver=solver,
    )
    chunks = 9 if chunk == 1 else 4
    x = torch.cat([step.x for step in itertools.islice(steps, chunks)], 1)
    with torch.no_grad():
        expected = History(denoiser, rng, each).run(plan, context, chunk, chunks, solver)
    assert expected.std() > 0.1
    torch.testing.assert_close(
        x, expected, rtol=0, atol=limit * max(1.0, float(expected.abs().max()))
    )


@WRAPPERS
@KINDS
def test_a_rollout_goes_on_where_it_was_left(kind, wrap):
    network = build(kind)
    denoiser = wrap(Preconditioned(network, SCHEDULE))
    context = Rng(3).normal((B, 5, *SHAPES[kind])).double()
    settings = {"memory": network.memory, "rng": Rng(4), "cond": conditions(30)}
    plan = SamplingPlan.uniform(3)
    whole = list(itertools.islice(rollout(denoiser, DIFFUSION, plan, context, **settings), 8))
    assert [step.position for step in whole] == list(range(5, 13))
    mid = whole[4]
    for where in ({}, {"position": mid.position + 1}):
        settings |= {"carry": mid.carry, **where}
        rest = rollout(denoiser, DIFFUSION, plan, context[:, :0], **settings)
        for a, b in zip(whole[5:], rest, strict=False):
            assert a.position == b.position
            assert torch.equal(a.x, b.x)


@KINDS
def test_check_13_5_a_seed_repeats_and_the_context_is_left_as_it_was(kind):
    denoiser = guided(Preconditioned(build(kind), SCHEDULE))
    context = Rng(3).normal((B, 3, *SHAPES[kind])).double()
    before, plan = context.clone(), SamplingPlan.uniform(3)
    settings = {"stabilisation": LEVEL, "cond": conditions(9), "solver": ancestral(1.0)}

    def made(seed):
        steps = rollout(denoiser, DIFFUSION, plan, context, rng=Rng(seed), **settings)
        return torch.cat([step.x for step in itertools.islice(steps, 5)], 1)

    one = made(4)
    assert torch.equal(made(4), one)
    assert torch.equal(context, before)
    assert not torch.equal(made(5), one)


@KINDS
def test_what_was_seen_since_is_a_context_after_the_carry(kind):
    """As if all had been known from the start, token for token."""
    network = build(kind)
    denoiser, x = Preconditioned(network, SCHEDULE), Rng(3).normal((B, 8, *SHAPES[kind])).double()
    settings = {"rng": Rng(4), "cond": conditions(30)}
    plan = SamplingPlan.uniform(3)
    *_, mid = itertools.islice(rollout(denoiser, DIFFUSION, plan, x[:, :3], **settings), 2)
    made = [
        step.x
        for step in itertools.islice(rollout(denoiser, DIFFUSION, plan, x[:, :3], **settings), 2)
    ]
    seen = torch.cat((x[:, :3], *made, x[:, 3:]), 1)
    on = rollout(denoiser, DIFFUSION, plan, x[:, 3:], carry=mid.carry, **settings)
    whole = rollout(denoiser, DIFFUSION, plan, seen, **settings)
    for a, b in itertools.islice(zip(on, whole, strict=True), 3):
        assert a.position == b.position
        torch.testing.assert_close(a.x, b.x, rtol=0, atol=1e-10)


def test_a_carry_says_where_it_goes_on():
    denoiser = Preconditioned(build("transformer"), SCHEDULE)
    context, plan = torch.zeros(B, 2, D, dtype=torch.float64), SamplingPlan.uniform(2)
    old = next(rollout(denoiser, DIFFUSION, plan, context, rng=Rng(0)))
    assert old.carry["position"].tolist() == [3] * B

    def again(carry, **options):
        return rollout(
            denoiser, DIFFUSION, plan, context[:, :0], carry=carry, rng=Rng(0), **options
        )

    assert next(again(old.carry)).position == 3
    with pytest.raises(ValueError, match="goes on at token 3, and got position 0: leave position"):
        again(old.carry, position=0)
    apart = {**old.carry, "position": torch.tensor([3, 4])}
    with pytest.raises(ValueError, match=r"goes on at token 3, and its rows are at \[3, 4\]"):
        again(apart)
    bare = {name: value for name, value in old.carry.items() if name != "position"}
    with pytest.raises(ValueError, match="does not say how many tokens it has seen: give position"):
        again(bare)
    assert next(again(bare, position=3)).position == 3


def test_of_a_long_context_depth_times_what_a_token_sees_counts():
    """Two blocks of a window of four: six tokens back, exactly, and not the three of the cache."""
    network = build("transformer", window=4)
    denoiser, context = Preconditioned(network, SCHEDULE), Rng(3).normal((B, 12, D), torch.float64)

    def after(context):
        plan = SamplingPlan.uniform(2)
        return next(rollout(denoiser, DIFFUSION, plan, context, rng=Rng(0), memory=3)).x

    for back in range(1, 12):
        other = context.clone()
        other[:, -back] += 1
        assert torch.equal(after(other), after(context)) == (back > 6)


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    return [x for y in (tree.values() if isinstance(tree, dict) else tree) for x in leaves(y)]


@WRAPPERS
@KINDS
def test_each_token_costs_one_read_per_step_and_one_to_remember_it_and_memory_is_constant(
    kind, wrap
):
    counted = Counted(build(kind))
    memory, steps, tokens = counted.network.memory, 5, 12
    branches = 2 if wrap in (guided, twice) else 1
    denoiser = wrap(Preconditioned(counted, SCHEDULE))
    context = Rng(3).normal((B, 2, *SHAPES[kind])).double()
    sizes = []
    for step in itertools.islice(
        rollout(
            denoiser,
            DIFFUSION,
            SamplingPlan.uniform(steps),
            context,
            memory=memory,
            cond=conditions(14),
            rng=Rng(0),
        ),
        tokens,
    ):
        held = leaves(caches(step.carry))
        assert {leaf.shape[1] for leaf in held} == {min(step.position + 1, memory)}
        sizes.append(sum(leaf.numel() for leaf in held))
    assert sizes[4:] == sizes[4:5] * (tokens - 4)
    assert counted.tokens == branches * (2 + tokens * (steps + 1))


def alive():
    """Bytes of all tensors that there are."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter)]
    return sum(tensor.numel() * tensor.element_size() for tensor in found)


@pytest.mark.parametrize(
    ("kind", "long"), [("transformer", 400), ("recurrent", 400), ("video", 100), ("unet", 100)]
)
def test_a_long_rollout_holds_no_more_than_a_short_one(kind, long):
    """By the tensors that are alive: nothing of a token stays but what the cache has of it."""
    network = build(kind)
    denoiser = estimates(Preconditioned(network, SCHEDULE))
    cond = {"label": torch.tensor([1, 3])}
    steps = rollout(
        denoiser,
        DIFFUSION,
        SamplingPlan.uniform(1),
        torch.zeros(B, 1, *SHAPES[kind], dtype=torch.float64),
        memory=network.memory,
        cond=cond,
        rng=Rng(0),
    )
    sizes = {}
    for step in itertools.islice(steps, long):
        if step.position in (20, long):
            sizes[step.position] = alive()
    assert sizes[long] == sizes[20]


def test_rewards_are_asked_about_moves_and_not_about_what_is_remembered():
    counted, asked = Counted(build("transformer")), []

    def reward(x):
        asked.append(len(x))
        return nearer(x)

    inner, context = Preconditioned(counted, SCHEDULE), Rng(3).normal((B, 2, D)).double()
    tokens, steps, futures = 6, 4, 3
    completion = SamplingPlan.uniform(2)  # rows left from times 1, 0.75, 0.5, 0.25: 2, 2, 1, 1
    monte_carlo = MonteCarloGuided(inner, DIFFUSION, reward, futures=futures, plan=completion)
    for guide, rows, times in (
        (RewardGuided(inner, DIFFUSION, reward), 0, 1),
        (monte_carlo, 6 * futures, futures),
    ):
        counted.rows = 0
        asked.clear()
        made = rollout(guide, DIFFUSION, SamplingPlan.uniform(steps), context, memory=3, rng=Rng(0))
        list(itertools.islice(made, tokens))
        assert counted.rows == B * (2 + tokens * (steps + 1) + tokens * rows)
        assert asked == [B] * (tokens * steps * times)


def test_tokens_of_a_chunk_read_each_other_at_their_own_times():
    """The stabilisation is of what the cache holds: the context, and the chunk once it is whole."""
    told, inner = [], Preconditioned(build("transformer"), SCHEDULE)

    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x, t, cond=None, carry=None, rng=None):
            told.append(t.flatten().tolist())
            return self.inner(x, t, cond, carry, rng)

    context = Rng(0).normal((B, 2, D), dtype=torch.float64)
    for rest, done in ((0.0, 0.0), (0.05, 0.05)):
        told.clear()
        plan = SamplingPlan.autoregressive(2, 2).rest(rest)
        steps = rollout(Told(), DIFFUSION, plan, context, chunk=2, stabilisation=LEVEL, rng=Rng(1))
        next(steps)
        rows = [[1, 1], [0.5, 1], [done, 1], [done, 0.5], *([[done] * 2] if rest else [])]
        assert told == [[LEVEL], *rows, [LEVEL]]


@KINDS
def test_each_branch_of_guidance_remembers_what_it_saw(kind):
    network = build(kind)
    settings = {"memory": network.memory, "rng": Rng(4), "cond": conditions(20)}
    context, plan = Rng(3).normal((B, 3, *SHAPES[kind])).double(), SamplingPlan.uniform(3)
    denoiser = guided(Preconditioned(network, SCHEDULE))
    step = next(rollout(denoiser, DIFFUSION, plan, context, **settings))
    own = step.carry["classifier_free"]
    pairs = zip(leaves(own["with"]), leaves(own["without"]), strict=True)
    assert any((a - b).abs().max() > 1e-3 for a, b in pairs)
    assert step.carry.keys() == {"classifier_free", "position"}


@pytest.mark.parametrize("kind", ["transformer", "video"])
@pytest.mark.parametrize("codes_outside", [False, True])
def test_all_tokens_of_a_rollout_read_the_same_codes(kind, codes_outside):
    network = build(kind, codes=(3, 5))
    inner = Preconditioned(network, SCHEDULE)
    names = ["label", "codes"] if codes_outside else ["codes", "label"]
    for scale, name in zip((1.7, 2.0), names, strict=True):
        inner = ClassifierFree(inner, scale, drop=(name,))
    denoiser, plan, rng = SelfConditioned(inner, limit=2.0), SamplingPlan.uniform(3), Rng(4)
    context = Rng(3).normal((B, 2, *SHAPES[kind])).double()
    found = []
    for codes in (1.0, 3.0):
        codes = (codes * Rng(6).normal((B, 3, 5)).double()).softmax(-1)
        cond = {"label": torch.tensor([1, 3]), "codes": codes}
        each = along(cond, action=Rng(5).normal((B, 20, A)).double())
        settings = {"memory": network.memory, "stabilisation": LEVEL, "cond": each}
        steps = rollout(denoiser, DIFFUSION, plan, context, rng=rng, **settings)
        x = torch.cat([step.x for step in itertools.islice(steps, 7)], 1)
        with torch.no_grad():
            expected = History(denoiser, rng.samples(B), each).run(plan, context, 1, 7, None)
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-10)
        found.append(x)
    assert ((found[0] - found[1]).flatten(2).abs().amax(-1) > 1e-3).all()


def test_conditions_are_asked_for_when_their_tokens_are():
    network, asked = build("transformer"), []

    def act(first, count):
        asked.append((first, count))
        return {"action": torch.full((B, count, A), float(len(asked)), dtype=torch.float64)}

    context = torch.zeros(B, 2, D, dtype=torch.float64)
    denoiser = Preconditioned(network, SCHEDULE)
    steps = rollout(
        denoiser,
        DIFFUSION,
        SamplingPlan.uniform(2),
        context,
        memory=3,
        cond=act,
        rng=Rng(0),
    )
    assert asked == []
    next(steps)
    assert asked == [(0, 2), (2, 1)]
    next(steps)
    assert asked[2:] == [(3, 1)]


def test_the_draws_of_a_token_do_not_depend_on_the_batch():
    network = build("recurrent", dtype=torch.float64)
    denoiser, plan = estimates(Preconditioned(network, SCHEDULE)), SamplingPlan.uniform(3)
    context = Rng(3).normal((4, 2, D)).double()
    settings = {"memory": 1, "solver": ancestral(1.0)}
    rng = Rng(6).samples(4)
    whole = rollout(denoiser, DIFFUSION, plan, context, rng=rng, **settings)
    alone = rollout(
        denoiser, DIFFUSION, plan, context[2:3], rng=rng.rows(torch.tensor([2])), **settings
    )
    for a, b in zip(itertools.islice(whole, 4), alone, strict=False):
        torch.testing.assert_close(a.x[2:3], b.x, rtol=0, atol=1e-12)


PHI = 0.8


def test_check_13_5_noise_on_the_context_keeps_the_marginal_and_weakens_the_chain():
    # Oracle: variance 1 and correlation PHI q over one step, q = alpha(level)^2: the chain sees
    # its past through a noisy copy, which is told apart from the past itself.
    batch, tokens = 40_000, 8
    steps = rollout(
        LastSeen(SCHEDULE, PHI, LEVEL),
        DIFFUSION,
        SamplingPlan.uniform(40),
        torch.empty(batch, 0, 1, dtype=torch.float64),
        memory=1,
        stabilisation=LEVEL,
        rng=Rng(0),
        solver=heun(),
    )
    x = torch.cat([step.x for step in itertools.islice(steps, tokens)], 1)[..., 0]
    q = float(SCHEDULE(torch.tensor(LEVEL, dtype=torch.float64))[0] ** 2)
    # Heun with 40 steps is 0.001 off; four standard errors of 240,000 products are 0.012.
    assert abs(float(x.square().mean()) - 1) < 0.013
    for lag in (1, 2, 3):
        product = float((x[:, lag:] * x[:, :-lag]).mean())
        assert abs(product - (PHI * q) ** lag) < 0.013
    assert q < 0.98  # enough to tell it from a chain that sees its past as it is


def test_what_does_not_fit_is_said_in_one_line():
    network = build("transformer")
    denoiser = Preconditioned(network, SCHEDULE)
    context = torch.zeros(B, 2, D, dtype=torch.float64)
    settings = {"memory": 3, "rng": Rng(0)}
    plan = SamplingPlan.uniform(2)
    with pytest.raises(ValueError, match=r"stabilisation is a time in \[0, 1\), got 1"):
        rollout(denoiser, DIFFUSION, plan, context, stabilisation=1, **settings)
    with pytest.raises(ValueError, match=r"chunk >= 1 .* got 3, 0 and 0"):
        rollout(denoiser, DIFFUSION, plan, context, chunk=0, **settings)
    with pytest.raises(ValueError, match=r"shape \(1, 3\) does not fit chunks of 2: times"):
        rollout(denoiser, DIFFUSION, SamplingPlan.pyramid(2, 3, 1), context, chunk=2, **settings)
    of_samples = SamplingPlan.from_times(torch.tensor([[1.0] * B, [0.0] * B]))
    with pytest.raises(ValueError, match=rf"shape \({B},\) does not fit chunks of {B}: times are"):
        rollout(denoiser, DIFFUSION, of_samples, context, chunk=B, **settings)
    for times in ([1.0, 0.5], [0.9, 0.0]):
        part = SamplingPlan.from_times(torch.tensor(times))
        with pytest.raises(ValueError, match="by a plan that leads from 1 to 0, not a SamplingPl"):
            rollout(denoiser, DIFFUSION, part, context, **settings)
    with pytest.raises(ValueError, match="the context holds numbers that are not finite"):
        rollout(denoiser, DIFFUSION, plan, context.fill_(torch.nan), **settings)
    context.fill_(0)
    with pytest.raises(TypeError, match=r"floating point, not torch\.int64"):
        rollout(denoiser, DIFFUSION, plan, context.long(), **settings)
    steps = rollout(denoiser, DIFFUSION, plan, context, cond=conditions(3), **settings)
    next(steps)
    with pytest.raises(ValueError, match="action is given for 3 tokens, and token 3"):
        next(steps)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rng": None}, r"by a key: give rng, such as Rng\(0\), not None"),
        ({"rng": 7}, r"by a key: give rng, such as Rng\(0\), not 7"),
        ({"rng": torch.Generator()}, r"by a key: give rng, such as Rng\(0\), not <torch"),
        ({"chunk": 2.5}, r"chunk is a number of tokens, got 2\.5"),
        ({"chunk": "3"}, r"chunk is a number of tokens, got '3'"),
        ({"memory": 3.0}, r"memory is a number of tokens, got 3\.0"),
        ({"position": 1.5}, r"position is a number of tokens, got 1\.5"),
    ],
)
def test_draws_need_a_key_and_counts_are_whole(options, told):
    denoiser = Preconditioned(build("transformer"), SCHEDULE)
    context, plan = torch.zeros(B, 2, D, dtype=torch.float64), SamplingPlan.uniform(2)
    with pytest.raises(TypeError, match=told):
        rollout(denoiser, DIFFUSION, plan, context, **{"rng": Rng(0), **options})
    if options.keys() & {"rng", "chunk"}:
        with pytest.raises(TypeError, match=told):
            slide(
                denoiser,
                DIFFUSION,
                plan,
                context,
                **{"window": 4, "chunk": 1, "rng": Rng(0), **options},
            )


@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_memory_is_the_networks_own_and_less_is_refused(kind):
    network = build(kind)
    denoiser = SelfConditioned(Preconditioned(Counted(network), SCHEDULE))
    context, plan = torch.ones(B, 2, D, dtype=torch.float64), SamplingPlan.uniform(2)

    def made(**options):
        steps = rollout(denoiser, DIFFUSION, plan, context, rng=Rng(0), **options)
        return torch.cat([step.x for step in itertools.islice(steps, 6)], 1)

    torch.testing.assert_close(made(), made(memory=network.memory), rtol=0, atol=0)
    torch.testing.assert_close(made(), made(memory=network.memory + 2))
    for memory in range(network.memory):
        with pytest.raises(ValueError, match=f"has to hold {network.memory} tokens, got memory"):
            made(memory=memory)


def test_a_rollout_asks_for_a_causal_network_and_for_finite_actions():
    context, plan = torch.zeros(B, 2, D), SamplingPlan.uniform(2)
    settings = {"rng": Rng(0)}
    seeing = Preconditioned(Transformer(D, D, width=8, depth=1, heads=2, max_length=4), SCHEDULE)
    for memory in (None, 3):
        with pytest.raises(ValueError, match=r"needs a causal network .* this one sees all tokens"):
            rollout(seeing, DIFFUSION, plan, context, memory=memory, **settings)
    with pytest.raises(ValueError, match=r"has no `memory`, so say .* \(memory=\)"):
        rollout(nn.Identity(), DIFFUSION, plan, context, **settings)
    actions = torch.zeros(B, 9, A)
    actions[1, 3, 0] = torch.nan
    denoiser = Preconditioned(build("transformer", dtype=torch.float32), SCHEDULE)
    steps = rollout(denoiser, DIFFUSION, plan, context, cond=along(action=actions), **settings)
    next(steps)
    with pytest.raises(ValueError, match="actions of tokens from 3 on hold numbers that are not f"):
        next(steps)


@pytest.mark.parametrize(
    "plan",
    [SamplingPlan.uniform(4), SamplingPlan.full_sequence(4, 3), SamplingPlan.pyramid(4, 3, 1)],
)
def test_plans_that_move_tokens_together_are_warned_of(plan):
    network = build("transformer")
    settings = {"memory": 3, "rng": Rng(0), "chunk": 3}
    context = torch.zeros(B, 2, D, dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"biased, however many .* off by 0\.40"):
        rollout(Preconditioned(network, SCHEDULE), DIFFUSION, plan, context, **settings)

"""What guides note where the host must not wait: told apart, kept beside the state, read once."""

import itertools

import pytest
import torch
from oracles import F64, Gaussian
from recorded import capture
from test_rollout import DIFFUSION, SCHEDULE, B, D, build, conditions

from noiseloom import (
    ClassifierFree,
    MonteCarloGuided,
    Preconditioned,
    RewardGuided,
    Rng,
    SamplingPlan,
    SelfConditioned,
    faults,
    replay,
    rollout,
    sample,
)
from noiseloom.faults import faults_of

T = 3
PLAN = SamplingPlan.full_sequence(4, T)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """A CPU that is not to be waited for."""
    monkeypatch.setattr(faults, "waits", lambda value: False)


def rewarded(inner, reward, scale=1.0, **options):
    return RewardGuided(inner, DIFFUSION, reward, scale, **options)


def futures(inner, reward, scale=1.0, **options):
    completion = SamplingPlan.full_sequence(2, T)
    return MonteCarloGuided(inner, DIFFUSION, reward, scale, futures=2, plan=completion, **options)


GUIDES = pytest.mark.parametrize("guide", [rewarded, futures])


def infinite(x):
    """Of the second example."""
    return x.sum((1, 2)) / torch.tensor([1.0, 0.0], dtype=x.dtype)


def kinked(x):
    """A distance to where one is, of the second example."""
    return (torch.tensor([[[1.0]], [[0.0]]]) * x).square().sum((1, 2)).sqrt()


def steep(x):
    return -(x - 1e3).square().sum((1, 2))


WRONG = [
    (infinite, 1.0, "guidance needs finite rewards, got (inf|-inf|another) for example 1"),
    (kinked, 1.0, r"gradient is not finite \(example 1\): use one without kinks or poles"),
    (steep, 1e6, r"of example 0 is out of range: guidance of scale 1e\+06 has thrown it too far"),
]


def steps(denoiser, plan=PLAN, dtype=torch.float32):
    x = Rng(0).normal((2, T, 1), dtype)
    return sample(denoiser, DIFFUSION, plan, x, rng=Rng(1))


@GUIDES
@pytest.mark.parametrize(("reward", "scale", "told"), WRONG)
def test_faults_are_told_apart_at_once_where_the_host_knows_them(guide, reward, scale, told):
    found = steps(guide(Gaussian(SCHEDULE), reward, scale), SamplingPlan.full_sequence(20, T))
    with pytest.raises(ValueError, match=told) as caught:
        list(found)
    assert "\n" not in str(caught.value)


@GUIDES
@pytest.mark.parametrize("wrap", [lambda inner: inner, SelfConditioned])
@pytest.mark.parametrize(("reward", "scale", "told"), WRONG)
def test_elsewhere_they_are_told_after_the_plan(guide, wrap, reward, scale, told, on_a_gpu):
    plan = SamplingPlan.full_sequence(20, T)
    found = steps(wrap(guide(Gaussian(SCHEDULE), reward, scale)), plan)
    for _ in range(20):
        (noted,) = faults_of(next(found).carry)
    assert noted["code"].any()
    with pytest.raises(ValueError, match=told):
        next(found)


@GUIDES
@pytest.mark.parametrize("rounds", [0, 2])
def test_what_is_sound_is_the_same_with_notes_and_without(guide, rounds, monkeypatch):
    def drawn():
        model = guide(Gaussian(SCHEDULE), lambda x: -x.square().sum((1, 2)), 0.7, rounds=rounds)
        return [step.x for step in steps(model, dtype=F64)]

    here = drawn()
    monkeypatch.setattr(faults, "waits", lambda value: False)
    assert all(torch.equal(a, b) for a, b in zip(here, drawn(), strict=True))


def test_the_first_fault_of_an_example_is_kept(on_a_gpu):
    """Later ones follow from it: the rewards of what has been spoilt are not finite either."""
    *_, last = itertools.islice(steps(rewarded(Gaussian(SCHEDULE), kinked)), 4)
    (noted,) = faults_of(last.carry)
    assert not last.x[1].isfinite().all()
    assert noted["code"].tolist() == [0, 2]


def test_nothing_is_read_in_between(on_a_gpu, monkeypatch):
    reads = []
    monkeypatch.setattr("noiseloom.sampling.tell", lambda noted: reads.append(len(noted)))
    assert len(list(steps(rewarded(Gaussian(SCHEDULE), kinked)))) == 4
    assert reads == [1]


@pytest.mark.parametrize("graph", [False, True])
def test_a_rollout_tells_after_the_chunk(graph, on_a_gpu, monkeypatch):
    """By each branch of guidance; recorded too, where what was noted comes out of the recording."""
    monkeypatch.setitem(replay._CAPTURES, "cpu", capture)
    wrong = torch.zeros((), dtype=F64)

    def reward(x):  # sound until someone says otherwise
        return x.sum((1, 2)) + wrong

    network = build("transformer")
    denoiser = RewardGuided(Preconditioned(network, SCHEDULE), DIFFUSION, reward, 0.1)
    model = SelfConditioned(ClassifierFree(denoiser, 1.7))
    made = rollout(
        model,
        DIFFUSION,
        SamplingPlan.uniform(3),
        Rng(3).normal((B, 2, D), F64),
        cond=conditions(20),
        rng=Rng(0),
        graph=graph,
    )
    for _ in range(4):  # as it is, recorded, and replayed
        assert next(made).x.isfinite().all()
    wrong.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"guidance needs finite rewards, .* for example 0"):
        next(made)

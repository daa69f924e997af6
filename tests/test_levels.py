"""Plans of levels: every invariant of a scheduling matrix, over many random sizes.

The levels of a plan are read back from its times, so what is tested is what a sampler is given.
"""

import math

import pytest
import torch
from oracles import F64, Gaussian

from noiseloom.diffusion import GaussianDiffusion
from noiseloom.noise import Cosine
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, sample

SOLVERS = {"ddim": ancestral(), "ddpm": ancestral(1.0), "heun": heun(), "2m": dpm_solver_pp_2m()}


def sizes(count=150):
    """Random steps, tokens, a slope up to beyond the steps, and a chunk."""
    for i in range(count):
        rng = Rng(0).fold("sizes", i)
        steps, tokens = (1 + int(k) for k in rng.fold("n").integers(12, (2,)))
        slope = 1.3 * steps * float(rng.fold("slope").uniform(()))
        if i % 3 == 0:
            slope = float(round(slope))
        yield steps, tokens, slope, 1 + int(rng.fold("chunk").integers(tokens + 2, ()))


def family(steps, tokens, slope, chunk):
    return {
        "full_sequence": SamplingPlan.full_sequence(steps, tokens),
        "pyramid": SamplingPlan.pyramid(steps, tokens, slope),
        "autoregressive": SamplingPlan.autoregressive(steps, tokens),
        "trapezoid": SamplingPlan.trapezoid(steps, tokens, slope),
        "chunked": SamplingPlan.chunked(steps, tokens, chunk, slope),
        "chunked flat": SamplingPlan.chunked(steps, tokens, chunk),
    }


def levels(plan, steps):
    """The matrix M of (rows + 1, tokens) that a plan with uniform times came from."""
    assert torch.equal(plan.t[1:], plan.s[:-1])
    assert plan.t.shape[1] == 1
    real = torch.cat((plan.t, plan.s[-1:]))[:, 0] * steps
    assert (real - real.round()).abs().max() < 1e-9
    return real.round().long()


def same(one, other):
    return torch.equal(one.t, other.t) and torch.equal(one.s, other.s)


def complaints(M, steps):
    """What is wrong with a matrix of the pyramid family, by name."""
    fall = M[:-1] - M[1:]
    found = {
        "first": (M[0] != steps).any(),
        "last": (M[-1] != 0).any(),
        "range": ((M < 0) | (steps < M)).any(),
        "rises": (fall < 0).any(),
        "jumps": (fall > 1).any(),
        "moves": ((fall != 0).sum(0) != steps).any(),
        "repeats": (fall == 0).all(1).any(),
    }
    return {name for name, wrong in found.items() if wrong}


def test_every_plan_is_a_proper_scheduling_matrix():
    for size in sizes():
        for name, plan in family(*size).items():
            assert not complaints(levels(plan, size[0]), size[0]), (name, size)


def test_full_sequence_moves_all_tokens_together():
    for steps, tokens, _, _ in sizes(40):
        M = levels(SamplingPlan.full_sequence(steps, tokens), steps)
        assert M.tolist() == [[steps - m] * tokens for m in range(steps + 1)]


def test_a_pyramid_is_its_formula():
    for steps, tokens, slope, _ in sizes():
        M = levels(SamplingPlan.pyramid(steps, tokens, slope), steps)
        assert (M.diff(dim=1) >= 0).all()
        if slope > steps:  # a token would wait for nobody: idle rows are not made
            assert same(
                SamplingPlan.pyramid(steps, tokens, slope),
                SamplingPlan.autoregressive(steps, tokens),
            )
            continue
        delays = [int(t * slope) for t in range(tokens)]
        assert len(M) == steps + delays[-1] + 1
        for m, row in enumerate(M.tolist()):
            assert row == [min(max(steps + d - m, 0), steps) for d in delays]
            assert row == [int(M[m - d, 0]) if m >= d else steps for d in delays]


def test_a_pyramids_ends_are_full_sequence_and_autoregressive():
    for steps, tokens, _, _ in sizes(40):
        flat, steep = (SamplingPlan.pyramid(steps, tokens, u) for u in (0, steps))
        assert same(flat, SamplingPlan.full_sequence(steps, tokens))
        assert same(steep, SamplingPlan.autoregressive(steps, tokens))
        assert same(
            SamplingPlan.pyramid(steps, tokens, math.inf),
            SamplingPlan.autoregressive(steps, tokens),
        )


def test_autoregressive_moves_one_token_at_a_time():
    for steps, tokens, _, _ in sizes(40):
        M = levels(SamplingPlan.autoregressive(steps, tokens), steps)
        assert len(M) == steps * tokens + 1
        assert (((M > 0) & (steps > M)).sum(1) <= 1).all()
        assert ((M[:-1] != M[1:]).sum(1) == 1).all()


def released_trapezoid(steps, tokens, slope):
    """The published code's: `-t` is meant to mirror t, and addresses column 0 for t = 0."""
    half = (tokens + 1) // 2
    M = torch.zeros(steps + int(half * slope), tokens, dtype=torch.long)
    for m in range(len(M)):
        for t in range(half):
            M[m, t] = M[m, -t] = min(max(steps + int(t * slope) - m, 0), steps)
    return M


def test_a_trapezoid_is_symmetric_with_the_pyramids_flanks():
    for steps, tokens, slope, _ in sizes():
        M = levels(SamplingPlan.trapezoid(steps, tokens, slope), steps)
        assert torch.equal(M, M.flip(1))
        half = (tokens + 1) // 2
        flank = levels(SamplingPlan.pyramid(steps, half, slope), steps)
        assert torch.equal(M[:, :half], flank)


def test_the_released_trapezoid_fails_these_tests():
    assert released_trapezoid(5, 4, 1)[0].tolist() == [5, 5, 0, 5]
    for steps, tokens, slope, _ in sizes():
        M = released_trapezoid(steps, tokens, slope)
        if tokens % 2 == 0:
            assert "first" in complaints(M, steps)
        if tokens > 2 and 1 <= slope <= steps:
            assert not torch.equal(M, M.flip(1))
    M = released_trapezoid(5, 5, 0.5)
    assert M[-1].tolist() == [0, 0, 1, 1, 0]
    assert "last" in complaints(M, 5)


def test_chunks_follow_each_other_and_each_is_a_pyramid():
    for steps, tokens, slope, chunk in sizes():
        M = levels(SamplingPlan.chunked(steps, tokens, chunk, slope), steps)
        row = 0
        for start in range(0, tokens, chunk):
            size = min(chunk, tokens - start)
            own = levels(SamplingPlan.pyramid(steps, size, slope), steps)
            part = M[row : row + len(own)]
            assert torch.equal(part[:, start : start + size], own)
            assert (part[:, :start] == 0).all()
            assert (part[:, start + size :] == steps).all()
            row += len(own) - 1
        assert row + 1 == len(M)


def test_chunks_of_one_and_of_all_are_known_plans():
    for steps, tokens, slope, _ in sizes(40):
        one = SamplingPlan.chunked(steps, tokens, 1, slope)
        assert same(one, SamplingPlan.autoregressive(steps, tokens))
        for most in (tokens, tokens + 3):
            whole = SamplingPlan.chunked(steps, tokens, most, slope)
            assert same(whole, SamplingPlan.pyramid(steps, tokens, slope))


def test_one_token_is_the_uniform_plan_whatever_the_shape():
    for steps, _, slope, chunk in sizes(40):
        uniform = SamplingPlan.uniform(steps)
        for plan in family(steps, 1, slope, chunk).values():
            assert torch.equal(plan.t.flatten(), uniform.t)
            assert torch.equal(plan.s.flatten(), uniform.s)


def test_any_matrix_makes_a_plan():
    M = [[3, 3, 0], [3, 1, 0], [3, 1, 0], [0, 0, 0]]
    plan = SamplingPlan.from_levels(M, 3)
    assert plan.t.shape == plan.s.shape == (3, 1, 3)
    assert levels(plan, 3).tolist() == M
    assert same(plan, SamplingPlan.from_levels(torch.tensor(M, dtype=torch.int32), 3))
    for size in sizes(40):
        for plan in family(*size).values():
            assert same(plan, SamplingPlan.from_levels(levels(plan, size[0]), size[0]))


@pytest.mark.parametrize(
    ("M", "message"),
    [
        ([[3, 3], [2, 2], [2, 4], [3, 0]], "row 2, token 1: 4 after 2"),
        ([[3, 3], [3, 2], [2, 3], [9, 0]], "row 2, token 1: 3 after 2"),
        ([[3, 4], [2, 2]], "row 0, token 1: 4$"),
        ([[3, 3], [-1, 2]], "row 1, token 0: -1 after 3"),
        ([[3.0, 3.0], [2.5, 0.0]], "integers"),
        ([3, 2, 1], "two or more rows"),
        ([[3, 2, 1]], "two or more rows"),
        ([[], []], "two or more rows"),
        ([[3, 3], [2]], "rows of equally many integers"),
    ],
)
def test_a_wrong_matrix_is_named_at_its_first_wrong_place(M, message):
    with pytest.raises(ValueError, match=message) as caught:
        SamplingPlan.from_levels(M, 3)
    assert "\n" not in str(caught.value)


def test_levels_have_the_times_they_are_given():
    schedule = Cosine()
    karras = SamplingPlan.karras(7, schedule)
    times = torch.cat((karras.t, karras.s[-1:])).flip(0)
    for plan in (
        SamplingPlan.full_sequence(7, 3, times=times),
        SamplingPlan.pyramid(7, 3, 2.5, times=times),
        SamplingPlan.autoregressive(7, 3, times=times),
        SamplingPlan.trapezoid(7, 3, 1, times=times),
        SamplingPlan.chunked(7, 3, 2, 1, times=times),
    ):
        for token in range(3):
            moves = plan.t[:, 0, token] > plan.s[:, 0, token]
            assert torch.equal(plan.t[moves, 0, token], karras.t)
            assert torch.equal(plan.s[moves, 0, token], karras.s)
    M = torch.tensor([[7, 7], [5, 7], [0, 3], [0, 0]])
    plan = SamplingPlan.from_levels(M, 7, times=times)
    assert torch.equal(torch.cat((plan.t, plan.s[-1:]))[:, 0], times[M])


@pytest.mark.parametrize(
    "times", [[0, 1], [0, 0.5, 0.5, 1], [0.1, 0.2, 0.5, 1], [0, 0.2, 0.4, 0.9]]
)
def test_times_of_levels_are_checked(times):
    with pytest.raises(ValueError, match="4 increasing times from 0 to 1"):
        SamplingPlan.pyramid(3, 2, 1, times=torch.tensor(times))


def test_sizes_are_checked():
    for make in (SamplingPlan.full_sequence, SamplingPlan.autoregressive):
        with pytest.raises(ValueError, match="at least one step"):
            make(0, 3)
        with pytest.raises(ValueError, match="at least one token"):
            make(3, 0)
    for make in (SamplingPlan.pyramid, SamplingPlan.trapezoid):
        for slope in (-0.1, math.nan):
            with pytest.raises(ValueError, match="slope >= 0"):
                make(3, 3, slope)
        with pytest.raises(ValueError, match="at least one token"):
            make(3, 0, 1)
    for make in (SamplingPlan.uniform, lambda steps: SamplingPlan.pyramid(steps, 3, 1)):
        with pytest.raises(ValueError, match=r"a whole number of steps, got 2\.5"):
            make(2.5)
    with pytest.raises(ValueError, match="chunk >= 1"):
        SamplingPlan.chunked(3, 3, 0)
    with pytest.raises(ValueError, match="at least one step"):
        SamplingPlan.karras(0, Cosine())
    with pytest.raises(ValueError, match="slope >= 0"):
        SamplingPlan.chunked(3, 3, 2, -1)


def test_overshoot_is_each_tokens_own():
    for size in sizes(30):
        alone = SamplingPlan.uniform(size[0]).overshoot(1.5)
        for plan in family(*size).values():
            over = plan.overshoot(1.5)
            assert torch.equal(over.t, plan.t)
            for token in range(size[1]):
                moves = plan.t[:, 0, token] > plan.s[:, 0, token]
                torch.testing.assert_close(over.s[moves, 0, token], alone.s)
                assert torch.equal(over.s[~moves, 0, token], plan.t[~moves, 0, token])


def test_plans_show_themselves():
    plan = SamplingPlan.pyramid(4, 4, 1)
    assert len(plan) == 7
    assert str(plan) == "SamplingPlan of 7 rows of 4 tokens, from 1 to 0"
    assert plan.heatmap().splitlines() == ["▓███", "▒▓██", "░▒▓█", " ░▒▓", "  ░▒", "   ░", "    "]
    lines = SamplingPlan.trapezoid(4, 5, 2).heatmap().splitlines()
    assert lines == [line[::-1] for line in lines]
    for name, plan in family(3, 5, 1.5, 2).items():
        assert len(plan.heatmap().splitlines()) == len(plan), name
        assert f"{len(plan)} rows of 5 tokens" in str(plan)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_equal_levels_are_the_ordinary_sampler(solver):
    exact, diffusion = Gaussian(Cosine(), 0.4, 0.3), GaussianDiffusion()
    # Times per token are rounded to the type of the state, one for all is not.
    for dtype, tolerance in ((F64, 0), (torch.float32, 1e-5)):
        x = Rng(1).normal((2, 5, 3), dtype)
        ordinary, forced = (
            final(sample(exact, diffusion, plan, x, rng=Rng(2), solver=solver))
            for plan in (SamplingPlan.uniform(9), SamplingPlan.full_sequence(9, 5))
        )
        for name in ("x", "result"):
            one, other = getattr(ordinary, name), getattr(forced, name)
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("solver", ["ddim", "heun", "2m"])
def test_independent_tokens_do_not_care_when_the_others_move(solver):
    exact, diffusion = Gaussian(Cosine(), 0.4, 0.3), GaussianDiffusion()
    x = Rng(1).normal((2, 5, 3), F64)
    for name, plan in family(6, 5, 2.5, 2).items():
        ordinary, forced = (
            final(sample(exact, diffusion, p, x, rng=Rng(2), solver=SOLVERS[solver]))
            for p in (SamplingPlan.uniform(6), plan)
        )
        torch.testing.assert_close(forced.x, ordinary.x, rtol=1e-12, atol=1e-12, msg=name)
        torch.testing.assert_close(forced.result, ordinary.result, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["autoregressive", "full_sequence", "pyramid", "chunked"])
@pytest.mark.parametrize("at", [0.0, 0.05, 0.3])
def test_finished_tokens_rest_until_all_are(name, at):
    more = {"pyramid": (2,), "chunked": (3,)}.get(name, ())
    plan = getattr(SamplingPlan, name)(10, 7, *more)
    rested = plan.rest(at)
    if at == 0:
        assert rested is plan
        return
    assert rested.t[0].max() == 1
    # Until the last row nobody is below the level; the last row takes all to their end together.
    assert (rested.s[:-1] >= at).all()
    assert (rested.t[-1] == at).all()
    assert not rested.s[-1].any()
    torch.testing.assert_close(rested.t[1:], rested.s[:-1], rtol=0, atol=0)
    # Above the level the moves are the plan's.
    t, s = plan.t.clamp(min=at), plan.s.clamp(min=at)
    moving = (t > s).flatten(1).any(1)
    assert torch.equal(rested.t[:-1], t[moving])
    assert torch.equal(rested.s[:-1], s[moving])
    assert (rested.s != rested.t).reshape(len(rested), -1).any(1).all()


def test_held_tokens_do_not_rest():
    plan = SamplingPlan.autoregressive(5, 4).hold([0, 1]).rest(0.1)
    assert not plan.t[..., :2].any()
    assert (plan.t[-1, ..., 2:] == 0.1).all()
    with pytest.raises(ValueError, match=r"rest at a time in \[0, 1\), got 1"):
        plan.rest(1)


KINDS = {
    "full_sequence": lambda steps, tokens: SamplingPlan.full_sequence(steps, tokens),
    "pyramid": lambda steps, tokens: SamplingPlan.pyramid(steps, tokens, 1),
    "autoregressive": lambda steps, tokens: SamplingPlan.autoregressive(steps, tokens),
    "trapezoid": lambda steps, tokens: SamplingPlan.trapezoid(steps, tokens, 1),
    "chunked": lambda steps, tokens: SamplingPlan.chunked(steps, tokens, 2),
    "uniform": lambda steps, tokens: SamplingPlan.uniform(steps),
    "karras": lambda steps, tokens: SamplingPlan.karras(steps, Cosine()),
    "from_levels": lambda steps, tokens: SamplingPlan.from_levels([[5, 5], [0, 0]], steps),
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_none_are_named_in_one_line(kind):
    make = KINDS[kind]
    for steps in (2.5, math.nan, math.inf, "5", None, [5]):
        error = ValueError if isinstance(steps, float) else TypeError
        with pytest.raises(error) as found:
            make(steps, 4)
        assert str(found.value) == f"a plan needs a whole number of steps, got {steps!r}"
    assert same(make(5.0, 4), make(5, 4))
    if kind in ("uniform", "karras", "from_levels"):
        return
    for tokens in (4.0, 2.5, math.nan, "4", None):
        with pytest.raises(TypeError) as found:
            make(5, tokens)
        assert str(found.value) == f"a plan needs a whole number of tokens, got {tokens!r}"


def test_chunks_slopes_and_places_that_are_none_are_named():
    for chunk in (2.5, 2.0, "2", None):
        with pytest.raises(TypeError) as found:
            SamplingPlan.chunked(5, 4, chunk)
        told = f"a plan needs a whole number of tokens in a chunk, got {chunk!r}"
        assert str(found.value) == told
    for make in (
        SamplingPlan.pyramid,
        SamplingPlan.trapezoid,
        lambda steps, tokens, slope: SamplingPlan.chunked(steps, tokens, 2, slope),
    ):
        for slope in ("1", None):
            with pytest.raises(TypeError, match=f"slope >= 0 is a number of steps, got {slope!r}"):
                make(5, 4, slope)
    plan = SamplingPlan.full_sequence(3, 2)
    with pytest.raises(TypeError, match=r"a whole index of a place, got 0\.5"):
        plan.among(4, [0.5, 1])
    with pytest.raises(TypeError, match=r"whole number of tokens, got 4\.5"):
        plan.among(4.5, [0, 1])

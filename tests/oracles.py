"""Denoisers that are known exactly, and the statistics to judge samples with.

Each is a module with the denoiser's signature that says E[x_0 | x_t] of a law in closed form.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.diffusion import Prediction, from_score
from noiseloom.manifolds import Torus
from noiseloom.shapes import align

F64 = torch.float64


class Oracle(nn.Module):
    """Counts its calls; a law says `mean(x, alpha, sigma)`."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule
        self.calls = 0

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.calls += 1
        alpha, sigma = self.schedule(align(t, x))
        return Prediction(self.mean(x, alpha, sigma)), dict(carry or {})


class Constant(Oracle):
    """Says c whatever it sees."""

    def __init__(self, schedule, c=0.0):
        super().__init__(schedule)
        self.c = c

    def mean(self, x, alpha, sigma):
        return torch.zeros_like(x) + self.c


class Gaussian(Oracle):
    """x_0 ~ N(centre, variance), independent entries."""

    def __init__(self, schedule, variance=1.0, centre=0.0):
        super().__init__(schedule)
        self.variance, self.centre = variance, centre

    def mean(self, x, alpha, sigma):
        v = self.variance
        gain = alpha * v / (alpha * alpha * v + sigma * sigma)
        return self.centre + gain * (x - alpha * self.centre)


class Normal(nn.Module):
    """The exact denoiser of tokens that are independent standard normals."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.place = schedule, nn.Parameter(torch.zeros(()))

    def forward(self, x, t, cond=None, carry=None, rng=None):
        alpha, sigma = self.schedule(align(t, x))
        return Prediction(x * alpha / (alpha * alpha + sigma * sigma)), carry or {}


class LastSeen(nn.Module):
    """The exact denoiser of x_n = phi x_{n-1} + noise of unit stationary variance, window 1.

    Its cache is what it saw last, which is told to be at `level`: E[x_n | y_n, context].
    """

    def __init__(self, schedule, phi, level):
        super().__init__()
        self.schedule, self.phi = schedule, phi
        self.level = torch.tensor(level, dtype=F64)

    def forward(self, x, t, cond=None, carry=None, rng=None):
        carry = dict(carry or {})
        past = carry.setdefault("cache", {})
        alpha, sigma = (v.double() for v in self.schedule(t))
        mean, variance = torch.zeros_like(x), torch.ones((), dtype=F64)
        if past:
            a, _ = self.schedule(self.level)
            # x_{n-1} given a x_{n-1} + s eps has mean a times that: its variance is 1, as all is.
            mean = self.phi * a * past["tokens"]["seen"][:, -1:]
            variance = 1 - self.phi**2 * a * a
        gain = variance * alpha / (variance * alpha * alpha + sigma * sigma)
        carry["new"] = {"tokens": {"seen": x}}
        return Prediction(mean + gain * (x - alpha * mean)), carry


class Mixture(Oracle):
    """x_0 ~ sum_k w_k N(m_k, std^2), independent entries."""

    def __init__(self, schedule, centres=(-1.6, 0.3, 1.9), weights=(0.3, 0.45, 0.25), std=0.35):
        super().__init__(schedule)
        self.centres = torch.tensor(centres, dtype=F64)
        self.weights = torch.tensor(weights, dtype=F64)
        self.std = std

    def mean(self, x, alpha, sigma):
        v = self.std**2
        total = (alpha * alpha * v + sigma * sigma)[..., None]
        off = x[..., None] - alpha[..., None] * self.centres
        share = (self.weights.log() - off * off / (2 * total)).softmax(-1)
        each = self.centres + alpha[..., None] * v / total * off
        return (share * each).sum(-1)

    def cdf(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule(t)
        std = (alpha * alpha * self.std**2 + sigma * sigma).sqrt()
        return (self.weights * phi((x[..., None] - alpha * self.centres) / std)).sum(-1)

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule(t)
        v = alpha * alpha * self.std**2 + sigma * sigma
        off = x[..., None] - alpha * self.centres
        return (self.weights.log() - off * off / (2 * v) - (2 * math.pi * v).log() / 2).logsumexp(
            -1
        )

    def flow(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Where the probability flow takes x from t to s: in one dimension it keeps quantiles."""
        level = self.cdf(x, t)
        low, high = torch.full_like(x, -20.0), torch.full_like(x, 20.0)
        for _ in range(70):
            middle = (low + high) / 2
            below = self.cdf(middle, s) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


class Binary(Oracle):
    """Entries +-scale, P(+scale) = p: scale tanh(logit(p) / 2 + scale alpha x / sigma^2)."""

    def __init__(self, schedule, p=0.5, scale=1.0):
        super().__init__(schedule)
        self.p, self.scale = torch.as_tensor(p, dtype=F64), scale

    def log_odds(self, x, alpha, sigma):
        prior = (self.p / (1 - self.p)).log().to(x.dtype)
        return prior + 2 * self.scale * alpha * x / (sigma * sigma)

    def mean(self, x, alpha, sigma):
        return self.scale * (self.log_odds(x, alpha, sigma) / 2).tanh()


class Categorical(Oracle):
    """Code k with P_k (last axis): softmax(ln P_k - |x - alpha c_k|^2 / (2 sigma^2)) @ codes."""

    def __init__(self, schedule, codes, weights):
        super().__init__(schedule)
        self.codes, self.weights = codes, weights

    def logits(self, x, alpha, sigma):
        codes = self.codes.to(x)
        inner = alpha * (x @ codes.T) - alpha * alpha * codes.square().sum(1) / 2
        return self.weights.log().to(x) + inner / (sigma * sigma)

    def mean(self, x, alpha, sigma):
        return self.logits(x, alpha, sigma).softmax(-1) @ self.codes.to(x)


class Correlated(Oracle):
    """x_0 ~ N(0, C) along the tokens, axis 1 of (B, T, D); columns of D are independent.

    With A = diag(alpha), V = diag(sigma^2): C A (A C A + V)^-1 x. A causal one does the same with
    what tokens 1 to t say of token t, as a Kalman filter does.
    """

    def __init__(self, schedule, covariance, causal=False):
        super().__init__(schedule)
        self.covariance, self.causal = covariance, causal

    def gain(self, alpha, sigma):
        """(..., T) to (..., T, T)."""
        C = self.covariance
        cross = C * alpha[..., None, :]
        total = alpha[..., :, None] * cross + (sigma * sigma).diag_embed()
        if not self.causal:
            return torch.linalg.solve(total, cross.mT).mT
        gain = torch.zeros_like(total)
        for t in range(1, len(C) + 1):
            row = torch.linalg.solve(total[..., :t, :t], cross[..., t - 1, :t])
            gain[..., t - 1, :t] = row
        return gain

    def mean(self, x, alpha, sigma):
        alpha, sigma = ((v + torch.zeros(1, x.shape[1], 1))[..., 0] for v in (alpha, sigma))
        return self.gain(alpha, sigma) @ x


class Chain:
    """Stationary Markov chain of classes, as classes or as codes: p(x_0 of each token | all x_t).

    By messages from both sides, so for windows of any length, in float64.
    """

    causal = False

    def __init__(self, diffusion, moves, codes=None):
        self.diffusion, self.codes, self.calls = diffusion, codes, 0
        self.moves = torch.as_tensor(moves, dtype=F64)
        self.law = torch.linalg.matrix_power(self.moves + 1e-9, 4096)[0]
        self.law = self.law / self.law.sum()

    def joint(self, tokens):
        """P(x_1, ..., x_T), shape (K,) * T."""
        law = self.law
        for _ in range(tokens - 1):
            law = law[..., None] * self.moves
        return law

    def likely(self, x, t):
        """Proportional to q(x_t | x_0 = k), (B, T, K)."""
        if self.codes is None:
            return self.diffusion.evidence(x, t.expand(x.shape)).double().exp()
        alpha, sigma = self.diffusion.schedule(align(t.double(), x)[..., None])
        apart = (x.double()[..., None, :] - alpha * self.codes.double()).square().sum(-1)
        logs = -apart / (2 * sigma[..., 0].square().clamp_min(1e-14))
        return (logs - logs.amax(-1, keepdim=True)).exp()

    def __call__(self, x, t, cond=None, carry=None, rng=None):
        self.calls += 1
        likely = self.likely(x, t)
        left, right = [self.law.expand(len(x), -1)], [torch.ones_like(likely[:, 0])]
        for i in range(x.shape[1] - 1):
            left.append(functional.normalize((left[-1] * likely[:, i]) @ self.moves, 1, dim=-1))
            late = likely[:, -1 - i] * right[-1]
            right.append(functional.normalize(late @ self.moves.T, 1, dim=-1))
        p = torch.stack(left, 1) * likely * torch.stack(right[::-1], 1)
        p = functional.normalize(p, 1, dim=-1)
        return Prediction(p if self.codes is None else (p @ self.codes.double()).to(x)), carry or {}


class Clusters(Oracle):
    """x_0 ~ sum_k w_k N(m_k, std^2) in D dimensions, (B, D); what is known of k is `codes`.

    `cond["codes"]`, (B, 1, G), is one-hot over groups of components, all zero where nothing is
    known; by default each component is its own group. The default law is the ring of DisCo-Diff's
    toy: eight equal ones at radius 3.
    """

    def __init__(self, schedule, centres=None, weights=None, std=0.2, groups=None):
        super().__init__(schedule)
        angles = torch.arange(8, dtype=F64) * (math.pi / 4)
        ring = 3 * torch.stack((angles.cos(), angles.sin()), 1)
        self.centres = ring if centres is None else torch.as_tensor(centres, dtype=F64)
        count = len(self.centres)
        equal = torch.full((count,), 1 / count, dtype=F64)
        self.weights = equal if weights is None else torch.as_tensor(weights, dtype=F64)
        self.std = std
        self.groups = torch.arange(count) if groups is None else torch.as_tensor(groups)

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.calls += 1
        alpha, sigma = self.schedule(align(t, x))
        share = self.share(x, alpha, sigma, (cond or {}).get("codes"))
        mean = share @ self.centres.to(x)
        gain = alpha * self.std**2 / (alpha * alpha * self.std**2 + sigma * sigma)
        return Prediction(mean + gain * (x - alpha * mean)), dict(carry or {})

    def share(self, x, alpha, sigma, codes=None):
        """P(k | x_t, codes), (B, K)."""
        off = x[:, None] - alpha[..., None] * self.centres.to(x)
        total = alpha * alpha * self.std**2 + sigma * sigma
        logits = self.weights.log().to(x) - off.square().sum(-1) / (2 * total)
        if codes is not None:
            allowed = codes[:, 0].to(x) @ self.membership().to(x)
            allowed = torch.where(codes.sum((1, 2))[:, None] == 0, 1.0, allowed)
            logits = logits + allowed.log()
        return logits.softmax(-1)

    def membership(self):
        """Which components a group has, (G, K)."""
        return (torch.arange(int(self.groups.max()) + 1)[:, None] == self.groups).to(F64)

    def codes(self, component):
        """One-hot codes, (B, 1, G), of samples of these components."""
        return self.membership().T[component][:, None]

    def draw(self, count, rng):
        """Samples (B, D) and their components (B,)."""
        level = self.weights.cumsum(0)
        component = torch.searchsorted(level, rng.fold("k").uniform((count,), F64) * level[-1])
        noise = rng.fold("x").normal((count, self.centres.shape[1]), F64)
        return self.centres[component] + self.std * noise, component


class Circle(nn.Module):
    """A law on the circle by its coefficients c_n = E exp(i n x_0), n = 1, ..., N, per entry.

    Heat multiplies c_n by exp(-n^2 sigma^2 / 2), and the density is (1 + 2 Re sum c_n exp(-i n x))
    / (2 pi): the score is known for any such law, with no image of anything.
    """

    def __init__(self, schedule, coefficients):
        super().__init__()
        self.schedule, self.coefficients = schedule, coefficients
        self.n = torch.arange(1, len(coefficients) + 1, dtype=F64)

    @classmethod
    def mixture(cls, schedule, centres=(-2.6, 0.4, 1.9), weights=(0.5, 0.3, 0.2), std=0.4, N=30):
        """Wrapped normals about centres, one of them across the seam by default."""
        n = torch.arange(1, N + 1, dtype=F64)[:, None]
        centres, weights = torch.tensor(centres, dtype=F64), torch.tensor(weights, dtype=F64)
        turned = torch.polar(weights * (-n * n * std**2 / 2).exp(), n * centres)
        return cls(schedule, turned.sum(1))

    def density(self, x, sigma=0.0):
        """In one over a whole turn: 1 is uniform."""
        return self.series(x, torch.as_tensor(sigma, dtype=F64))[0]

    def series(self, x, sigma):
        """The density and its derivative."""
        n, x, sigma = self.n, x[..., None].double(), sigma[..., None].double()
        waves = self.coefficients * torch.polar((-n * n * sigma * sigma / 2).exp(), -n * x)
        return 1 + 2 * waves.real.sum(-1), 2 * (n * waves.imag).sum(-1)

    def forward(self, x, t, cond=None, carry=None, rng=None):
        sigma = self.schedule(align(t, x))[1]
        density, slope = self.series(x, sigma)
        return from_score(Torus(), x, (slope / density).to(x), sigma), dict(carry or {})


class Columns:
    """A subspace that hands noise out as unit vectors in columns of their own.

    A state (1, T, columns) starts with what is known of its covariance in the first T; every draw
    takes T more. A linear solver's covariance is then exact.
    """

    def __init__(self):
        self.drawn = 0

    def noise(self, z):
        new, T = torch.zeros_like(z), z.shape[1]
        first = T * (1 + self.drawn)
        new[0, :, first : first + T] = torch.eye(T, dtype=z.dtype)
        self.drawn += 1
        return new

    def project(self, x):
        return x

    def check(self, t):
        pass


class Leaning(nn.Module):
    """An exact mean blended with the previous estimate, which the carry hands on."""

    def __init__(self, exact, share):
        super().__init__()
        self.exact, self.share = exact, share

    def forward(self, x, t, cond=None, carry=None, rng=None):
        mean = self.exact(x, t)[0].mean
        if carry:
            mean = torch.lerp(mean, carry["leaning"]["estimate"], self.share)
        return Prediction(mean), {"leaning": {"estimate": mean}}


def phi(x: Tensor) -> Tensor:
    """The normal distribution function, to full relative precision in the lower tail."""
    return torch.special.erfc(-x / math.sqrt(2)) / 2


def share_of_ones(decide, rows: int, points: int = 1025) -> Tensor:
    """P(decide(x)) for x ~ N(0, 1), one per row; `decide` is increasing in x. No Monte Carlo.

    The threshold is bracketed on a grid three times over, to 16 / 1024^3.
    """
    low, high = torch.full((rows, 1), -8.0, dtype=F64), torch.full((rows, 1), 8.0, dtype=F64)
    mix = torch.linspace(0, 1, points, dtype=F64)
    for _ in range(3):
        grid = low + (high - low) * mix
        yes = decide(grid)
        assert (yes.int().diff(dim=1) >= 0).all(), "the map is not monotone"
        first = (~yes).sum(1, keepdim=True).clamp(1, points - 1)
        low, high = grid.gather(1, first - 1), grid.gather(1, first)
    return phi(-(low + high) / 2)[:, 0]


def assert_moments(draws: Tensor, mean, variance, sigmas: float = 5.0) -> None:
    """Mean and variance of (nearly) Gaussian draws on axis 0 agree within standard errors."""
    n = len(draws)
    mean, variance = torch.as_tensor(mean), torch.as_tensor(variance)
    error = (draws.mean(0) - mean).abs() / (variance / n).sqrt()
    assert error.max() < sigmas, f"mean is {float(error.max()):.1f} standard errors off"
    error = (draws.var(0) / variance - 1).abs() / math.sqrt(2 / (n - 1))
    assert error.max() < sigmas, f"variance is {float(error.max()):.1f} standard errors off"

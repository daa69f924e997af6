"""Guided benzenoids beside unguided ones and a plain sampler: `python benchmarks/guided.py`.

Samples: those of `context-benzenoids` as they are drawn by default (self-conditioned network, DDPM
on Karras' levels), unguided and led either way, scaled to 1,000 samples of 100 steps. An unguided
one makes one call of the network a step, a guided one also one of the guide, forward and back.

Steps: ours (moved after each step, tilted, unguided) beside the released materials sampler of L.
Klarner et al., 2024, arXiv 2407.11942, that is T. Weiss et al., 2023 (GaUDI), written plainly from
its formulas: T = 1000 levels of alpha^2 = (1 - (i / T)^2)^2 with a ratio of neighbours of at least
0.001, a network that predicts the noise, a draw of the posterior of z_s about its centre, and then

    z_s <- z_s - sigma_{s|t} clip(grad scale sum_k (mu_k - sqrt(s_k)), 10),   told t

Both have the same networks (no self-conditioning) of the same weights, and are checked to say the
same: noise, and gradient. All take turns; a ratio is that of neighbours, ours by the other's, the
median with its quartiles. On a GPU: `--device cuda --width 192 --depth 9 --guide-width 196
--guide-depth 12 --batch 512 --steps 100`.
"""

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from timing import in_turns
from torch import Tensor, nn
from torch.nn import functional

from noiseloom import Cosine, GaussianDiffusion, Rng, SamplingPlan, sample
from noiseloom.context import Guide
from noiseloom.denoiser import Preconditioned
from noiseloom.diffusion import ZeroCentre
from noiseloom.guidance import PropertyGuided, acquisition, nudged, scaling
from noiseloom.guidance.property import uphill
from noiseloom.nets import EGNN, PointEncoder
from noiseloom.recipes import ContextBenzenoids
from noiseloom.sampling import Solver, ancestral, final

Run = Callable[[], object]
LEVELS, LEAST, PRECISION = 1000, 0.001, 1e-5
AIM = acquisition.lcb(1.0, minimise=True)
WHOLE = 1000, 100  # samples and steps that times are scaled to


class Peer:
    """The released loop, of a network that predicts noise and of a guide's network and heads."""

    def __init__(self, network: nn.Module, guide: Guide, scale: float) -> None:
        self.network, self.guide, self.scale = network, guide, scale
        i = torch.linspace(0, 1, LEVELS + 1, dtype=torch.float64)
        square = (1 - i.square()).square()
        ratios = torch.cat((square[:1], square[1:] / square[:-1].clamp_min(1e-300)))
        square = ratios.clamp(LEAST, 1).cumprod(0)
        square = (1 - 2 * PRECISION) * square + PRECISION
        place = next(network.parameters()).device
        self.alpha, self.sigma = square.sqrt().to(place), (1 - square).sqrt().to(place)
        self.told = (square / (1 - square)).log().float().to(place)

    def noise(self, z: Tensor, t: int) -> Tensor:
        """What the network takes for the noise in z_t."""
        found: Tensor = self.network(z, self.told[t].expand(len(z)), {})
        return found

    def gradient(self, z: Tensor, t: int) -> Tensor:
        """Of scale sum_k (mu_k - sqrt(s_k)), in deviations of the labels, at most 10 long."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            embedded = self.guide.network(leaf, self.told[t].expand(len(z)), {})
            mean, raw = self.guide.heads(embedded).chunk(2, -1)
            bound = self.scale * (mean - functional.softplus(raw).sqrt()).sum()
            (found,) = torch.autograd.grad(bound, leaf)
        length = found.flatten(1).norm(dim=1)
        return found * (10 / (length + 1e-12)).clamp(max=1)[:, None, None]

    @torch.no_grad()
    def draw(self, shape: tuple[int, ...], rows: list[int], guided: bool) -> Tensor:
        """States after the moves between some levels, from pure noise of zero centre."""
        place = self.alpha.device
        z = centred(torch.randn(shape, device=place))
        for t, s in pairwise(rows):
            step = (self.alpha[t] / self.alpha[s]).float()
            fresh = (
                self.sigma[t].square() - step.double().square() * self.sigma[s].square()
            ).float()
            fresh = fresh.clamp_min(0)
            mean = z / step - fresh / (step * self.sigma[t].float()) * self.noise(z, t)
            spread = fresh.sqrt() * self.sigma[s].float() / self.sigma[t].float()
            z = mean + spread * centred(torch.randn(shape, device=place))
            if guided:
                z = z - spread * self.gradient(z, t)
            z = centred(z)
        return z


def centred(x: Tensor) -> Tensor:
    """Points about their mean."""
    return x - x.mean(1, keepdim=True)


def awake(network: nn.Module, device: str) -> nn.Module:
    """Weights that are not 0 anywhere, and a network that is not trained."""
    with Rng(0).torch(), torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return network.to(device).eval().requires_grad_(False)


def guide_of(space: GaussianDiffusion, options: argparse.Namespace) -> Guide:
    """A guide with random weights."""
    with Rng(1).torch():
        network = PointEncoder(width=options.guide_width, depth=options.guide_depth)
        guide = Guide(network, space, options.guide_width)
    awake(guide, options.device)
    return guide


def stepping(options: argparse.Namespace) -> dict[str, Run]:
    """So many steps of each, of one network that predicts noise, and one guide."""
    space = GaussianDiffusion(Cosine(), ZeroCentre())
    with Rng(0).torch():
        network = EGNN(width=options.width, depth=options.depth)
    awake(network, options.device)
    denoiser = Preconditioned(network, space.schedule, target="eps").eval()
    guide = guide_of(space, options)
    peer = Peer(network, guide, options.scale)
    agree(denoiser, guide, peer, options)
    shape = (options.batch, options.rings, 3)
    rows = torch.linspace(LEVELS, LEVELS // 2, options.steps + 1).round().int().tolist()
    times = space.schedule.time(peer.told[rows].double().cpu()).clamp(0, 1)
    plan = SamplingPlan(times[:-1, None], times[1:, None])
    rng = Rng(0).samples(options.batch, device=options.device)
    x = space.prior(torch.empty(shape, device=options.device), rng)
    tilted = PropertyGuided(denoiser, space, guide, AIM, options.scale, rule=scaling.clipped(10.0))
    moved = nudged(ancestral(1.0), guide, AIM, options.scale)

    def ours(own: nn.Module, solver: Solver) -> Run:
        def run() -> Tensor:
            return final(sample(own, space, plan, x, cond={}, rng=rng, solver=solver)).x

        return run

    return {
        "ours": ours(denoiser, moved),
        "ours, tilted": ours(tilted, ancestral(1.0)),
        "ours, unguided": ours(denoiser, ancestral(1.0)),
        "peer": lambda: peer.draw(shape, rows, True),
        "peer, unguided": lambda: peer.draw(shape, rows, False),
    }


def agree(denoiser: nn.Module, guide: Guide, peer: Peer, options: argparse.Namespace) -> None:
    """Raise if ours and the peer do not say the same of the same states."""
    space = guide.diffusion
    for level in (900, 500, 100):
        z = Rng(level).normal((4, options.rings, 3), device=options.device)
        z, t = centred(z), space.schedule.time(peer.told[level].double().cpu())
        t = t.to(options.device)
        with torch.no_grad():
            mean = denoiser(z, t, {})[0].mean
            noise = peer.noise(z, level)
        alpha, sigma = peer.alpha[level].float(), peer.sigma[level].float()
        torch.testing.assert_close(mean, (z - sigma * noise) / alpha, rtol=1e-3, atol=1e-3)
        # In one direction: ours climbs, the peer descends, and cuts at 10 after scaling.
        up = uphill(guide, AIM, space, z, t, {}, None, ())[""]
        pull = scaling.clipped(10.0)(options.scale, {"": up}, {}, {"": t})[""] * up
        torch.testing.assert_close(
            centred(pull), centred(-peer.gradient(z, level)), rtol=1e-3, atol=1e-4
        )


def sampling(options: argparse.Namespace) -> dict[str, Run]:
    """Samples of the recipe, unguided and led either way."""
    recipe = ContextBenzenoids(
        rings=options.rings,
        width=options.width,
        depth=options.depth,
        sampling_steps=options.steps,
    )
    with Rng(0).torch():
        parts = recipe.build({"rings": options.rings, "std": 2.0})
    awake(parts.denoiser, options.device)
    guide = guide_of(parts.diffusion, options)
    facts = {"rings": options.rings, "std": 2.0}
    rng = Rng(0).samples(options.batch, device=options.device)

    def tilted(denoiser: nn.Module, solver: Solver) -> tuple[nn.Module, Solver]:
        return PropertyGuided(denoiser, parts.diffusion, guide, AIM, options.scale), solver

    def moved(denoiser: nn.Module, solver: Solver) -> tuple[nn.Module, Solver]:
        return denoiser, nudged(solver, guide, AIM, options.scale)

    def run(steering: Callable[..., tuple[nn.Module, Solver]] | None) -> Run:
        own = replace(parts, steering=steering)
        return lambda: final(recipe.draw(own, facts, {}, rng)).x

    return {"ours": run(tilted), "ours, moved": run(moved), "ours, unguided": run(None)}


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, usual in (
        ("rings", 11), ("batch", 32), ("width", 64), ("depth", 4), ("guide-width", 64),
        ("guide-depth", 2), ("steps", 10), ("repeats", 7),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    place = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    result = {key: value for key, value in vars(options).items() if key != "out"}
    result |= {"torch": torch.__version__, "machine": place, "threads": torch.get_num_threads()}
    samples, steps = WHOLE
    cases = {
        f"seconds for {samples:,} samples of {steps} steps": (
            sampling,
            1e-3 * samples / options.batch * steps / options.steps,
        ),
        f"milliseconds a step of {options.batch} rows": (stepping, 1 / options.steps),
    }
    result["found"] = []
    for case, (make, factor) in cases.items():
        found = in_turns(make(options), options.device, options.repeats)
        for values in found.values():
            values["value"] = values.pop("ms") * factor
        result["found"].append({"case": case, "times": found})
        print(f"{case}: ours {found['ours']['value']:.3g}", flush=True)
        for name, values in list(found.items())[1:]:
            spread = f"{values['low']:.2f} .. {values['high']:.2f}"
            print(f"    {name:20s} {values['value']:9.3g}   {values['ratio']:.2f} ({spread})")
        if options.out:  # after each, so that what was measured stays
            options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

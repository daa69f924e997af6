"""Masked diffusion beside its plain public form, on one network: `python benchmarks/masked.py`.

The peer is written from the formulas of S. Sahoo et al., 2024, "Simple and Effective Masked
Diffusion Language Models" (MDLM, arXiv 2406.07524), as public code does them: K + 1 logits in log
space, of which the mask's is impossible and a seen token's certain (the substitution), a weight
from the log-linear schedule, and for every token of every step the largest of K + 1 probabilities
over exponential numbers, in float32 or float64. Its first layer looks classes up. Cached, it keeps
what the network said until some token of the batch changes (Section 4.2.1).

Ours and the peer take turns; what is printed is the median of the ratios of neighbours, ours by
peer, and their quartiles. On a GPU: `--device cuda --width 768 --depth 12 --batch 64 --classes
27 32768`.
"""

import argparse
import json
import platform
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from timing import in_turns
from torch import Tensor, nn
from torch.nn import functional

from noiseloom import (
    CategoricalDiffusion,
    ClassDenoiser,
    LinearGamma,
    Rng,
    SamplingPlan,
    denoising_loss,
    sample,
)
from noiseloom.class_denoiser import Remembering
from noiseloom.nets import Transformer
from noiseloom.objective import stratified_times
from noiseloom.sampling import final

Run = Callable[[], object]
EPS = 1e-3  # of the peer's schedule: the share of masks is (1 - EPS) t


class Peer(nn.Module):
    """The plain form: log-probabilities of K + 1 classes, from a network that looks them up."""

    def __init__(self, network: Transformer, classes: int) -> None:
        super().__init__()
        self.network, self.mask = network, classes

    def forward(self, x: Tensor) -> Tensor:
        """log p(x_0 | x_t), shape (B, T, K + 1)."""
        net = self.network
        h = functional.embedding(x, net.input.weight.T) + net.input.bias
        h = h + net.position.weight[: x.shape[1]]
        time = net.embedding(torch.zeros(len(x), device=x.device), {})
        logits, _, _ = net.trunk(h, time, None, told=None, seen=None)
        hidden = (x == self.mask)[..., None]
        lowest = torch.finfo(logits.dtype).min / 2
        logits = logits.index_fill(-1, torch.tensor([self.mask], device=x.device), lowest)
        logits = logits - logits.logsumexp(-1, keepdim=True)
        sure = functional.one_hot(x, self.mask + 1).bool()
        return torch.where(hidden, logits, torch.where(sure, 0.0, lowest))

    def loss(self, clean: Tensor) -> Tensor:
        """Nats of a token: sigma' / (exp(sigma) - 1) times the cross-entropy of masked tokens."""
        count = len(clean)
        u = torch.rand(count, device=clean.device)
        t = (u / count + torch.arange(count, device=clean.device) / count) % 1
        t = (1 - EPS) * t + EPS
        sigma, rate = -torch.log1p(-(1 - EPS) * t), (1 - EPS) / (1 - (1 - EPS) * t)
        moved = torch.rand(clean.shape, device=clean.device) < -torch.expm1(-sigma)[:, None]
        x = torch.where(moved, self.mask, clean)
        nats = -self(x).gather(-1, clean[..., None])[..., 0]
        return (nats * (rate / torch.expm1(sigma))[:, None]).mean()

    @torch.no_grad()
    def sample(
        self, shape: tuple[int, int], steps: int, dtype: torch.dtype, cached: bool
    ) -> Tensor:
        """Rows of classes by `steps` steps from 1 to EPS, and one that unmasks what is left."""
        place = self.network.input.weight.device
        x = torch.full(shape, self.mask, device=place)
        times, known = torch.linspace(1, EPS, steps + 1).tolist(), None
        for t, s in pairwise(times):
            p = self(x).exp() if known is None else known
            law = p * (t - s)
            law[..., self.mask] = s
            # Exponential numbers: the least over p is a draw of p, as is the largest Gumbel.
            u = torch.rand(law.shape, dtype=dtype, device=place)
            picked = (law / (1e-10 - (u + 1e-10).log())).argmax(-1)
            new = torch.where(x == self.mask, picked, x)
            known = p if cached and torch.equal(new, x) else None
            x = new
        return torch.where(x == self.mask, self(x)[..., : self.mask].argmax(-1), x)


def networks(options: argparse.Namespace, classes: int) -> tuple[ClassDenoiser, Peer]:
    """Both forms of one network: the peer's has one logit more, of the mask."""
    made = []
    for outputs in (classes, classes + 1):
        with Rng(0).torch():
            net = Transformer(
                classes + 1,
                outputs,
                max_length=options.length,
                width=options.width,
                depth=options.depth,
                heads=options.heads,
            )
            for parameter in net.trunk.parameters():  # not 0 at the end, where untrained ones are
                if not parameter.any():
                    nn.init.normal_(parameter, std=0.02)
        made.append(net.to(options.device))
    diffusion = CategoricalDiffusion(classes, "absorbing", LinearGamma())
    return ClassDenoiser(made[0], diffusion), Peer(made[1], classes)


def agree(ours: ClassDenoiser, peer: Peer, clean: Tensor) -> None:
    """Raise if the two do not say the same of the same tokens, on the same weights."""
    state = ours.network.state_dict()
    kept = peer.network.state_dict()
    for name, value in peer.network.named_parameters():
        if value.shape == state[name].shape:
            value.data.copy_(state[name])
        else:
            value.data[:-1].copy_(state[name])
    t = torch.full((len(clean),), 0.5, device=clean.device)
    x = ours.diffusion.corrupt(clean, t, Rng(0))
    with torch.no_grad():
        mean, p = ours(x, t)[0].mean, peer(x).exp()
    torch.testing.assert_close(mean, p[..., :-1], rtol=1e-4, atol=1e-5)
    peer.network.load_state_dict(kept)


def training(options: argparse.Namespace, classes: int) -> dict[str, Run]:
    """A step of each: noise, forward, loss, backward and AdamW."""
    ours, peer = networks(options, classes)
    batch = options.batch
    clean = Rng(1).integers(classes, (batch, options.length), options.device)
    agree(ours, peer, clean)
    rng, rows = Rng(0).samples(batch, device=options.device), torch.arange(batch)

    def own() -> Tensor:
        t = stratified_times(rows, batch, rng.fold("time"), options.device)
        return denoising_loss(
            ours, ours.diffusion, clean, t, {}, rng, rows=rows, cross_entropy=True
        ).mean()

    def step(model: nn.Module, loss: Callable[[], Tensor]) -> Run:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def run() -> None:
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    return {"ours": step(ours, own), "peer": step(peer, lambda: peer.loss(clean))}


def sampling(options: argparse.Namespace, classes: int, batch: int, steps: int) -> dict[str, Run]:
    """Draws of a batch: ours, and the peer in both precisions, with and without its cache."""
    ours, peer = (model.eval() for model in networks(options, classes))
    plan, shape = SamplingPlan.uniform(steps), (batch, options.length)
    rng = Rng(0).samples(batch, device=options.device)
    masks = ours.diffusion.prior(torch.empty(shape, device=options.device), rng)
    forms = {
        f"peer {str(dtype)[6:]}{' cached' * cached}": (dtype, cached)
        for dtype in (torch.float32, torch.float64)
        for cached in (False, True)
    }
    own = Remembering(ours) if options.device == "cpu" else ours

    def drawn(denoiser: nn.Module) -> Tensor:
        return final(sample(denoiser, ours.diffusion, plan, masks, rng=rng)).x

    runs: dict[str, Run] = {"ours": lambda: drawn(own)}
    if own is not ours:
        runs["ours, asked always"] = lambda: drawn(ours)
    return runs | {
        name: (lambda form=form: peer.sample(shape, steps, *form)) for name, form in forms.items()
    }


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, usual in (
        ("length", 64), ("batch", 16), ("width", 128), ("depth", 4), ("heads", 4), ("steps", 64),
        ("repeats", 7),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--classes", type=int, nargs="+", default=[27, 1024])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    result = {key: value for key, value in vars(options).items() if key != "out"}
    result |= {"torch": torch.__version__, "machine": place, "threads": 1, "found": []}
    few = 4 * options.length  # steps: most of one row change nothing
    for classes in options.classes:
        cases = {
            "training step": lambda k=classes: training(options, k),
            f"{options.steps} steps, {options.batch} rows": lambda k=classes: sampling(
                options, k, options.batch, options.steps
            ),
            f"{few} steps, 1 row": lambda k=classes: sampling(options, k, 1, few),
        }
        for case, make in cases.items():
            found = in_turns(make(), options.device, options.repeats)
            result["found"].append({"classes": classes, "case": case, "times": found})
            print(f"K = {classes:,}, {case}: ours {found['ours']['ms']:.1f} ms", flush=True)
            for name, values in list(found.items())[1:]:
                spread = f"{values['low']:.2f} .. {values['high']:.2f}"
                print(f"    {name:24s} {values['ms']:9.1f} ms   {values['ratio']:.2f} ({spread})")
            if options.out:  # after each, so that what was measured stays
                options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

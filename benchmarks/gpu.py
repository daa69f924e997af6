"""Speed beside the peers, on one GPU, in one process: `python benchmarks/gpu.py --out FILE.json`.

Needs the extra `bench` (diffusers, bit-diffusion). Comparisons, each a ratio:

(a) the sampling loop over the bare network calls it makes,
(b) a self-conditioned training step over a plain one,
(c) training throughput over diffusers' UNet2DModel in its CIFAR-10 DDPM configuration,
(d) training throughput over lucidrains/bit-diffusion, both with self-conditioning,
(e) training throughput of the paper's CIFAR-10 network, without a peer.

Networks run in bfloat16 and channels-last; of several forms of a peer (eager, compiled, in (c) also
as CUDA graphs) the fastest counts. Every number is the median over repeats of a block of steps,
timed with device events.
"""

import argparse
import json
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from timing import (
    DEVICE,
    LAST,
    Step,
    cost,
    device_milliseconds,
    images,
    milliseconds,
    table_of_kernels,
    trainer,
)
from torch import Tensor, nn
from torch.nn import functional

from noiseloom import (
    Cosine,
    GaussianDiffusion,
    Preconditioned,
    Rng,
    SamplingPlan,
    SelfConditioned,
    ancestral,
    denoising_loss,
    sample,
)
from noiseloom.nets import UNet
from noiseloom.training.precision import in_bfloat16


class Recorded(nn.Module):
    """A network that keeps the arguments of its calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[tuple[object, ...]] = []

    def forward(self, *args: object) -> Tensor:
        self.calls.append(args)
        result: Tensor = self.network(*args)
        return result


TRAINING = "reduce-overhead"
"""The compiler's mode of our networks in (b), (d) and (e): CUDA graphs, as `train` uses.

In (c) both networks are measured with and without. In (d) the peer is compiled without: CUDA graphs
cannot hold it, since it keeps the output of its first pass, which the second overwrites.
"""


def sampling_overhead(batch: int = 64, rows: int = 30) -> dict[str, object]:
    """(a) The loop over the bare calls: the very calls it made, without what lies between them."""
    return {mode: _overhead(mode, batch, rows) for mode in ("default", "reduce-overhead")}


def _overhead(mode: str, batch: int, rows: int) -> dict[str, float]:
    torch._dynamo.reset()
    network = UNet.ddpm(24, 24).to(DEVICE, memory_format=LAST).eval().requires_grad_(False)
    schedule = Cosine()
    denoiser, diffusion = Preconditioned(network, schedule), GaussianDiffusion(schedule)
    network.compile(dynamic=False, mode=mode)
    x, plan = images(batch, 24), SamplingPlan.uniform(rows)
    settings = {"warmup": 3, "block": 2, "repeats": 11}
    result = {}
    with in_bfloat16([network], DEVICE):

        def loop(stochasticity: float, rng: Rng) -> Step:
            solver = ancestral(stochasticity)

            def run() -> None:
                for _ in sample(denoiser, diffusion, plan, x, rng=rng, solver=solver):
                    pass

            return run

        recorded = denoiser.network = Recorded(network)
        loop(0.0, Rng(0))()
        denoiser.network = network

        @torch.no_grad()
        def bare() -> None:
            for args in recorded.calls:
                network(*args)

        one, each = Rng(0), Rng(0).samples(batch, device=DEVICE)
        kinds = {
            "ddim, one seed": loop(0.0, one),
            "ddim, seed per sample": loop(0.0, each),
            "ddpm, one seed": loop(1.0, one),
            "ddpm, seed per sample": loop(1.0, each),
        }
        for name, run in kinds.items():
            base = milliseconds(bare, **settings)
            result[name] = milliseconds(run, **settings) / base
        result["bare ms per row"] = milliseconds(bare, **settings) / rows
        result["bare device ms per row"] = device_milliseconds(bare) / rows
        result["loop device ms per row (last kind)"] = device_milliseconds(run) / rows
    return result


def bit_loss(model: nn.Module, batch: int, rate: float) -> Callable[[], Tensor]:
    """Ours, on analog bits."""
    diffusion, clean = GaussianDiffusion(Cosine()), images(batch, 24).sign()
    rng = Rng(0).samples(batch, device=DEVICE)
    rows = torch.arange(batch)

    def loss() -> Tensor:
        t = rng.fold("time").uniform((batch,), device=DEVICE)
        each = denoising_loss(
            model, diffusion, clean, t, None, rng, rows=rows, self_conditioning=rate
        )
        return each.mean()

    return loss


def self_conditioning(batch: int = 256) -> dict[str, float]:
    """(b) A self-conditioned step over a plain one; theory 1 + 0.5 / 3 = 1.17."""
    network = UNet.ddpm(24, 24, self_conditioning=True).to(DEVICE, memory_format=LAST)
    model = SelfConditioned(Preconditioned(network, Cosine()), limit=1.0)
    network.compile(dynamic=False, mode=TRAINING)
    with in_bfloat16([network], DEVICE):
        plain = milliseconds(trainer(model, bit_loss(model, batch, 0.0)))
        conditioned = milliseconds(trainer(model, bit_loss(model, batch, 0.5)))
    return {"plain ms": plain, "self-conditioned ms": conditioned, "ratio": conditioned / plain}


def papers_network(batch: int = 128) -> dict[str, object]:
    """(e) Training steps of the paper's CIFAR-10 network, at its batch size."""
    network = UNet.cifar10().to(DEVICE, memory_format=LAST)
    model = SelfConditioned(Preconditioned(network, Cosine()), limit=1.0)
    result: dict[str, object] = {
        "network": cost(network, images(batch, 24), torch.zeros(batch, device=DEVICE))
    }
    network.compile(dynamic=False, mode=TRAINING)
    with in_bfloat16([network], DEVICE):
        for name, rate in (("plain", 0.0), ("self-conditioned", 0.5)):
            step = trainer(model, bit_loss(model, batch, rate))
            result[f"{name}, images per second"] = batch / milliseconds(step) * 1e3
    return result


def beside_diffusers(batch: int = 256, profile: Path | None = None) -> dict[str, object]:
    """(c) Plain regression steps of both networks on the same pictures."""
    from diffusers import UNet2DModel

    x, y, times = images(batch), images(batch), torch.zeros(batch, device=DEVICE)

    def build_peer() -> nn.Module:
        model = UNet2DModel(
            sample_size=32,
            block_out_channels=(128, 256, 256, 256),
            layers_per_block=2,
            attention_head_dim=None,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
        )
        return model.to(DEVICE, memory_format=LAST)

    def peer_loss(model: nn.Module) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                output = model(x, times, return_dict=False)[0]
            return functional.mse_loss(output.float(), y)

        return loss

    def our_loss(model: nn.Module) -> Callable[[], Tensor]:
        return lambda: functional.mse_loss(model(x, times), y)

    result: dict[str, object] = {}
    peer, ours = build_peer(), UNet.ddpm(3, 3).to(DEVICE, memory_format=LAST)
    result["peer"], result["ours"] = cost(peer, x, times), cost(ours, x, times)
    speeds = {"peer eager": batch / milliseconds(trainer(peer, peer_loss(peer))) * 1e3}
    with in_bfloat16([ours], DEVICE):
        speeds["ours eager"] = batch / milliseconds(trainer(ours, our_loss(ours))) * 1e3
    for form, mode in (("compiled", "default"), ("CUDA graphs", TRAINING)):
        torch._dynamo.reset()
        peer.compile(dynamic=False, mode=mode)
        step = trainer(peer, peer_loss(peer))
        speeds[f"peer {form}"] = batch / milliseconds(step) * 1e3
        kernels = "" if profile is None else table_of_kernels(step)
        ours.compile(dynamic=False, mode=mode)
        with in_bfloat16([ours], DEVICE):
            step = trainer(ours, our_loss(ours))
            speeds[f"ours {form}"] = batch / milliseconds(step) * 1e3
            if profile is not None:
                profile.write_text(f"{table_of_kernels(step)}\n\npeer\n{kernels}")
    best = {
        whose: max(value for name, value in speeds.items() if name.startswith(whose))
        for whose in ("ours", "peer")
    }
    return {**result, "images per second": speeds, "ratio": best["ours"] / best["peer"]}


def beside_lucidrains(batch: int = 256) -> dict[str, object]:
    """(d) Training steps with self-conditioning on 8-bit pictures."""
    from bit_diffusion.bit_diffusion import BitDiffusion, Unet

    result: dict[str, object] = {}
    network = Unet(64).to(DEVICE, memory_format=LAST)
    peer = BitDiffusion(network, image_size=32).to(DEVICE)
    ours = UNet(
        24,
        24,
        width=64,
        multipliers=(1, 2, 5, 8),
        blocks=1,
        attention=(False, False, False, True),
        self_conditioning=True,
    ).to(DEVICE, memory_format=LAST)
    x, times = images(batch, 24), torch.zeros(batch, device=DEVICE)
    result["peer"], result["ours"] = cost(network, x, times), cost(ours, x, times)
    pixels = Rng(0).uniform((batch, 3, 32, 32), device=DEVICE)

    def peer_loss() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return peer(pixels)

    step = trainer(peer, peer_loss)
    settings = {"block": 20, "repeats": 9}  # its coin is tossed once per batch
    speeds = {"peer eager": batch / milliseconds(step, **settings) * 1e3}
    model = SelfConditioned(Preconditioned(ours, Cosine()), limit=1.0)
    ours.compile(dynamic=False, mode=TRAINING)
    with in_bfloat16([ours], DEVICE):
        ours_step = trainer(model, bit_loss(model, batch, 0.5))
        speeds["ours compiled"] = batch / milliseconds(ours_step, **settings) * 1e3
    network.compile(dynamic=False)
    try:
        speeds["peer compiled"] = batch / milliseconds(step, **settings) * 1e3
    except RuntimeError as error:  # with PyTorch 2.11 the gradient it compiles to has a wrong shape
        result["peer compiled fails"] = str(error)
    best = max(value for name, value in speeds.items() if name.startswith("peer"))
    return {**result, "images per second": speeds, "ratio": speeds["ours compiled"] / best}


RATIOS = {
    "a": ("sampling loop / bare calls", "<= 1.05"),
    "b": ("self-conditioned / plain step", "<= 1.2"),
    "c": ("training throughput / diffusers", ">= 1.0"),
    "d": ("training throughput / lucidrains", ">= 1.5"),
}


def table(results: dict[str, object]) -> str:
    """One line per ratio."""
    lines = []
    for letter, (name, aim) in RATIOS.items():
        found = results.get(letter)
        if isinstance(found, dict) and letter == "a":
            graphs = {k: v for k, v in found["reduce-overhead"].items() if "ms" not in k}
            lines += [f"a  {f'{name}, {kind}':52s} {v:6.3f}  {aim}" for kind, v in graphs.items()]
        elif isinstance(found, dict):
            lines.append(f"{letter}  {name:52s} {found['ratio']:6.3f}  {aim}")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="abcde", help="letters of the comparisons to run")
    parser.add_argument("--profile", type=Path, help="write tables of kernels for (c)")
    args = parser.parse_args()
    if not args.only or set(args.only) - set("abcde"):
        parser.error(f"--only takes letters of abcde, got {args.only!r}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    runs: dict[str, Callable[[], object]] = {
        "c": lambda: beside_diffusers(profile=args.profile),
        "a": sampling_overhead,
        "b": self_conditioning,
        "d": beside_lucidrains,
        "e": papers_network,
    }
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    results: dict[str, object] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit or None,
    }
    for letter, run in runs.items():
        if letter in args.only:
            results[letter] = run()
            print(letter, json.dumps(results[letter], indent=1), flush=True)
            args.out.write_text(json.dumps(results, indent=1) + "\n")
            torch._dynamo.reset()
            torch.cuda.empty_cache()
    print(table(results))


if __name__ == "__main__":
    main()

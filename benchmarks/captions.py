"""Captions by diffusion beside the cached autoregressive baseline: `python benchmarks/captions.py`.

One decoder of one size reads one picture's features, made once for all states. The baseline writes
token by token, remembers what it has read, and stops where all captions of the batch have ended,
which is later the more there are. Untrained networks end nowhere, so lengths are given: quantiles
of those of captions of `--data`, or `--words` tokens each. Searches and guidance are of it, too.
Diffusions write all tokens of a row at once, in so many steps. All take turns; what is printed is
the median of the ratios of neighbours, theirs by the baseline's, with quartiles, and the calls of
the decoder for one caption.

COCO's size on a GPU: `--device cuda --width 512 --depth 6 --heads 8 --tokens 64 --words 12
--classes 32768 --places 49 --batch 1 64`.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noiseloom import Rng
from noiseloom.data import Phrases, read_captions
from noiseloom.recipes import Captions

Run = Callable[[], object]
SIDE = 8  # of a patch: pictures have as many patches as places are asked for


def made(options: argparse.Namespace, classes: int, **changes: Any) -> tuple[Captions, Any, Any]:  # noqa: ANN401
    """A recipe, its facts and its untrained parts, in which nothing is silent."""
    recipe = Captions(
        size=(SIDE, SIDE * options.places),
        patch=SIDE,
        width=options.width,
        depth=options.depth,
        heads=options.heads,
        encoder_width=options.width,
        encoder_depth=options.depth,
        **changes,
    )
    words = Phrases("words", [f"w{i}" for i in range(classes - 1)], options.tokens)
    frequencies = [[1 / classes] * classes]
    facts = {
        "length": options.tokens,
        "sizes": words.sizes,
        "frequencies": frequencies,
        "vocabulary": words.facts(),
        "shape": [3, *recipe.framing.height_width],
    }
    with Rng(0).torch():
        parts = recipe.build(facts)
        for parameter in parts.denoiser.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    parts.denoiser.to(options.device).eval().requires_grad_(False)
    return recipe, facts, parts


def lengths(options: argparse.Namespace, batch: int) -> Tensor:
    """Tokens of each caption of a batch before its end."""
    if not options.data:
        return torch.full((batch,), options.words)
    split, words = read_captions(options.data, size=24, scenes=500, truncate=True)
    counts = (split.train.values != words.end).sum(1).clamp(max=options.tokens - 1)
    shares = (torch.arange(batch) + 0.5) / batch
    return counts.sort().values[(shares * len(counts)).long()]


def ending(model: nn.Module, lengths: Tensor, end: int) -> None:
    """Let captions of the baseline end after so many tokens each, as a trained one's do."""
    network = model.denoiser.network
    forward = network.forward

    def ended(x: Tensor, log_snr: Tensor, cond: Any = None) -> Any:  # noqa: ANN401
        logits, new = forward(x, log_snr, cond)
        each = lengths.to(x.device).repeat_interleave(len(x) // len(lengths))  # of its beams
        over = (cond["position"] >= each)[:, None, None]
        ends = torch.nn.functional.one_hot(torch.tensor(end, device=x.device), logits.shape[-1])
        # Before that the end is as good as impossible, and after it certain.
        return logits + 1e4 * (2 * over.to(logits.dtype) - 1) * ends, new

    network.forward = ended


def drawing(
    options: argparse.Namespace,
    classes: int,
    batch: int,
    **changes: Any,  # noqa: ANN401
) -> tuple[Run, float]:
    """A draw of a batch of captions, and the decoder's calls for each."""
    recipe, facts, parts = made(options, classes, **changes)
    if recipe.state == "autoregressive":
        ending(parts.denoiser, lengths(options, batch), classes - 1)
    given = {"pixels": torch.zeros(batch, *facts["shape"], dtype=torch.uint8)}
    rng, rows = Rng(0).samples(batch, device=options.device), []

    def run() -> object:
        *_, last = recipe.draw(parts, facts, given, rng)
        return last.result

    inner = next(m for n, m in parts.denoiser.named_modules() if n.endswith("network"))
    hook = inner.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    with torch.no_grad():
        run()
    hook.remove()
    return torch.no_grad()(run), sum(rows) / batch


def seconds(run: Run, device: str) -> float:
    """Of one run."""
    begin = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def turns(
    runs: dict[str, tuple[Run, float]], options: argparse.Namespace, batch: int
) -> dict[str, dict[str, float]]:
    """Seconds and calls of a caption, and of all but the first what they take of its time."""
    names = list(runs)
    for run, _ in runs.values():
        seconds(run, options.device)
    blocks = [
        {name: seconds(run, options.device) for name, (run, _) in runs.items()}
        for _ in range(options.repeats)
    ]
    found = {}
    for name in names:
        middle = statistics.median(block[name] for block in blocks)
        found[name] = {"seconds": middle / batch, "calls": runs[name][1]}
        if name != names[0]:
            ratios = [block[name] / block[names[0]] for block in blocks]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            found[name] |= {"ratio": ratio, "low": low, "high": high}
    return found


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, usual in (
        ("tokens", 32), ("words", 12), ("width", 128), ("depth", 4), ("heads", 4), ("places", 64),
        ("classes", 64), ("repeats", 7),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--data", default="", help="scenes, or pictures with captions")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    result = {key: value for key, value in vars(options).items() if key != "out"}
    result |= {"torch": torch.__version__, "machine": place, "threads": 1, "found": []}
    for batch in options.batch:
        cases: dict[str, dict[str, Any]] = {
            "autoregressive": {"state": "autoregressive"},
            "autoregressive, 4 beams": {"state": "autoregressive", "beams": 4},
            "autoregressive, guided": {"state": "autoregressive", "guidance": 2.0},
        }
        for steps in options.steps:
            some = {"sampling_steps": steps}
            cases[f"bits, {steps} steps"] = {"state": "bits", **some}
            cases[f"masked, {steps} steps"] = {"state": "masked", "unmask": "confidence", **some}
        cases[f"bits, {steps} steps, guided"] = {"state": "bits", "guidance": 2.0, **some}
        runs = {
            name: drawing(options, options.classes, batch, **changes)
            for name, changes in cases.items()
        }
        found = turns(runs, options, batch)
        result["found"].append({"batch": batch, "times": found})
        print(f"{batch} pictures at a time", flush=True)
        for name, values in found.items():
            told = f"    {name:26s} {1e3 * values['seconds']:9.1f} ms {values['calls']:6.1f} calls"
            if "ratio" in values:
                told += f"   {values['ratio']:.2f} ({values['low']:.2f} .. {values['high']:.2f})"
            print(told)
        if options.out:  # after each, so that what was measured stays
            options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

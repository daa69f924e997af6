"""The figures of an evaluation as a part of a page: each metric, what it says, and its anchors."""

import json
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from noiseloom.gallery import section
from noiseloom.terminal import ANCHORS, bare

__all__ = ["scores"]

PICTURES = """A number means something by its place between two anchors, measured in the same way:
held-out real pictures, as good as it gets, and these with noise, visibly wrong. A bar is full at
the first and empty at the second. """
POINTS = """Held-out points were measured in the same way beside those trained on: as good as it
gets. """
FORECASTS = """A forecast is worth its place beside history repeated: stretches of the past, put
after the last known value or, by season, after the last season. """
FUTURES = """A prediction is worth its place beside what needs no model: that all stays as it is,
or goes on as it went. """
DRIVING = """Plans are judged by driving: random forces have a score of 0, and the controller that
the data are of, which knows the walls, has 100. Straight ahead is driven at the goal without data
or a plan, into walls if need be: a score is worth its place above that. """
_KINDS = (
    *("kid", "fd", "frame_sharpness", "frame_mean", "frame_std", "frame_change"),
    *("score", "stayed", "return", "reached", "ms_per_plan", "ms_per_step"),
    *("energy", "loss", "latent_perplexity", "latent_information", "straightness", "curvature"),
    *("jacobian_denoiser", "jacobian_drift"),
    "ms",
)
# Per metric its title, which direction is better, and what it says.
MEANINGS = {
    "class_agreement": (
        "class agreement",
        "↑",
        "share of samples in which an independent classifier sees the class asked for",
    ),
    "kid": ("kernel distance", "↓", "to the training pictures, ± standard error, in features of"),
    "fd": ("Fréchet distance", "↓", "to equally many training pictures, in features of"),
    "precision": ("precision", "↑", "share of samples that lie among real pictures: realism"),
    "recall": ("recall", "↑", "share of real pictures that lie among samples: diversity"),
    "density": ("density", "↑", "real pictures around a sample; 1 where the sets agree"),
    "coverage": ("coverage", "↑", "share of real pictures with a sample in their neighbourhood"),
    "nearest": (
        "nearest training picture",
        "≈",
        "median distance in pixels; as held-out: neither copies nor far from the data",
    ),
    "memorised": (
        "memorised",
        "↓",
        "share of samples nearer to a training picture than 99 % of held-out pictures are; about "
        "0.01 where nothing is memorised",
    ),
    "discreteness": ("discreteness", "↑", "share of final analog bits within 0.1 of a level"),
    "crps_sum": (
        "CRPS of the sum",
        "↓",
        "how far the forecast of the columns' sum is off, as a distribution, over its size",
    ),
    "crps": ("CRPS", "↓", "the same of every column"),
    "inside_90": (
        "inside 90 %",
        "≈",
        "share of what came between the 5 % and 95 % quantiles; where the spread is right, "
        "0.9 (P - 1) / (P + 1) of P paths",
    ),
    "mean_error": ("error of the median", "↓", "mean absolute, over the mean absolute value"),
    "error": (
        "error",
        "↓",
        "of the mean of the predicted paths, root mean square, in deviations of the data",
    ),
    "score": ("score", "↑", "0 for random forces, 100 for the controller:"),
    "stayed": ("score, had it stayed", "↑", "where the goal was first within 0.5:"),
    "return": ("return", "↑", "steps within 0.5 of the goal:"),
    "reached": ("reached", "↑", "share of tasks that came within 0.5 of the goal:"),
    "ms_per_plan": (
        "time of a plan",
        "↓",
        "in milliseconds, tasks of a kind side by side, or one:",
    ),
    "ms_per_step": (
        "time of a step",
        "↓",
        "of planning, in milliseconds, tasks of a kind side by side:",
    ),
    "ms_encode": ("time of encoding", "↓", "in milliseconds a picture"),
    "ms_prior": ("time of the prior", "↓", "in milliseconds a sample"),
    "ms": ("time of a sample", "↓", "in milliseconds, for codes, and evaluations:"),
    "frame_sharpness": ("sharpness", "≈", "variance of the Laplacian of the frames:"),
    "frame_mean": ("brightness", "≈", "mean of all pixels:"),
    "frame_std": ("contrast", "≈", "deviation of the pixels of a frame:"),
    "frame_change": (
        "change",
        "≈",
        "mean difference from frame to frame; 0 where a video stands still:",
    ),
    "frames_per_second": ("frames per second", "↑", "of each video, all of them side by side"),
    "energy": (
        "energy distance",
        "↓",
        "to held-out points, without bias: n of the same law are 0 ± 5.5 / n apart, by chance. "
        "Codes, and evaluations:",
    ),
    "perplexity": ("perplexity", "≈", "codes in use of a latent, at most k"),
    "mutual_information": ("mutual information", "↑", "of codes and class, in bits"),
    "modes": ("modes recovered", "↑", "classes with a code of their own: over 90 % pure"),
    "dead_codes": ("dead codes", "↓", "of all latents: used for less than a tenth of a fair share"),
    "latent_perplexity": ("perplexity", "≈", "codes in use of latent"),
    "latent_information": ("mutual information", "↑", "in bits, with the class, of latent"),
    "loss": ("error", "↓", "squared, of the estimate, at a noise level sigma, for codes that are:"),
    "straightness": (
        "straightness",
        "↑",
        "chord by arc of the paths to samples, for codes that are:",
    ),
    "curvature": (
        "curvature",
        "↓",
        "median over the paths to samples, in units of 1 / state, at a level sigma, for codes that "
        "are:",
    ),
    "jacobian_denoiser": (
        "Jacobian of the denoiser",
        "↓",
        "Frobenius norm along the paths, root mean square, at a level sigma, for codes that are:",
    ),
    "jacobian_drift": (
        "Jacobian of the drift",
        "",
        "the same of (y - D) / sigma, which codes need not lower, at a level sigma, for codes that "
        "are:",
    ),
    "index_bits": (
        "bits of an index",
        "",
        "log2 N: codes that hold as much could number the samples trained on",
    ),
    "code_bits": ("bits of a code", "", "m log2 k: what the codes of a sample can hold"),
    "marginal_bits": (
        "bits by their marginals",
        "",
        "what training codes hold as far as each latent by itself tells",
    ),
    "prior_bits_train": ("prior, training codes", "↓", "bits of a sample's codes by the prior"),
    "prior_bits_held_out": (
        "prior, held-out codes",
        "↓",
        "the same of others; far above training codes, it has learnt those by heart",
    ),
    "invalid_codes": ("invalid codes", "↓", "share of values whose bits spell no value"),
}


def scores(path: Path, name: str) -> str:
    """The table of `evaluation.json`: a row per metric, with its anchors beside it.

    Args:
        path: the file, if it is there.
        name: of the run's folder.
    """
    if not path.is_file():
        command = escape(f"noiseloom evaluate {shlex.quote(name)}")
        return section("Metrics", f"<p>Not evaluated yet.</p><pre>{command}</pre>")
    values = json.loads(path.read_text())
    keys = [key for key in bare(values) if key != "n"]
    order = list(MEANINGS)
    keys.sort(key=lambda k: order.index(_kind(k)) if _kind(k) in order else len(order))
    endings = [e for e in ANCHORS if any(key + e in values for key in keys)]
    texts = {"_held_out": PICTURES, "_walk": FORECASTS, "_still": FUTURES, "_random": DRIVING}
    text = next((text for ending, text in texts.items() if ending in endings), "")
    text = POINTS if "energy" in values else text
    count = f" Each column has {values['n']:,.0f} samples." if "n" in values else ""
    heads = "".join(f"<th>{title}</th>" for title in ("samples", *(ANCHORS[e] for e in endings)))
    body = "".join(_metric(key, values, endings) for key in keys)
    return section(
        "Metrics",
        f"""<p>{text}↑ more is better, ↓ less is better.{count}</p>
<table class="metrics"><thead><tr><th></th>{heads}
</tr></thead><tbody>{body}</tbody></table>""",
    )


def _metric(key: str, values: dict[str, float], endings: Sequence[str]) -> str:
    kind = _kind(key)
    title, better, text = MEANINGS.get(kind, (key.replace("_", " "), "", ""))
    if kind != key:
        text = f"{text} {key.removeprefix(f'{kind}_').replace('_', ', ')}"
    cells = []
    for ending in ("", *endings):
        value, error = values.get(key + ending), values.get(f"{key}_se{ending}")
        cells.append("" if value is None else _number(value))
        cells[-1] += "" if error is None else f"<small>±&nbsp;{error:.2g}</small>"
    real, noised = (values.get(key + ending, 0) for ending in ("_held_out", "_noised"))
    # Some measures, recall above all, may rate noise above real pictures: no bar for these.
    if (better == "↑" and real > noised) or (better == "↓" and real < noised):
        place = min(max((values[key] - noised) / (real - noised), 0), 1)
        cells[0] += f'<span class="gauge"><i style="width:{place:.0%}"></i></span>'
    if kind == "coverage" and real:
        cells[0] += f"<small>{values[key] / real:.0%} of held-out</small>"
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th>{escape(title)}&nbsp;{better}<small>{escape(text)}</small></th>{row}</tr>"


def _kind(key: str) -> str:
    """The metric of a key: some end with the name of the features, or the kind of the tasks."""
    if key in MEANINGS:
        return key
    return next((kind for kind in _KINDS if key.startswith(f"{kind}_")), key)


def _number(value: float) -> str:
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "&minus;")

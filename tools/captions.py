"""Captions by bits, token by token and by masks, on scenes and NLVR: what is run, and its table.

    python tools/captions.py agenda scenes:0 nlvr:012 > FILE   # for tools/agenda.py, DATA:SEEDS
    python tools/captions.py look RUN --steps 20    # choose options on one half, report the other
    python tools/captions.py table DIR --out FILE.json

The shape of tables 3 and 4 of Bit Diffusion's captions: the overshoot td by the number of steps,
beside the autoregressive model. Options (td; temperature, greedy or 3 beams; the order of masks)
are chosen on the first half of the held-out pictures, by what is true beyond what holds anywhere,
of NLVR by CIDEr-D; the table is of the second half, and below it are all overshoots, on the first.
`tools/captions.sh` shares it by two GPUs, or one.

Decoder and encoder have 256 features and 6 blocks, 15 M parameters. By count an update is 3.95 G
operations a row of scenes for bits and 3.08 G for the others, so that 25,000 updates of 128 are
12.6 and 9.9 P; of NLVR 4,000 updates of 64 are 0.94 and 0.76 P, of 3.67 and 2.95 G a row. A caption
of bits takes 7.1 G in 20 steps. Of five that share an H200 one of scenes' bits makes 33 updates a
second, by masks 40, token by token 54, after 60 to 110 s of compiling.

Emoji (pictures of several styles with names) are judged by ROUGE-L and by how alike sentences are,
with the extra `eval`, in a lane of their own (`sentences`): their names are too short for BLEU-4.
"""

import argparse
import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from noiseloom import load
from noiseloom.data import Split
from noiseloom.evaluations import evaluation_file
from noiseloom.recipes import Captions
from noiseloom.run import Run
from noiseloom.run_folder import read_description, recipe_of

STATES = {"bits": "bits", "auto": "autoregressive", "masked": "masked"}
SIZE = "--width 256 --depth 6 --heads 4 --encoder-width 256 --encoder-depth 6 --encoder-heads 4"
RATE = "--learning-rate 3e-4 --decay cosine --ema-decay 0.9995 --no-evaluate"
DATA = {
    "scenes": "--data scenes --scenes 40000 --size 64 --patch 8 --steps 25000 --batch-size 128 "
    "--warmup 1000",
    "nlvr": "--data {out}/data/nlvr_subset.zip --size [64,256] --patch 16 --apart captions "
    "--dropout 0.1 --steps 4000 --batch-size 64 --warmup 200",
    "emoji": "--data {out}/data/emoji.zip --size 32 --patch 4 --dropout 0.1 --steps 4000 "
    "--batch-size 64 --warmup 200",
}
SIZES = {  # of another size than the rest
    "emoji": "--width 128 --depth 4 --heads 4 --encoder-width 128 --encoder-depth 4",
}
JUDGED = {"emoji": {"similarity": True}}
SECONDS = {"scenes": 600, "nlvr": 180, "emoji": 150}
PACE = (
    "benchmarks/captions.py --device cuda --width 256 --depth 6 --tokens 29 --data scenes "
    "--classes 58 --places 64 --batch 1 64 --steps 5 10 20 50 --out {out}/pace.json"
)
TD = (0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0)
TD_OF = {5: (0.0, 1.0, 2.0, 3.0, 4.0), 10: TD[:-1], 20: TD, 50: TD}
"""From N - 1 on every step goes to time 0: of 5 steps 4 is as 10, of 10 steps 9."""
OVERLAPS = ("bleu_4", "cider_d", "rouge_l")
SHOWN = ("true", "true_beyond", *OVERLAPS, "similarity", "exact", "different", "mean_words")
CALLS = "network_evaluations"
REAL = {"held_out": "real, of the same picture", "elsewhere": "real, of another picture"}
BITS = ("bits_per_row", "bits_per_token", "bits_per_token_seen")
KEPT = (*SHOWN, "sentence", "invalid_codes", "ragged", "unended", *BITS, CALLS)
TRAINED = re.compile(r"training: captions, ([\d,]+) parameters, ([\d,]+) samples, on (.+)")


def jobs(data: str, seed: int) -> list[dict[str, Any]]:
    """Trainings of one seed, each with what it is looked at by, what counts most first."""
    found: list[dict[str, Any]] = []
    for short, state in STATES.items():
        name = f"{data}-{short}-{seed}"
        run = f"{training(data, state, seed)} --out {{out}}/runs/{name}"
        found.append({"name": name, "run": run, "lane": "train", "seconds": SECONDS[data]})
        for steps in numbers(short):
            run = f"tools/captions.py look {{out}}/runs/{name} --samples 1000"
            run += "" if steps is None else f" --steps {steps}"
            lane = "look" if steps in (None, 20) else "more"
            lane = "sentences" if data in JUDGED else lane
            common = {"after": [name], "lane": lane, "seconds": 60, "python": True}
            found.append({"name": f"{name}-look-{steps or 'all'}", "run": run, **common})
        if short == "bits" and seed == 0:  # a page with the text at each step
            page = {"after": [name], "lane": "more", "seconds": 40}
            found.append({"name": f"{name}-page", "run": f"report {{out}}/runs/{name}", **page})
    return found


def training(data: str, state: str, seed: int) -> str:
    """The command, but for its folder."""
    size = SIZES.get(data, SIZE)
    return f"train captions {DATA[data]} {size} {RATE} --state {state} --seed {seed}"


def agenda(words: Sequence[str]) -> list[dict[str, Any]]:
    """The jobs of DATA:SEEDS, or of the pace."""
    if list(words) == ["pace"]:
        return [{"name": "pace", "run": PACE, "seconds": 60, "python": True}]
    pairs = [word.split(":") for word in words]
    return [job for data, seeds in pairs for seed in seeds for job in jobs(data, int(seed))]


def numbers(short: str) -> tuple[int | None, ...]:
    """Of steps, what counts most first; None token by token, which has none."""
    return (None,) if short == "auto" else (20, 10, 5, 50)


def cases(state: str, steps: int | None) -> list[dict[str, Any]]:
    """What is chosen from, for a number of steps."""
    if state == "autoregressive":  # temperature 0 is a search with one beam
        return [{"temperature": t} for t in (0.5, 0.7, 1.0, 0.0)] + [{"beams": 3}]
    assert steps is not None
    if state == "masked":
        order = ("confidence", "random")
        return [{"sampling_steps": steps, "unmask": name} for name in order]
    return [{"sampling_steps": steps, "td": td} for td in TD_OF[steps]]


@cache
def recipe_in(folder: Path) -> Captions:
    """The recipe of a run, of which there need be no weights any more."""
    recipe = recipe_of(read_description(folder))
    assert isinstance(recipe, Captions)
    return recipe


def judged(folder: Path, samples: int, options: dict[str, Any]) -> dict[str, float] | None:
    """What a run's evaluation with these options has found, or none if there is none."""
    changed = replace(recipe_in(folder), **asked(folder, samples, options))
    path = evaluation_file(folder, changed, changed.seed)
    return json.loads(path.read_text()) if path.is_file() else None


def asked(folder: Path, samples: int, options: dict[str, Any]) -> dict[str, Any]:
    """Options of an evaluation."""
    return {"samples": samples, **JUDGED.get(folder.name.split("-")[0], {}), **options}


def chosen(
    folder: Path, samples: int, steps: int | None
) -> tuple[dict[str, Any], dict[str, float] | None] | None:
    """The options that are best of the first half, and what they are worth on the second."""
    tried = []
    for case in cases(recipe_in(folder).state, steps):
        found = judged(folder, samples, {"half": "first", **case})
        if found is None:  # of a part of them the best would be another
            return None
        tried.append((found.get("true_beyond", found["cider_d"]), case))
    best = max(tried, key=lambda pair: pair[0])[1]
    return best, judged(folder, samples, {"half": "second", **best})


def look(run: Run, samples: int, steps: int | None, data: Split[Any]) -> dict[str, Any]:
    """Judge all options on the first half, the best of them on the second, unless it was done."""

    def judge(options: dict[str, Any]) -> None:
        if judged(run.folder, samples, options) is None:
            run.with_options(**asked(run.folder, samples, options)).evaluate(data)

    for case in cases(recipe_in(run.folder).state, steps):
        judge({"half": "first", **case})
    best = chosen(run.folder, samples, steps)
    assert best is not None
    judge({"half": "second", **best[0]})
    return best[0]


def runs_of(folder: Path, data: str, short: str) -> list[Path]:
    """Those that are there, by seed."""
    paths = sorted(folder.glob(f"runs/{data}-{short}-?"))
    return [path for path in paths if (path / "evaluations").is_dir()]


def table(folder: Path, samples: int) -> list[str]:
    """A line for each kind of data, state and number of steps: means over seeds, ± deviations."""
    head = ["data", "state", "steps", "chosen", *SHOWN, "calls", "seeds"]
    lines = [head, ["---"] * len(head)]
    for data in DATA:
        real: list[dict[str, float]] = []  # of one state: the same pictures are judged of all
        for short, state in STATES.items():
            runs = runs_of(folder, data, short)
            for steps in sorted(numbers(short), key=lambda n: n or 0):
                both = [best for run in runs if (best := chosen(run, samples, steps))]
                seen = [(best, figures) for best, figures in both if figures is not None]
                if not seen:
                    continue
                found = [figures for _, figures in seen]
                options = [", ".join(f"{name} {value}" for name, value in best.items()
                                     if name != "sampling_steps") for best, _ in seen]  # fmt: skip
                told = options[0] if len(set(options)) == 1 else " / ".join(options)
                lines.append([data, state, str(steps or "-"), told, *_columns(found, "")])
                real = found if len(found) > len(real) else real
        lines += [[data, name, "-", "", *_columns(real, f"_{key}")]
                  for key, name in REAL.items() if real]  # fmt: skip
    return [f"| {' | '.join(line)} |" for line in lines]


def _columns(found: Sequence[dict[str, float]], suffix: str) -> list[str]:
    names = [f"{name}{suffix}" for name in (*SHOWN, CALLS)]
    columns = [[one[name] for one in found if name in one] for name in names]
    return [*(_mean(column) for column in columns), str(len(found))]


def overshoots(folder: Path, samples: int) -> list[str]:
    """Of bits a line for each figure and number of steps, by overshoot td: table 4 of the paper."""
    every = sorted({td for some in TD_OF.values() for td in some})
    head = ["data", "figure", "steps", *(f"td {td:g}" for td in every)]
    lines = [head, ["---"] * len(head)]
    for data in DATA:
        runs = runs_of(folder, data, "bits")
        for figure in ("true", "true_beyond", *OVERLAPS):
            for steps in (5, 10, 20, 50):
                found = {
                    case["td"]: [there[figure] for run in runs
                                 if (there := judged(run, samples, {"half": "first", **case}))
                                 and figure in there]
                    for case in cases("bits", steps)
                }  # fmt: skip
                if any(found.values()):
                    cells = [_mean(found.get(td, [])) for td in every]
                    lines.append([data, figure, str(steps), *cells])
    return [f"| {' | '.join(line)} |" for line in lines]


def gathered(folder: Path, samples: int) -> dict[str, Any]:
    """All figures: of each run its command, what it was tried with on the first half, the second's.

    Seconds of a training are of one that shared its GPU.
    """
    beside = [f"{name}_{key}" for key in REAL for name in SHOWN]
    jobs_of = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    ended = {job["name"]: job for job in jobs_of if job["code"] == 0}
    found: dict[str, Any] = {}
    for data in DATA:
        for short in STATES:
            for run in runs_of(folder, data, short):
                name = run.name
                told = TRAINED.search((folder / "logs" / f"{name}.log").read_text())
                assert told is not None
                counts = [int(told[i].replace(",", "")) for i in (1, 2)]
                found[name] = {
                    "command": f"noiseloom {ended[name]['run'].replace('{out}', 'DIR')}",
                    "seconds": ended[name]["seconds"],
                    **dict(zip(("parameters", "rows"), counts, strict=True)),
                    "device": told[3],
                    "tried": [],
                    "told": [],
                }
                for steps in numbers(short):
                    for case in cases(STATES[short], steps):
                        first = judged(run, samples, {"half": "first", **case})
                        if first is not None:
                            found[name]["tried"].append(case | _kept(first, KEPT))
                    best = chosen(run, samples, steps)
                    if best is not None and best[1] is not None:
                        found[name]["told"].append(best[0] | _kept(best[1], (*KEPT, *beside)))
    return found


def _kept(found: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    return {name: float(f"{found[name]:.4g}") for name in ("n", *names) if name in found}


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4g}{spread}"


def main() -> None:
    """Print an agenda or a table, or look at a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("agenda", "look", "table"))
    parser.add_argument("words", nargs="+")
    parser.add_argument("--steps", type=int, nargs="+", default=[None])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="all figures of a table, as JSON")
    parser.add_argument("--git", help="the commit that was run, for it")
    options = parser.parse_args()
    if options.what == "agenda":
        for job in agenda(options.words):
            print(f"- {json.dumps(job)}")  # which is YAML
        return
    (word,) = options.words
    if options.what == "table":
        lines = [*table(Path(word), options.samples), "", *overshoots(Path(word), options.samples)]
        print("\n".join(lines))
        if options.out is not None:
            told = {"git": options.git, "samples of a half, at most": options.samples}
            text = json.dumps(told | {"runs": gathered(Path(word), options.samples)})
            text = text.replace('{"command"', '\n{"command"') + "\n"  # a line for each run
            options.out.write_text(text)
        return
    run = load(word)  # all of whose evaluations are of the same data: read once
    data = run.recipe.load_like(read_description(run.folder)["data"], run.facts)
    for steps in options.steps:
        best = look(run, options.samples, steps, data)
        print(json.dumps({"run": word, "steps": steps, "best": best}), flush=True)


if __name__ == "__main__":
    main()

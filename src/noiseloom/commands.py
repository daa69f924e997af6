"""What the command line does, once it is known what was meant."""

import json
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from noiseloom.evaluations import CutShort
from noiseloom.fit import MAIN, Options, fit, resumed, use_threads
from noiseloom.loading import load as load_run
from noiseloom.new_prior import make_prior
from noiseloom.prior_folder import PRIOR
from noiseloom.publish import push
from noiseloom.recipes import RECIPES, Captions, Recipe, Task
from noiseloom.remarks import remarks
from noiseloom.run import Run
from noiseloom.run_folder import read_description, recipe_of
from noiseloom.terminal import answer, metrics_rows, number, save_picture, say
from noiseloom.training.processes import trained

__all__ = [
    "changed",
    "demo",
    "evaluate",
    "load",
    "prior",
    "publish",
    "recipes",
    "report",
    "train",
]


def train(
    kind: type[Recipe],
    options: Options,
    out: Path,
    *,
    typed: Collection[str],
    data: str | None,
    init_from: str | None,
    resume: bool,
    judge: bool,
    command: str,
    as_json: bool,
) -> None:
    """Train a run, or go on with one; then judge it and write its report.

    Args:
        kind: the recipe's class.
        options: those that were given.
        out: the run's folder.
        typed: names of those that were typed, and are in no file.
        data: where the data lies.
        init_from: a run whose weights to start from.
        resume: go on with what is in `out`.
        judge: evaluate samples at the end.
        command: what was typed.
        as_json: answer a program.
    """
    recipe = resumed(out, options, kind) if resume else kind(**options)
    if not resume:
        recipe.check_typed(typed)
    fit(recipe, out, data=data, init_from=init_from, resume=resume, judge=judge, command=command)
    trained()  # the main process goes on alone, perhaps for long
    if not MAIN:
        return
    result: dict[str, Any] = {"run": str(out), "steps": recipe.steps}
    if not judge:
        answer(as_json, result, [f"run: {out}"])
        return
    result["metrics"] = _results(out, data)
    result["report"] = _report(out)
    lines = [*_noted(result, recipe), "", f"run:    {out}", f"report: {result['report']}"]
    answer(as_json, result, lines, *metrics_rows(result["metrics"]))


def _noted(result: dict[str, Any], recipe: Recipe) -> list[str]:
    """What is to be said below figures, for people; for programs it is put into the result."""
    told = remarks(recipe, result["metrics"])
    if told:
        result["notes"] = told
    return ["", *told] if told else []


def _results(out: Path, data: str | None = None) -> dict[str, float]:
    """The evaluation of a trained run, made now if it is not there yet."""
    path = out / "evaluation.json"
    if path.is_file():
        found: dict[str, float] = json.loads(path.read_text())
        return found
    run = load(out)
    say(f"judging {run.recipe.samples:,} samples")
    return run.evaluate(data)


def demo(kind: type[Recipe], options: Options, out: Path, *, command: str, as_json: bool) -> None:
    """Train the digits with their defaults, judge them, draw ten of each, and say where it is."""
    begun = (out / "recipe.yaml").is_file()
    recipe = resumed(out, options, kind) if begun else kind(**options)
    fit(recipe, out, resume=begun, command=command)
    metrics = _results(out)
    run, picture = load(out), out / "digits.png"
    ten_of_each = torch.arange(len(run.classes)).repeat_interleave(10)
    save_picture(picture, run.pixels(ten_of_each), run.facts["levels"], columns=10)
    page = _report(out)
    bar = 0.8 * metrics["coverage_held_out"]
    rows = [
        ("of the class asked for", "class_agreement", ">= 0.95", "-"),
        ("coverage of real digits", "coverage", f">= {number(bar)}", None),
        ("copies of training digits", "memorised", "<= 0.03", "0.01"),  # its 1st percentile
    ]
    table = [
        [text, number(metrics.get(name)), aim, real or number(metrics.get(f"{name}_held_out"))]
        for text, name, aim, real in rows
    ]
    lines = [
        "",
        f"picture: {picture}",
        f"report:  {page}",
        "",
        "next:    " + f"noiseloom sample {out} --label 7 --td 1 --seed 1",
        "         noiseloom train bits-images --data FOLDER --out runs/mine",
    ]
    result = {"run": str(out), "metrics": metrics, "report": page, "picture": str(picture)}
    answer(as_json, result, lines, ("", "samples", "aim", "held-out real"), table)


def changed(run: Run, changes: Options, task: Task, *, goal: bool = False) -> Run:
    """A run with other options of drawing, for a command.

    Args:
        run: the run.
        changes: the options.
        task: the command.
        goal: whether samples are given one.

    Raises:
        ValueError: as `Run.with_options` says, or an option that the command makes no use of.
    """
    found = run.with_options(**changes)
    for name in sorted(changes):
        told = found.recipe.unchanged(name, run.recipe, task, goal=goal)
        if told and changes[name] != getattr(run.recipe, name):
            raise ValueError(f"{name} changes nothing of {told}: leave it out")
    return found


def evaluate(
    source: str,
    changes: Options,
    *,
    data: str | None,
    seed: int | None,
    truncate: bool | None,
    as_json: bool,
) -> None:
    """Judge a run's samples; kept in its folder if it is one of the user's.

    Of videos and mazes Ctrl-C and SIGTERM leave what can be judged: it is shown and kept as cut
    short.

    Args:
        source: what `load` takes.
        changes: sampling options, or the number of samples, that differ from the run's.
        data: where the data lies; by default where training found it.
        seed: of the draws; by default the run's own.
        truncate: of captions, whether those of the data that are longer than the run's are cut.
        as_json: answer a program.
    """
    run = changed(load(source), changes, "evaluate")
    if truncate is not None:  # no option of drawing, by which trainings would be told apart
        if not isinstance(run.recipe, Captions):
            raise ValueError(f"truncate is of captions, and {source} is of {run.recipe.name}")
        run = replace(run, recipe=replace(run.recipe, truncate=truncate))
    run.check()
    say(f"judging {run.recipe.samples:,} samples")
    save = Path(source).expanduser().is_dir()
    cut: CutShort | None = None
    try:
        metrics, path = run.judge(data, seed=seed, save=save)
    except CutShort as stop:
        cut, metrics, path = stop, stop.report, stop.path
    seed = run.recipe.seed if seed is None else seed
    result = {"run": source, "seed": seed, "metrics": metrics, "file": str(path) if path else None}
    lines, kept = _noted(result, run.recipe), [f"kept in {path}"] if path else []
    head, rows = metrics_rows(metrics)
    if cut is not None:
        result["cut_short"] = cut.cut
        rows = [*([name, words, *[""] * (len(head) - 2)] for name, words in cut.cut.items()), *rows]
        kept = ["cut short: what was made until then was judged", *kept]
    answer(as_json, result, [*lines, *([""] if kept else []), *kept], head, rows)
    if cut is not None:
        raise cut


def prior(
    run: Path,
    changes: dict[str, Any],
    *,
    data: str | None,
    force: bool,
    out: Path | None,
    command: str,
    as_json: bool,
) -> None:
    """Make the prior of a run whose model has codes; what was known of its samples is outdated.

    Args:
        run: the run's folder.
        changes: options of the prior that differ from the run's.
        data: where the data lies; by default where training found it.
        force: replace the prior that is there.
        out: folder of another run with the same first stage, which gets the prior instead.
        command: what was typed.
        as_json: answer a program.
    """
    use_threads(recipe_of(read_description(run)))
    found = make_prior(run, changes, data=data, force=force, out=out, command=command)
    run = out or run
    place = run / PRIOR
    lines = ["", f"prior: {place}"]
    answer(as_json, {"run": str(run), "prior": str(place), **found}, lines, *metrics_rows(found))


def report(out: Path, *, as_json: bool) -> None:
    """Write a run's report."""
    page = _report(out)
    answer(as_json, {"run": str(out), "report": page}, [f"report: {page}"])


def publish(source: str, target: str, guides: Sequence[str] = (), *, as_json: bool) -> None:
    """Write a run with a model card, and some guides, to a folder or to the Hugging Face Hub."""
    place = push(load_run(source, device="cpu"), target, guides)
    answer(as_json, {"run": source, "place": place}, [f"published: {place}"])


def recipes(*, as_json: bool) -> None:
    """List what can be trained."""
    result = [
        {
            "name": name,
            "summary": kind.summary,
            "options": {f.name: f.default for f in fields(kind)},
        }
        for name, kind in RECIPES.items()
    ]
    rows = [[name, kind.summary] for name, kind in RECIPES.items()]
    lines = ["", "options: noiseloom train RECIPE --help"]
    answer(as_json, result, lines, ("recipe", "what it does"), rows)


def load(source: str | Path) -> Run:
    """Load a run, and work with as many threads as it asks for."""
    run = load_run(source)
    use_threads(run.recipe)
    return run


def _report(out: Path) -> str:
    from noiseloom.report import write_report  # matplotlib takes its time

    return str(write_report(out))

"""What each verb of the command line does with the words after it.

Options are made of the words, what they name is looked up, and `commands`, `drawing`, `compare` or
`record` does the work. PyTorch is imported once it is needed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noiseloom.arguments import (
    Arguments,
    Config,
    UsageError,
    nearest,
    read_config,
    state_axis,
    take_many,
    value_of,
)
from noiseloom.guide_actions import (
    evaluate_guided_words,
    guide_words,
    redesign_of,
    sample_guided_words,
)
from noiseloom.naming import parse_words, recipe_named, source_of
from noiseloom.sources import SOURCES, BenzenoidSource
from noiseloom.verbs import (
    Answer,
    Captioning,
    Compare,
    Demo,
    Evaluate,
    MakePrior,
    Push,
    Recipes,
    Record,
    Sample,
    Stream,
    Train,
)

if TYPE_CHECKING:
    from noiseloom.recipes import Recipe

__all__ = ["ACTIONS"]


def _folder(out: str | None, verb: str) -> Path:
    if out is None:
        raise UsageError(f"{verb} needs --out FOLDER")
    return Path(out).expanduser()


def _with_recipe(
    verb: str, words: list[str], *own: type
) -> "tuple[type[Recipe], list[str], Config | None]":
    """The recipe, from the first word, the configuration or the run to go on with."""
    file = value_of(words, "--config")
    config = read_config(Path(file).expanduser()) if file else None
    out = value_of(words, "--out")
    if words and not words[0].startswith("-"):
        name, words = words[0], words[1:]
    elif {"-h", "--help"} & set(words):
        name = ""
        parse_words(verb, ["--help"], *own)
    elif config is not None and config.recipe:
        name = config.recipe
    elif "--resume" in words and out:
        from noiseloom.run_folder import read_description

        name = read_description(Path(out).expanduser())["recipe"]
    elif verb == "compare" and (data := value_of(words, "--data")):
        from noiseloom.recipes.by_file import recipe_for
        from noiseloom.terminal import say

        name = recipe_for(data)
        say(f"{data}: recipe {name}")
    else:
        raise UsageError(f"{verb} needs a recipe: noiseloom {verb} RECIPE (see noiseloom recipes)")
    kind = recipe_named(name)
    if config is not None and config.recipe not in (None, kind.name):
        raise UsageError(f"{file} is for the recipe {config.recipe!r}, not for {kind.name!r}")
    return kind, words, config


def _train(words: list[str], command: str) -> None:
    kind, words, config = _with_recipe("train", words, Train)
    args = parse_words("train", words, Train, kind, config=config)
    options = args.build(Train)
    out = _folder(options.out, "train")
    from noiseloom import commands

    commands.train(
        kind,
        args.of(kind),
        out,
        typed=args.typed,
        data=options.data,
        init_from=options.init_from,
        resume=options.resume,
        judge=options.evaluate,
        command=command,
        as_json=options.json,
    )


def _demo(words: list[str], command: str) -> None:
    from noiseloom import commands
    from noiseloom.recipes import BitsDigits

    args = parse_words("demo", words, Demo, BitsDigits)
    options = args.build(Demo)
    out = Path(options.out).expanduser()
    commands.demo(BitsDigits, args.of(BitsDigits), out, command=command, as_json=options.json)


def _compare(words: list[str], command: str) -> None:
    grid, words = take_many(words, "--grid")
    cells, words = take_many(words, "--cells")
    grid, words = state_axis(words, grid, cells)
    kind, words, config = _with_recipe("compare", words, Compare)
    args = parse_words("compare", words, Compare, kind, config=config)
    options = args.build(Compare)
    out = _folder(options.out, "compare")
    if not grid and not cells:
        raise UsageError(
            "compare needs --grid NAME=A,B ..., --cells 'NAME=A NAME=B' ..., or --state A,B"
        )
    if options.budget is not None and value_of(words, "--steps"):
        raise UsageError("--budget says the steps of every run: leave --steps out")
    from noiseloom import compare
    from noiseloom.budget import STATES
    from noiseloom.recipes.class_options import ClassOptions

    combinations = compare.combinations(grid, cells)
    for name in dict.fromkeys(name for cell in combinations for name in cell):
        if hasattr(options, name):
            raise UsageError(
                f"{name} is no option of the recipe: give --{name} once, for all cells"
            )

    budget = options.budget
    states = {cell.get("state") for cell in combinations}
    if budget is None and issubclass(kind, ClassOptions) and len(states) > 1:
        paced = value_of(words, "--steps") or any("steps" in cell for cell in combinations)
        budget = None if paced or "steps" in (config.values if config else ()) else STATES

    def options_of(cell: dict[str, str]) -> dict[str, Any]:
        given = [f"--{name}={value}" for name, value in cell.items()]
        return parse_words("compare", [*words, *given], Compare, kind, config=config).of(kind)

    compare.compare(
        kind,
        [(cell, options_of(cell)) for cell in combinations],
        options.seeds,
        out,
        jobs=options.jobs,
        data=options.data,
        metrics=options.metrics.split(",") if options.metrics else None,
        command=command,
        as_json=options.json,
        budget=budget,
        typed=args.typed & args.of(kind).keys(),
    )


def _of_drawing() -> tuple[type, ...]:
    """Options that may be changed for every draw."""
    from noiseloom.recipes import Choosing, Coding, Correcting, Planning, Rolling, Sampling

    return Sampling, Coding, Planning, Rolling, Choosing, Correcting


def _not_led(args: Arguments, *more: str) -> dict[str, Any]:
    """Options of guides that mean something without one: molecules have a corrector of their own.

    Raises:
        UsageError: one that does not.
    """
    from noiseloom.recipes import Guiding

    given = {**args.of(Guiding), **{name: None for name in more if name in args.given}}
    own = {name: given.pop(name) for name in ("corrector",) if name in given}
    if given:
        raise UsageError(f"--{min(given).replace('_', '-')} needs --guide FOLDER")
    return own


def _sample(words: list[str], command: str) -> None:
    from noiseloom.drawing import sample
    from noiseloom.recipes import Guiding

    kinds = _of_drawing()
    file = value_of(words, "--codes")
    if file and Path(file).suffix in (".npy", ".csv"):
        raise UsageError(f"codes from a file are given as --codes-from {file}")
    args = parse_words("sample", words, Sample, Guiding, of_run=kinds)
    options = args.build(Sample)
    changes = {name: value for kind in kinds for name, value in args.of(kind).items()}
    if options.guide is not None:
        sample_guided_words(args, options, changes)
        return
    changes |= _not_led(args)
    sample(
        source_of(args),
        changes,
        n=options.n,
        label=options.label,
        data=options.data,
        start=options.start,
        goal=options.goal,
        actions=options.actions,
        codes_from=options.codes_from,
        known=options.known,
        gap=options.gap,
        redesign=redesign_of(args, options),
        seed=options.seed,
        out=Path(options.out).expanduser() if options.out else None,
        force=options.force,
        as_json=options.json,
    )


def _stream(words: list[str], command: str) -> None:
    from noiseloom.recipes import Sampling
    from noiseloom.recipes.choosing import Choosing
    from noiseloom.writing import write

    args = parse_words("stream", words, Stream, of_run=(Sampling, Choosing))
    options = args.build(Stream)
    write(
        source_of(args),
        args.of(Sampling) | args.of(Choosing),
        prompt=options.prompt,
        n=options.n,
        slope=options.slope,
        seed=options.seed,
        as_json=options.json,
    )


def _caption(words: list[str], command: str) -> None:
    from noiseloom.recipes import Choosing, Sampling

    args = parse_words("caption", words, Captioning, of_run=(Sampling, Choosing))
    options = args.build(Captioning)
    from noiseloom.caption_command import caption

    caption(
        source_of(args),
        args.values["picture"],
        args.of(Sampling) | args.of(Choosing),
        n=options.n,
        seed=options.seed,
        as_json=options.json,
    )


def _evaluate(words: list[str], command: str) -> None:
    from noiseloom import commands
    from noiseloom.recipes import Guiding

    kinds = _of_drawing()
    args = parse_words("evaluate", words, Evaluate, Guiding, of_run=kinds)
    options = args.build(Evaluate)
    changes = {name: value for kind in kinds for name, value in args.of(kind).items()}
    judging = ("samples", "half", "similarity")
    asked = {name: getattr(options, name) for name in judging}
    if options.guide is not None:
        for name in (*judging[1:], "truncate"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name} is of captions, which no guide leads: leave it out")
        evaluate_guided_words(args, options, changes, command)
        return
    changes |= _not_led(args, "scales", "truth", "jobs", "out")
    changes |= {name: value for name, value in asked.items() if value is not None}
    commands.evaluate(
        source_of(args),
        changes,
        data=options.data,
        seed=options.seed,
        truncate=options.truncate,
        as_json=options.json,
    )


def _prior(words: list[str], command: str) -> None:
    from noiseloom import commands
    from noiseloom.recipes import PriorTraining

    args = parse_words("prior", words, MakePrior, of_run=(PriorTraining,))
    options = args.build(MakePrior)
    commands.prior(
        Path(source_of(args)).expanduser(),
        args.of(PriorTraining),
        data=options.data,
        force=options.force,
        out=Path(options.out).expanduser() if options.out else None,
        command=command,
        as_json=options.json,
    )


def _record(words: list[str], command: str) -> None:
    name = words[0] if words and not words[0].startswith("-") else ""
    if name not in SOURCES and (name or not {"-h", "--help"} & set(words)):
        near = nearest(name, SOURCES) or f": there is {', '.join(SOURCES)}"
        raise UsageError(
            f"unknown source {name!r}{near}" if name else f"record needs a source{near}"
        )
    kinds = (SOURCES[name],) if name else ()
    args = parse_words("record", words[1:] if name else words, Record, *kinds)
    options = args.build(Record)
    if options.out is None:
        raise UsageError("record needs --out FILE.safetensors")
    from noiseloom.record import record, record_all

    source: object = args.build(SOURCES[name])
    out = Path(options.out).expanduser()
    if isinstance(source, BenzenoidSource):
        for given in sorted(args.given & {"steps", "seed"}):
            raise UsageError(
                f"--{given} is of simulators, and {name} are all there are: leave it out"
            )
        record_all(source, out, force=options.force, as_json=options.json)
        return
    record(
        source,
        out,
        steps=options.steps,
        seed=options.seed,
        force=options.force,
        as_json=options.json,
    )


def _report(words: list[str], command: str) -> None:
    args = parse_words("report", words, Answer)
    from noiseloom import commands

    commands.report(Path(source_of(args)).expanduser(), as_json=args.values["json"])


def _push(words: list[str], command: str) -> None:
    args = parse_words("push", words, Push)
    options = args.build(Push)
    from noiseloom import commands
    from noiseloom.found_guides import folders_of

    guides = folders_of(options.guide, source_of(args)) if options.guide else []
    commands.publish(source_of(args), args.values["target"], guides, as_json=options.json)


def _recipes(words: list[str], command: str) -> None:
    args = parse_words("recipes", words, Recipes)
    from noiseloom import commands

    commands.recipes(as_json=args.values["json"])


ACTIONS: dict[str, Callable[[list[str], str], None]] = {
    "demo": _demo,
    "recipes": _recipes,
    "train": _train,
    "sample": _sample,
    "stream": _stream,
    "caption": _caption,
    "prior": _prior,
    "guide": guide_words,
    "evaluate": _evaluate,
    "compare": _compare,
    "record": _record,
    "report": _report,
    "push": _push,
}
"""Of each verb: called with the words after it, and with the whole command for the record."""

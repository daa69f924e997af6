"""What the words after `guide`, and those of a guided `sample` or `evaluate`, become."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from noiseloom.arguments import Arguments, UsageError, take_option
from noiseloom.guide_verbs import MakeGuide
from noiseloom.naming import parse_words, source_of
from noiseloom.verbs import Evaluate, Sample

if TYPE_CHECKING:
    from noiseloom.redesign import Redesign

__all__ = ["evaluate_guided_words", "guide_words", "redesign_of", "sample_guided_words"]


def guide_words(words: list[str], command: str) -> None:
    """`noiseloom guide`."""
    from noiseloom.guide_selection import GRIDS
    from noiseloom.recipes import GuideTraining
    from noiseloom.recipes.guide_options import OWN_OPTIONS

    named, rest = take_option(words, "--method")
    methods = dict.fromkeys((named or "context").split(","))
    parsed = [
        parse_words("guide", [*rest, f"--method={method}"], MakeGuide, GuideTraining)
        for method in methods
    ]
    options, typed = parsed[0].build(MakeGuide), parsed[0].given
    used = {name for method in methods for name in OWN_OPTIONS[method]}
    for name in typed & {name for names in OWN_OPTIONS.values() for name in names}:
        option = f"--{name.replace('_', '-')}"
        if name not in used:
            raise UsageError(f"{option} says nothing to method {', '.join(methods)}: leave it out")
        if options.configurations and any(name in GRIDS[method] for method in methods):
            raise UsageError(f"{option} is chosen by --configurations: leave it out")
    if options.trials and not options.configurations:
        raise UsageError("--trials is of --configurations N: say how many")
    from noiseloom.guide_command import guide
    from noiseloom.guide_material import Sources

    columns = tuple(c.strip() for c in options.columns.split(",")) if options.columns else None
    guide(
        source_of(parsed[0]),
        [args.build(GuideTraining) for args in parsed],
        Sources(options.labels or "", options.context, options.shifted, columns, options.test),
        seeds=options.seeds,
        count=options.configurations,
        judge=options.select,
        out=Path(options.out).expanduser() if options.out else None,
        force=options.force,
        command=command,
        as_json=options.json,
        jobs=options.jobs,
        trials=Path(options.trials).expanduser() if options.trials else None,
    )


def evaluate_guided_words(
    args: Arguments, options: Evaluate, changes: dict[str, Any], command: str
) -> None:
    """`noiseloom evaluate --guide`."""
    from noiseloom.evaluate_guides import SAMPLES, evaluate_guides
    from noiseloom.found_guides import folders_of
    from noiseloom.recipes import Guiding

    if options.data is not None:
        raise UsageError(
            "--data is not for guides: what is true of them may come from --truth FILE"
        )
    if "scale" in args.given:
        raise UsageError("guides are judged at several scales: give --scales, not --scale")
    _need_target(args)
    assert options.guide is not None
    evaluate_guides(
        source_of(args),
        changes,
        folders_of(options.guide, source_of(args)),
        args.build(Guiding),
        _scales(options.scales),
        n=SAMPLES if options.samples is None else options.samples,
        seed=options.seed,
        truth=options.truth,
        out=Path(options.out).expanduser() if options.out else None,
        jobs=options.jobs,
        command=command,
        as_json=options.json,
    )


def _need_target(args: Arguments) -> None:
    if "target" not in args.given:
        raise UsageError("--guide needs --target maximise, minimise or a number")


def _scales(text: str) -> list[float]:
    try:
        found = sorted({float(word) for word in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 <= scale < float("inf") for scale in found):
        raise UsageError(f"--scales are numbers of at least 0, separated by commas, got {text}")
    return found


def redesign_of(args: Arguments, options: Sample) -> "Redesign | None":
    """What `sample --parent` is to redesign."""
    from noiseloom.redesign import Redesign

    if options.parent is None:
        for name in ("max_edits", "sites", "choose"):
            if name in args.given:
                raise UsageError(f"--{name.replace('_', '-')} is of --parent SEQUENCE: give one")
        return None
    if options.choose == "guide" and options.guide is None:
        raise UsageError("--choose guide needs --guide FOLDER")
    if options.known is not None:
        raise UsageError("--parent and --known both say what is known: give one of them")
    return Redesign(options.parent, options.max_edits, options.sites, options.choose)


def sample_guided_words(args: Arguments, options: Sample, changes: dict[str, Any]) -> None:
    """`noiseloom sample --guide`."""
    from noiseloom.found_guides import folders_of
    from noiseloom.guided_drawing import sample_guided
    from noiseloom.recipes import Guiding

    for name in ("label", "data", "start", "goal", "actions", "codes_from"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is not for guided samples: leave it out")
    _need_target(args)
    assert options.guide is not None
    sample_guided(
        source_of(args),
        changes,
        folders_of(options.guide, source_of(args)),
        args.build(Guiding),
        n=options.n,
        known=options.known,
        gap=options.gap,
        redesign=redesign_of(args, options),
        seed=options.seed,
        out=Path(options.out).expanduser() if options.out else None,
        force=options.force,
        as_json=options.json,
    )

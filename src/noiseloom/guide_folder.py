"""The folder of a guide: what lies in it.

    guide.yaml            options, which run's states it reads, what it was made of; once it is
                          finished, under `summary`, how good it is
    structures.json       keys of the labelled structures: those it learnt from, and those held out
    ema.safetensors       its averaged weights, which guide, and those of its regulariser
    calibration.json      what it says in and outside of its data, at several levels of noise
    guide.html            shows all that
    model.safetensors, metrics.jsonl, state/    of its training, as in a run
    pretraining/          likewise, of method pretrained

By default it lies in the run's own, `guides/METHOD-SEED`; what is to take its place is made beside
it, in `guides/.METHOD-SEED.next`. Published with a run are `guide.yaml`, `ema.safetensors` and
`calibration.json` alone. It is refused by runs with other states or words, and, if it reads a
denoiser's hidden states, by all that have other weights.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from noiseloom.context import Guide, GuideEnsemble
from noiseloom.recipes import Facts, Guidable, GuideTraining, Parts
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.run_folder import is_free, write_text
from noiseloom.training import checkpoint

__all__ = [
    "GUIDES",
    "GuideRecord",
    "find_guide",
    "foreign_labels",
    "forget_next",
    "guidable",
    "is_guide",
    "load_guide",
    "make_guide",
    "place_of_next",
    "read_guide",
    "remove_guide",
    "replace_guide",
    "space_of",
    "structures",
    "write_guide",
]

GUIDES = "guides"
_FILE, _STRUCTURES = "guide.yaml", "structures.json"


@dataclass(frozen=True)
class GuideRecord:
    """What is known of a guide.

    Attributes:
        options: of its training.
        names: of the properties.
        space: what it must have in common with a run, by name: values, or what they hash to.
        sources: files that it was made of, and the columns of labels.
        digests: of what was in them.
        counts: of structures, as `Material` has them.
        labels: of those learnt from: lowest, highest, mean and deviation of each property.
        command: what was typed.
        noiseloom: version.
        summary: figures of a finished one.
    """

    options: GuideTraining
    names: tuple[str, ...]
    space: Mapping[str, str]
    sources: Mapping[str, Any]
    digests: Mapping[str, str]
    counts: Mapping[str, int]
    labels: Mapping[str, tuple[float, ...]]
    command: str = ""
    noiseloom: str = ""
    summary: Mapping[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it can be used."""
        return bool(self.summary)


def is_guide(folder: Path) -> bool:
    """Whether a folder is that of a guide, finished, begun or damaged."""
    return (folder / _FILE).is_file()


def read_guide(folder: Path) -> GuideRecord | None:
    """What a folder says of its guide, or None where there is none.

    Raises:
        ValueError: its description is damaged.
    """
    if not is_guide(folder):
        return None
    path = folder / _FILE
    try:
        found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        found["options"] = GuideTraining(**found["options"])
        found["names"] = tuple(found["names"])
        found["labels"] = {name: tuple(values) for name, values in found["labels"].items()}
        record = GuideRecord(**found)
        for name in ("lowest", "highest", "mean", "deviation"):
            values = [float(value) for value in record.labels.get(name, ())]
            if len(values) != len(record.names):
                raise ValueError(f"labels: {len(record.names)} of {name}, not {len(values)}")
        return record
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} does not describe a guide ({reason}): make it again with --force"
        ) from error


def write_guide(folder: Path, record: GuideRecord) -> None:
    """Describe a guide; with a summary it is finished."""
    found = {f.name: getattr(record, f.name) for f in fields(record)}
    found |= {"options": asdict(record.options), "names": list(record.names)}
    found["labels"] = {name: list(values) for name, values in record.labels.items()}
    text = yaml.safe_dump(json.loads(json.dumps(found)), sort_keys=False, allow_unicode=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / _FILE, text)


def remove_guide(folder: Path) -> None:
    """Remove a guide. Its description goes last, and says at once that it is none: half is none."""
    if not is_guide(folder):
        return
    write_text(folder / _FILE, "# this guide was being removed\n")
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (_FILE, ".lock"):  # whoever removes it holds the lock
            path.unlink()
    (folder / _FILE).unlink()


def place_of_next(folder: Path) -> Path:
    """Where the guide that is to replace one is made."""
    return _beside(folder, "next")


def replace_guide(folder: Path) -> None:
    """Put the next guide, which is finished, into the place of one that is there, or was."""
    folder = folder.resolve()  # of a link, what it leads to
    old = _beside(folder, "old")
    _clear(old)  # that a kill may have left
    if folder.exists():
        folder.rename(old)
    place_of_next(folder).rename(folder)
    _clear(old)


def forget_next(folder: Path) -> None:
    """Remove what is left of a guide that was to replace another one, which is there no more."""
    _clear(place_of_next(folder))


def _beside(folder: Path, ending: str) -> Path:
    whole = folder.expanduser().resolve()
    return whole.with_name(f".{whole.name}.{ending}")


def _clear(folder: Path) -> None:
    remove_guide(folder)
    if folder.is_dir() and is_free(folder):
        shutil.rmtree(folder)


def structures(folder: Path, keys: Mapping[str, list[str]] | None = None) -> dict[str, list[str]]:
    """The keys of the labelled structures, "learnt" and "held_out"; given some, they are kept.

    Of a guide that was published they are not there: then both are empty.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / _STRUCTURES
    if keys is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(keys) + "\n")
    if not path.is_file():
        return {"learnt": [], "held_out": []}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, list[str]] = {name: told[name] for name in ("learnt", "held_out")}
        if not all(
            isinstance(k, list) and all(isinstance(s, str) for s in k) for k in found.values()
        ):
            raise TypeError("no lists of texts")
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} does not list a guide's structures ({reason}): make the guide again with "
            "--force, or remove the file to go without distances"
        ) from error
    return found


def find_guide(name: str | Path, run: Run) -> Path:
    """The folder of a guide: itself, or by its name among the run's own, as "context-0"."""
    folder = Path(name).expanduser()
    own = run.folder / GUIDES / folder
    inside = not folder.exists() and read_guide(own) is not None
    return own if inside else folder


def guidable(run: Run) -> Guidable:
    """The recipe of a run, if it can be guided.

    Raises:
        ValueError: it cannot.
    """
    recipe = run.recipe
    if not isinstance(recipe, Guidable):
        raise ValueError(f"{run.folder} is a run of {recipe.name!r}, which cannot be guided")
    recipe.check_guidable()
    return recipe


def foreign_labels(run: Run, records: Sequence[GuideRecord]) -> list[str]:
    """Files of labels that guides learnt, other than those of which the recipe knows the truth."""
    recipe = guidable(run)
    if type(recipe).true_values is Guidable.true_values:  # it knows of none
        return []
    paths = dict.fromkeys(str(record.sources.get("labels") or "") for record in records)
    return [Path(path).name for path in paths if not recipe.labels_itself(path)]


def space_of(run: Run, options: GuideTraining) -> dict[str, str]:
    """What a guide of a run must have in common with another run to guide that."""
    found = {"recipe": run.recipe.name, **guidable(run).space(run.parts, run.facts)}
    if options.reads == "denoiser":
        found["weights"] = _digest((run.folder / "ema.safetensors").read_bytes())
    texts = {name: json.dumps(value) for name, value in found.items()}
    return {name: t if len(t) <= 40 else _digest(t.encode()) for name, t in texts.items()}


def make_guide(
    recipe: Guidable, parts: Parts, facts: Facts, options: GuideTraining, targets: int, rng: Rng
) -> Guide | GuideEnsemble:
    """An untrained guide, or an ensemble of them.

    Args:
        recipe: of the run.
        parts: of the run.
        facts: of the run.
        options: of the training.
        targets: J, number of properties.
        rng: key of its weights.
    """

    def one(i: int) -> Guide:
        with rng.fold("initialisation", i).torch():
            if options.reads == "denoiser":
                network = recipe.hidden_network(parts, facts, options.width)
            else:
                network = recipe.guide_network(facts, options.width, options.depth)
            return Guide(network, parts.diffusion, options.width, targets)

    if options.method == "ensemble":
        return GuideEnsemble([one(i) for i in range(options.members)])
    return one(0)


def load_guide(folder: str | Path, run: Run) -> tuple[Guide | GuideEnsemble, GuideRecord]:
    """The guide in a folder, ready to guide a run.

    Args:
        folder: of the guide, or its name among the run's own.
        run: that is to be guided.

    Raises:
        FileNotFoundError: no guide there, or none that is finished.
        ValueError: it is for another state space, other words or other weights than the run's, or
            it is damaged; or the run cannot be guided.
    """
    folder, recipe = find_guide(folder, run), guidable(run)
    record = read_guide(folder)
    if record is None or not record.finished:
        what = "no guide at" if record is None else "the guide is not finished in"
        raise FileNotFoundError(
            f"{what} {folder}: make it with noiseloom guide {run.folder} --labels FILE"
        )
    ours = space_of(run, record.options)
    for name in dict.fromkeys((*record.space, *ours)):
        there, here = record.space.get(name, "none"), ours.get(name, "none")
        if there != here:
            told = f": {name} is {there} there and {here} here" if len(there + here) < 60 else ""
            raise ValueError(
                f"{folder} is for runs with another {name} than {run.folder}{told}; make one for "
                f"this run, noiseloom guide {run.folder} --labels FILE"
            )
    targets = len(record.names)
    guide = make_guide(recipe, run.parts, run.facts, record.options, targets, Rng(0))
    checkpoint.restore(guide, folder / "ema.safetensors", "guide")
    return guide.to(run.device).eval().requires_grad_(False), record


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()

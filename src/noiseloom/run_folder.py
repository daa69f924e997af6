"""The folder of a run: what lies in it, and its description, `recipe.yaml`.

    recipe.yaml          every option; under `run`, the facts of the data, version and command
    model.safetensors    weights; ema.safetensors, their average, which is what samples
    metrics.jsonl        one line per update
    state/               what resuming needs
    prior/               of a model with codes, what draws them (`prior_folder`); prior.next/ is
                         to take its place
    guides/              what leads samples to a property, a folder each (`guide_folder`)
    evaluation.json      metrics; evaluations/ has those of other sampling options
    report.html          shows everything

Nothing in it is ever unpickled, and reading it imports no module it names: a run of a recipe of
one's own is loaded by giving that recipe.
"""

import contextlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import yaml

from noiseloom.data import Split
from noiseloom.data.whole_file import write_bytes, write_text
from noiseloom.recipes import RECIPES, Facts, Recipe

__all__ = [
    "MODELS",
    "check_file",
    "check_free",
    "claimed",
    "class_places",
    "describe",
    "digest",
    "find",
    "forget",
    "is_free",
    "read_description",
    "recipe_of",
    "same_data",
    "write_bytes",
    "write_text",
]

MODELS = Path(__file__).parent / "models"
"""Those that are shipped."""
_LOCK = ".lock"


def find(source: str) -> Path:
    """The folder of a run, a shipped model or a repository; see `noiseloom.load`."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    shipped = MODELS / source
    if shipped.is_dir():
        return shipped
    source = source.removeprefix("hf://")
    if source.count("/") == 1 and not source.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(source, allow_patterns=["*.yaml", "*.safetensors"]))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise FileNotFoundError(
                f"{source} is neither a run's folder nor a repository that can be reached"
            ) from error
    raise FileNotFoundError(f"no run at {source}")


def describe(
    recipe: Recipe,
    facts: Facts,
    *,
    data: str | None,
    command: str,
    init_from: str | None = None,
    digests: dict[str, str] | None = None,
    copied_from: dict[str, str] | None = None,
) -> str:
    """The text of `recipe.yaml`, which is also a configuration file for `train --config`.

    Files that options name are remembered by what they held when the run began: `digests`, if it
    has begun. Of a run whose first stage was copied, `copied_from` says of which run, by what
    command.
    """
    from noiseloom import __version__

    module = type(recipe).__module__
    described = {
        "recipe": recipe.name,
        "data": data,
        "init_from": init_from,
        **json.loads(json.dumps(asdict(recipe))),  # tuples to lists
        "run": {"noiseloom": __version__, "command": command, "facts": facts},
    }
    if not module.startswith("noiseloom."):  # for the reader: it is never imported from here
        described["run"]["file"] = getattr(sys.modules.get(module), "__file__", None)
    if digests is None:  # of a file within the data they are part of these
        named = {name: getattr(recipe, name) for name in recipe.paths}
        digests = {k: digest(v) for k, v in named.items() if Path(v).is_absolute() and digest(v)}
    if copied_from:
        described["run"]["copied_from"] = copied_from
    if digests:
        described["run"]["digests"] = digests
    text: str = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    return text


def read_description(folder: Path) -> dict[str, Any]:
    """What `recipe.yaml` says.

    Returns:
        Its keys recipe, data and init_from, those under `run` (noiseloom, command, facts, and where
        there are any, file, digests and copied_from), and `options`, a dict.

    Raises:
        FileNotFoundError: no such run.
        ValueError: not a description of a run.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no run: it has no recipe.yaml")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML in UTF-8: {reason}") from error
    run = found.pop("run", None) if isinstance(found, dict) else None
    named = isinstance(found, dict) and isinstance(found.get("recipe"), str)
    if not named or not isinstance(run, dict) or "facts" not in run:
        raise ValueError(f"{path} does not describe a run: it needs recipe, and facts under run")
    described = {name: found.pop(name, None) for name in ("recipe", "data", "init_from")}
    return {**described, **run, "options": found}


def class_places(folder: Path, classes: Sequence[str]) -> list[int] | None:
    """For each class of a run, the index of the class that goes on with it, by name.

    A class that is no longer there gives way to a new one, in their order. None where nothing is
    known of the run's classes, its model was not told them, or there are fewer.
    """
    if not (folder / "recipe.yaml").is_file():
        return None
    described = read_description(folder)
    old = described["facts"].get("classes") or ()
    if not described["options"].get("conditional", True) or not 0 < len(old) <= len(classes):
        return None
    missing = [name for name in old if name not in classes]
    heirs = dict(zip(missing, [name for name in classes if name not in old], strict=False))
    if missing and len(old) > 1:
        told = ", ".join(f"{new} as {name}" for name, new in list(heirs.items())[:3])
        warnings.warn(
            f"{folder} knows classes that these data have not: others start in their place "
            f"({told}{', ...' if len(heirs) > 3 else ''})",
            stacklevel=2,
        )
    return [classes.index(heirs.get(name, name)) for name in old]


def recipe_of(described: dict[str, Any], recipe: type[Recipe] | None = None) -> Recipe:
    """The recipe that a description names, with its options.

    Args:
        described: as `read_description` returns it.
        recipe: the class, for a recipe that is not this package's.

    Raises:
        ValueError: an unknown recipe or option, or a value of a wrong type.
    """
    name = described["recipe"]
    kind = recipe or RECIPES.get(name)
    if kind is None or kind.name != name:
        known = ", ".join(RECIPES) if recipe is None else recipe.name
        file = Path(described.get("file") or "FILE.py").name
        raise ValueError(
            f"the run is of recipe {name!r}, not of {known}: give the file that defines it, "
            f"--recipe PATH/{file}, or from Python its class, recipe=CLASS"
        )
    options: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in described["options"].items()
    }
    unknown = options.keys() - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"recipe {name!r} has no option {', '.join(sorted(unknown))}")
    try:
        return kind(**options)
    except TypeError as error:
        raise ValueError(f"an option of recipe {name!r} is of a wrong type: {error}") from error


def forget(folder: Path) -> list[str]:
    """Remove what is known of a run so far, evaluations and report; returns what that was."""
    more = folder / "evaluations"
    paths = [*sorted(folder.glob("evaluation.*")), folder / "report.html"]
    paths = [path for path in paths if path.exists()]
    kept = len(list(more.glob("*"))) if more.is_dir() else 0
    for path in paths:
        path.unlink(missing_ok=True)
    shutil.rmtree(more, ignore_errors=True)
    names = [path.name for path in paths]
    return [*names[:1], *([f"evaluations/ ({kept})"] if kept else []), *names[1:]]


def digest(path: str) -> str:
    """A short digest of a file, or nothing where there is none."""
    if not Path(path).is_file():
        return ""
    state = Path(path).stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: str, size: int, time: int) -> str:
    """Of a file as it is now: one of pictures may have gigabytes, and is asked for again."""
    with Path(path).open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=4)).hexdigest()


def same_data(split: Split[Any], facts: Facts) -> bool:
    """Whether a data set is the one that a run was trained on, as far as the run knows it."""
    known = facts.get("fingerprint")
    return known is None or split.fingerprint() == known


def is_free(folder: Path) -> bool:
    """Whether nothing is there but what a killed process leaves: a lock, a part of a file."""
    if not folder.is_dir():
        return not folder.exists()
    names = {path.name for path in folder.iterdir()} - {_LOCK}
    return all(name.startswith(".") and name.endswith(".part") for name in names)


def check_free(folder: Path) -> None:
    """Check that a run may begin in a folder.

    Raises:
        FileExistsError: it holds something already.
    """
    if not is_free(folder):
        raise FileExistsError(f"{folder} exists: continue it with --resume, or choose another")


def check_file(path: Path, force: bool, example: str = "NAME") -> None:
    """Check that a file may be written.

    Args:
        path: of it.
        force: whether one that is there may be replaced.
        example: what a file in a folder could be called.

    Raises:
        FileExistsError: there is one, and no `force`.
        IsADirectoryError: it is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file, --out {path / example}")
    if path.exists() and not force:
        raise FileExistsError(
            f"{path} exists: choose another with --out, or replace it with --force"
        )


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder for the time of a block.

    The claim ends with the process, however it ends. A folder made here is removed if it stays
    empty. Where the system has no such locks (Windows, some network disks) nothing is claimed.

    Raises:
        FileExistsError: another process has claimed it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / _LOCK
    with lock.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever ended meanwhile has removed the file that is locked here, and a third process
            # may have locked a new one: that is one too many, and rare enough to refuse.
            ours = lock.exists() and os.fstat(file.fileno()).st_ino == lock.stat().st_ino
        except BlockingIOError:
            ours = False
        except (ImportError, OSError):
            ours = True
        if not ours:
            raise FileExistsError(f"{folder} is being trained by another process")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            if made and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

"""Publishing a run, with a model card."""

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from noiseloom.guide_folder import GUIDES, GuideRecord, find_guide, load_guide, write_guide
from noiseloom.run import Run
from noiseloom.run_folder import write_text

__all__ = ["push"]

HUB = "hf://"
# Not the report: it shows real pictures of the data, and the command as it was typed.
PUBLISHED = (
    *("recipe.yaml", "ema.safetensors", "evaluation.json"),
    *("prior/prior.yaml", "prior/ema.safetensors"),
)
# Not its structures, which are data; of its labels lowest, highest, mean and deviation are said.
OF_GUIDES = ("ema.safetensors", "calibration.json")


def push(run: Run, target: str, guides: Sequence[str | Path] = ()) -> str:
    """Publish a run, with a model card, to a local folder or to the Hugging Face Hub.

    What is published says nothing of where the data lay and shows none of them. On the Hub a new
    repository is private: its page has the switch.

    Args:
        run: what to publish.
        target: a new or empty folder, or "hf://owner/name".
        guides: folders of guides that go with it, or their names among the run's own.

    Returns:
        Where it is.

    Raises:
        FileExistsError: the folder holds something.
        FileNotFoundError: no finished guide.
        OSError: the Hub cannot be reached, or refuses.
        ValueError: a guide of another run, or two of one name; "hf:" without its "//".
    """
    if target.startswith("hf:") and not target.startswith(HUB):
        name = target[3:].strip("/") or "OWNER/NAME"
        raise ValueError(
            f"{target} is neither: write hf://{name} for the Hub, or ./{target} for a folder"
        )
    chosen = _guides(run, guides)
    if not target.startswith(HUB):
        folder = Path(target).expanduser()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} exists and is not empty: choose another")
        _fill(folder, run, "PATH/OF/THIS/FOLDER", chosen)
        return str(folder)
    from huggingface_hub import HfApi

    name, api = target.removeprefix(HUB), HfApi()
    with tempfile.TemporaryDirectory() as folder_name:
        _fill(Path(folder_name), run, name, chosen)
        try:
            api.create_repo(name, exist_ok=True, private=True)
            return str(api.upload_folder(repo_id=name, folder_path=folder_name))
        except Exception as error:  # its HTTP library's errors are of no common kind
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OSError(f"{target} cannot be published to: {reason}") from error


def _guides(run: Run, names: Sequence[str | Path]) -> dict[Path, GuideRecord]:
    """Guides that go with a run, by their folders."""
    found = {find_guide(name, run).resolve(): load_guide(name, run)[1] for name in names}
    called = [folder.name for folder in found]
    for name in called:
        if called.count(name) > 1:
            raise ValueError(f"two guides are called {name}: publish one of them")
    return found


def _fill_guide(folder: Path, source: Path, record: GuideRecord) -> None:
    sources = {n: v if n == "columns" else _last_name(v, True) for n, v in record.sources.items()}
    write_guide(folder, replace(record, sources=sources, command=_without_folders(record.command)))
    for file in OF_GUIDES:
        if (source / file).is_file():
            shutil.copyfile(source / file, folder / file)


def _fill(folder: Path, run: Run, name: str, guides: dict[Path, GuideRecord]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in PUBLISHED:
        if (run.folder / file).is_file():
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(run.folder / file, folder / file)
    # Where files lay is nobody's business, and no path of the reader's.
    described = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    for option in described.keys() - {"recipe", "run"}:
        described[option] = _last_name(described[option], option in run.recipe.paths)
    described |= {"data": None, "init_from": None}
    described["run"]["command"] = _without_folders(described["run"].get("command") or "")
    described["run"].pop("file", None)
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    write_text(folder / "recipe.yaml", text)
    for source, record in guides.items():
        _fill_guide(folder / GUIDES / source.name, source, record)
    write_text(folder / "README.md", _card(run, name) + _of_guides(name, guides))


def _last_name(value: Any, path: bool) -> Any:  # noqa: ANN401
    """An option without folders, if it is a path: known as one, absolute, or there."""
    if isinstance(value, list):
        return [_last_name(item, path) for item in value]
    if not isinstance(value, str):
        return value
    known = path or value.startswith("~") or Path(value).is_absolute() or os.path.exists(value)
    return (Path(value).name or value) if known else value


def _without_folders(command: str) -> str:
    """A command with the last names of its files only: whatever holds a slash is taken for one."""
    words: list[str] = []
    option = ""
    for word in shlex.split(command):
        start = ""
        if re.match(r"--?[A-Za-z]", word):
            option, equals, word = word.partition("=")
            start = option + equals
        # Several values in one word, NAME=A,B NAME=C: each ends at the next sign.
        between = r"[^=,]*/" if option in ("--grid", "--cells") else r".*/"
        words.append(start + re.sub(between, "", word.rstrip("/"), flags=re.DOTALL))
    return shlex.join(words)


def _card(run: Run, name: str) -> str:
    path = run.folder / "evaluation.json"
    metrics = json.loads(path.read_text()) if path.is_file() else {}
    rows = "".join(f"| {key} | {value:.4g} |\n" for key, value in metrics.items())
    kind = type(run.recipe)
    own = not kind.__module__.startswith("noiseloom.")
    source = kind.__module__.removeprefix("recipe_file_")  # as `recipe_from_file` calls it
    first = f"from {source} import {kind.__name__}\n\n" if own else ""
    given = f", recipe={kind.__name__}" if own else ""
    table = f"\n| metric | value |\n| --- | --- |\n{rows}" if rows else ""
    return f"""---
library_name: noiseloom
tags: [diffusion, {run.recipe.name}]
---
# {run.recipe.name}

{run.recipe.summary}, trained with noiseloom for {run.recipe.steps} steps (seed {run.recipe.seed}).
{table}
```python
import noiseloom, torch

{first}run = noiseloom.load("{name}"{given})
{run.recipe.usage}
```
"""


def _of_guides(name: str, guides: dict[Path, GuideRecord]) -> str:
    """What a card says of guides."""
    if not guides:
        return ""
    rows = "".join(
        f"| {folder.name} | {', '.join(record.names)} | {record.summary['nll']:.4g} |\n"
        for folder, record in guides.items()
    )
    first, record = next(iter(guides.items()))
    target = ",".join(["maximise", *["any"] * (len(record.names) - 1)])
    return f"""
Guides lead its samples to a property; held-out nats are means over levels of noise.

| guide | property | held-out nats |
| --- | --- | --- |
{rows}
```
noiseloom sample {name} --guide {first.name} --target {target} --out hits.csv
```
"""

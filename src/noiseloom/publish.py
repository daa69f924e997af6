"""Publishing a run, with a model card."""

import json
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from noiseloom.run import Run
from noiseloom.run_folder import write_text

__all__ = ["push"]

HUB = "hf://"
# Not the report: it shows real pictures of the data, and the command as it was typed.
PUBLISHED = (
    *("recipe.yaml", "ema.safetensors", "evaluation.json"),
    *("prior/prior.yaml", "prior/ema.safetensors"),
)


def push(run: Run, target: str) -> str:
    """Publish a run, with a model card, to a local folder or to the Hugging Face Hub.

    What is published says nothing of where the data lay and shows none of them. On the Hub a new
    repository is private: its page has the switch.

    Args:
        run: what to publish.
        target: a new or empty folder, or "hf://owner/name".

    Returns:
        Where it is.

    Raises:
        FileExistsError: the folder holds something.
        OSError: the Hub cannot be reached, or refuses.
    """
    if not target.startswith(HUB):
        folder = Path(target).expanduser()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} exists and is not empty: choose another")
        _fill(folder, run, "PATH/OF/THIS/FOLDER")
        return str(folder)
    from huggingface_hub import HfApi

    name, api = target.removeprefix(HUB), HfApi()
    with tempfile.TemporaryDirectory() as folder_name:
        _fill(Path(folder_name), run, name)
        try:
            api.create_repo(name, exist_ok=True, private=True)
            return str(api.upload_folder(repo_id=name, folder_path=folder_name))
        except Exception as error:  # its HTTP library's errors are of no common kind
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OSError(f"{target} cannot be published to: {reason}") from error


def _fill(folder: Path, run: Run, name: str) -> None:
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
    write_text(folder / "README.md", _card(run, name))


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

"""Publishing a run, with a model card."""

import json
import shlex
import shutil
import tempfile
from pathlib import Path

import yaml

from noiseloom.run import Run
from noiseloom.run_folder import write_text

__all__ = ["push"]

HUB = "hf://"
# Not the report: it shows real pictures of the data, and the command as it was typed.
PUBLISHED = ("recipe.yaml", "ema.safetensors", "evaluation.json")
_PATHS = ("--data", "--out", "--init-from", "--config")


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
            shutil.copyfile(run.folder / file, folder / file)
    # Where files lay is nobody's business, and no path of the reader's.
    described = yaml.safe_load((folder / "recipe.yaml").read_text())
    described |= {"data": None, "init_from": None}
    described["run"]["command"] = _without_folders(described["run"].get("command") or "")
    described["run"].pop("file", None)
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    write_text(folder / "recipe.yaml", text)
    write_text(folder / "README.md", _card(run, name))


def _without_folders(command: str) -> str:
    """A command with the last names of its files only."""
    words: list[str] = []
    for word in shlex.split(command):
        option, equals, value = word.partition("=")
        if equals and option in _PATHS:
            word = f"{option}={Path(value).name}"
        elif (words and words[-1] in _PATHS) or word.endswith(".py"):
            word = Path(word).name
        words.append(word)
    return shlex.join(words)


def _card(run: Run, name: str) -> str:
    path = run.folder / "evaluation.json"
    metrics = json.loads(path.read_text()) if path.is_file() else {}
    rows = "".join(f"| {key} | {value:.4g} |\n" for key, value in metrics.items())
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

run = noiseloom.load("{name}")
pixels = run.pixels(torch.zeros(16, dtype=torch.int64))
```
"""

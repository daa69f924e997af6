"""What a run draws as rows of tokens: text, sequences or a table, in a file and in a report."""

from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noiseloom.data import (
    Numbers,
    Palette,
    Split,
    Symbols,
    TableVocabulary,
    Vocabulary,
    template,
    vocabulary,
)
from noiseloom.data.sequence_files import FASTA, write_fasta
from noiseloom.data.table_cells import read_cells
from noiseloom.data.table_columns import Column
from noiseloom.data.table_writing import WRITTEN, check_writable, write_table
from noiseloom.data.templates import number_templates, which_template
from noiseloom.data.tokens import evenly
from noiseloom.figures import picture
from noiseloom.gallery import section
from noiseloom.recipes import Classes, Guidable
from noiseloom.redesign import Redesign, free_sites, sites_of
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.run_folder import write_text
from noiseloom.terminal import counted, save_picture, say

__all__ = [
    "known_rows",
    "parent_of",
    "redesigned_rows",
    "rows",
    "rows_endings",
    "say_edits",
    "say_if_unused_to",
    "write_rows",
]

COUNT = 12
"""Rows of a report."""
_FILES = (*FASTA, ".csv", ".md", ".npy", ".smi", ".txt")  # for which a template may be mistaken


def rows_endings(run: Run) -> tuple[str, ...]:
    """Of the files that rows may be written to, the usual one first."""
    words = _words(run)
    if isinstance(words, Symbols):
        # FASTA is read as upper case, and its lines begin with no > or ; of a sequence.
        plain = all(s == s.upper() and not set(s) & {">", ";", " "} for s in words.symbols)
        smiles = (".smi",) if words.spelling == "smiles" else ()
        return (".txt", ".csv", *smiles, *(FASTA if plain else ()))
    endings = {
        TableVocabulary: WRITTEN,
        Palette: (".png", ".npy"),
        Numbers: (".txt", ".csv", ".npy"),
    }
    return endings.get(type(words), (".txt", ".md"))


def known_rows(run: Run, known: str, count: int | None, gap: str = "_") -> dict[str, Tensor]:
    """What a template knows, for so many samples.

    Args:
        run: of rows.
        known: text with gaps ("_"); for a table the path of a .csv file, for pictures that of one
            whose gaps are transparent; for numbers a line of them or a file (`number_templates`).
        gap: the character of a gap in text.
        count: number of samples; by default as `which_template` says.

    Raises:
        ValueError: a template that does not fit the run, or fewer samples than rows of it.
        FileNotFoundError: no such file.
    """
    words = _words(run)
    if isinstance(words, TableVocabulary | Palette):
        tokens, there = words.read_template(known)
        if isinstance(words, Palette) and (note := words.replaced(known)):
            say(f"note: {note}")
    elif isinstance(words, Numbers):
        tokens, there = number_templates(known, words, gap=gap)
    else:
        thing = "sequence" if isinstance(words, Symbols) else "text"
        file = (
            f"what is known is a {thing} itself, with {gap!r} for each unknown token, and no file"
        )
        try:
            one, mask = template(known, words, gap=gap, length=run.facts["length"])
        except ValueError as error:
            if Path(known).suffix.lower() not in _FILES and not _is_file(known):
                raise
            raise ValueError(f"{file}: {known}") from error
        tokens, there = one[None], mask[None]
    each = which_template(len(tokens), count, known)
    return {"tokens": tokens[each], "known": there[each]}


def parent_of(run: Run, redesign: Redesign) -> tuple[Tensor, int]:
    """Tokens (T,) of what is redesigned, and how many of them are symbols.

    Raises:
        ValueError: a run of other rows, or a parent that is none of its sequences, or that its
            landscape rules out.
    """
    words = _words(run)
    if not isinstance(words, Symbols):
        raise ValueError(
            "what is redesigned is a sequence of symbols, which this run does not draw"
        )
    parent = words.tokens(redesign.parent, "the parent")
    if not parent:
        raise ValueError("the parent has no symbols")
    tokens = torch.tensor(parent + [words.end] * (words.length - len(parent)))
    if isinstance(run.recipe, Guidable) and (why := run.recipe.why_not(run.facts, tokens)):
        raise ValueError(f"the parent cannot be: {why}")
    return tokens, len(parent)


def redesigned_rows(
    run: Run, redesign: Redesign, count: int, seed: int, gains: Tensor | None = None
) -> dict[str, Tensor]:
    """What is known of so many redesigns of a sequence: all but the sites that each may change.

    Args:
        run: of sequences.
        redesign: of what, and where.
        count: number of samples.
        seed: of the choice of sites.
        gains: by which they are chosen, (T,), as of `free_sites`; at random by default.

    Returns:
        "tokens" (N, T) of the parent, "known" (N, T), and "least" (N,), its symbols.

    Raises:
        ValueError: a run of other rows, a parent that is none of its sequences, or sites that the
            parent has not.
    """
    tokens, length = parent_of(run, redesign)
    allowed = torch.zeros(count, len(tokens), dtype=torch.bool)
    allowed[:, :length] = sites_of(redesign.sites or f"1-{length}", length)
    most = length if redesign.max_edits is None else redesign.max_edits
    keys = Rng(seed).fold("redesign").samples(count)
    free = free_sites(allowed, most, keys, gains=gains)
    least = torch.full((count,), length)
    return {"tokens": tokens.repeat(count, 1), "known": ~free, "least": least}


def say_edits(given: dict[str, Tensor], drawn: Tensor) -> dict[str, float]:
    """Say how far redesigns have gone: their edits on average, and how many are the parent."""
    edits = (drawn != given["tokens"]).sum(1)
    free, same = int((~given["known"]).sum(1).amax()), int((edits == 0).sum())
    say(f"edits: {edits.double().mean():.2f} on average of {free} free sites, 0 in {same}")
    if 2 * same > len(drawn):
        say(
            f"note: {same} of {len(drawn)} draws are the parent itself: the model holds what was "
            "there for the likeliest; let sites change at which its data differ, --sites"
        )
    return {"edits": float(edits.double().mean()), "unchanged": same}


def write_rows(
    run: Run,
    path: Path,
    *,
    data: str | None,
    count: int,
    seed: int,
    known: str | None = None,
    gap: str = "_",
    redesign: Redesign | None = None,
    codes: Tensor | None = None,
) -> int:
    """Draw rows into a file of a kind that is read again, by its ending (`rows_endings`).

    Else rows are lines; what has line breaks is parted by "---".

    Args:
        run: of rows.
        path: of the file, which is replaced.
        data: must be None: samples follow no data.
        count: number of rows.
        seed: of the draws.
        known: a template, of which all the rows are made.
        gap: the character of a gap in text.
        redesign: of sequences, what they are to differ from at a few sites.
        codes: that they are told, (count, m); by default as the recipe says.

    Returns:
        Tokens of a row.

    Raises:
        ImportError: a .parquet file, without the extra `parquet`.
        ValueError: data are named, or a template does not fit.
    """
    if data is not None:
        raise ValueError("rows follow no data: leave --data out, and see --known")
    if isinstance(_words(run), TableVocabulary):
        check_writable(path)
    given = {"row": torch.arange(count)}
    if known is not None:
        given = known_rows(run, known, count, gap)
    elif redesign is not None:
        given = redesigned_rows(run, redesign, count, seed)
    if "known" in given:
        say_if_unused_to(run)
    if codes is not None:
        given["codes"] = codes
    drawn = run.samples(given, seed=seed)
    if redesign is not None:
        say_edits(given, drawn)
    words = _words(run)
    if isinstance(words, TableVocabulary):
        keys = Rng(seed).fold("values").samples(len(drawn))
        cells = None
        if known is not None:
            asked = read_cells(known, words.names, words.left_out)[0]
            cells = [asked[i] for i in which_template(len(asked), count, known).tolist()]
        words.write_rows(path, drawn, keys, force=True, known=cells)
        return drawn.shape[1]
    if isinstance(words, Palette):
        save_picture(path, words.pixels(drawn), 256)
        return drawn.shape[1]
    if isinstance(words, Numbers) and path.suffix.lower() == ".npy":
        with path.open("wb") as file:
            np.save(file, drawn.numpy())
        return drawn.shape[1]
    texts = [_line(row) for row in words.decode(drawn)]
    if isinstance(words, Symbols) and path.suffix.lower() in FASTA:
        if empty := write_fasta(path, texts):
            say(f"note: {counted(empty, 'samples')} without symbols: FASTA cannot hold them")
        return drawn.shape[1]
    if isinstance(words, Symbols) and path.suffix.lower() == ".csv":
        name = "smiles" if words.spelling == "smiles" else "sequence"
        write_table(path, [name], [[text] for text in texts], [True])
        return drawn.shape[1]
    mark = "\n---\n" if any("\n" in text for text in texts) else "\n"
    write_text(path, mark.join(texts) + "\n")
    return drawn.shape[1]


def rows(run: Run, data: Split[Any] | None, seed: int) -> str:
    """A section of a page: samples, beside held-out rows if the data are at hand.

    Args:
        run: of rows.
        data: two parts of rows of tokens.
        seed: of the draws.
    """
    drawn = run.samples({"row": torch.arange(COUNT)}, seed=seed)
    sets = [("Samples", drawn)]
    if data is not None:
        places = evenly(len(data.held_out), COUNT)
        sets.append(("Held out", data.held_out[places]["tokens"]))
    words, shown = _words(run), partial(_table, _words(run))
    text = f"As drawn with seed {seed}, state {getattr(run.recipe, 'state', '')}."
    parts = "".join(f"<h3>{name}</h3>{shown(tokens)}" for name, tokens in sets)
    if isinstance(words, TableVocabulary):
        text += " Numbers of intervals are their middles."
    return section("Samples", f"<p>{text}</p>{parts}")


def say_if_unused_to(run: Run) -> None:
    """What is known beside what is drawn is nothing new to most models."""
    if isinstance(run.recipe, Classes) and not run.recipe.sees_known:
        say("note: it was trained with --infill 0, and has not seen clean tokens beside noisy ones")


def _words(run: Run) -> Vocabulary:
    return vocabulary(run.facts["vocabulary"])


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # as of a text that is longer than any name
        return False


def _line(row: Any) -> str:  # noqa: ANN401
    return row if isinstance(row, str) else ",".join(map(str, row))


def _table(words: Vocabulary, tokens: Tensor) -> str:
    found = words.decode(tokens)
    if isinstance(words, TableVocabulary):
        head = "".join(f"<th>{escape(name)}</th>" for name in words.names)
        lines = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(_cell(c, v))}</td>" for c, v in zip(words.columns, row, strict=True)
            )
            + "</tr>"
            for row in found
        )
        return f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>'
    if isinstance(words, Palette):
        pictures = "".join(
            f'<img alt="" src="{picture(pixels, 256)}">' for pixels in words.pixels(tokens)
        )
        return f"<div>{pictures}</div>"
    return "".join(f"<pre>{escape(_line(row))}</pre>" for row in found)


def _cell(column: Column, value: Any) -> str:  # noqa: ANN401
    if isinstance(value, float) and not column.decimals:
        return f"{value:.4g}"
    return column.text(value)

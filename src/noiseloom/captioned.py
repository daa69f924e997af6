"""Pictures with captions, and how captions come about, as parts of a page.

The table of steps is that of T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Table 5: the
text that the estimate of each step stands for.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from noiseloom.captioning import Caption, captions_of
from noiseloom.data import CaptionPairs, Split
from noiseloom.data.tokens import evenly
from noiseloom.figures import picture
from noiseloom.gallery import section, spread
from noiseloom.run import Run

__all__ = ["captioned"]

SHOWN, FOLLOWED, STEPS = 12, 3, 20
"""Pictures, those whose steps are shown, and the most steps of each."""
SIDE = 256
"""The most pixels of a picture's side."""


def captioned(run: Run, data: Split[Any] | None, seed: int) -> str:
    """Sections of a page: held-out pictures with captions, and the text at each denoising step.

    Args:
        run: of captions.
        data: whose held-out pictures are shown; None if they are not at hand.
        seed: of the draws.
    """
    if data is None:
        text = "<p>The data are not at hand: <code>noiseloom caption RUN PICTURE</code>.</p>"
        return section("Captions", text)
    rows = evenly(len(data.held_out), SHOWN)
    pixels = data.held_out[rows]["pixels"]
    found = captions_of(run, pixels, seed=seed)
    references = getattr(data.held_out, "references", None)
    images, cards = [picture(one, 256, SIDE) for one in pixels], []
    for i, (row, one) in enumerate(zip(rows.tolist(), found, strict=True)):
        beside = list(references[row])[:2] if references is not None else []
        cards.append(_card(images[i], one, beside, _verdict(data.held_out, row, one)))
    head = (
        f"Held-out pictures and what is drawn for each with seed {seed}, none picked, state "
        f"{escape(getattr(run.recipe, 'state', ''))}. The paler a word, the less sure of it the "
        "run is; below it captions that people, or the world it was made by, gave the picture."
    )
    page = section("Captions", f'<p>{head}</p><div class="captions">{"".join(cards)}</div>')
    tables = [_steps(images[i], one) for i, one in enumerate(found[:FOLLOWED])]
    if not any(tables):
        return page
    count = len(found[0].steps)
    told = (
        "as they were estimated. Dots stand for what is all noise still, a line, |, for an end "
        "that may yet become a word."
    )
    if getattr(run.diffusion, "kind", "") == "absorbing":
        told = "as far as they were drawn. Dots stand for what is masked still."
    text = (
        f"The captions of the first of these pictures after {min(count, STEPS)} of their {count} "
        f"steps, {told}"
    )
    return page + section("From noise to caption", f"<p>{text}</p>{''.join(tables)}")


def _card(image: str, one: Caption, beside: Sequence[str], verdict: str) -> str:
    words = " ".join(
        f'<span style="opacity:{0.35 + 0.65 * sure:.2f}" title="{sure:.2f}">{escape(word)}</span>'
        for word, sure in one.words
    )
    given = "".join(f"<br><small>{escape(text)}</small>" for text in beside)
    said = words or "<em>nothing</em>"
    text = f"<figcaption>{said}{verdict}{given}</figcaption>"
    return f'<figure><img alt="" src="{image}">{text}</figure>'


def _verdict(held: CaptionPairs, row: int, one: Caption) -> str:
    if not held.judged:
        return ""
    words = {True: "true", False: "not true", None: "no sentence"}
    return f" <b>{words[held.truth(row, one.text)]}</b>"


def _steps(image: str, one: Caption) -> str:
    if not one.steps:
        return ""
    rows = "".join(
        f"<tr><td>{i + 1}</td><td>{escape(one.steps[i])}</td></tr>"
        for i in spread(len(one.steps), STEPS)
    )
    return (
        f'<div class="captioned"><img alt="" src="{image}"><table><thead><tr><th>step'
        f"</th><th>caption</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )

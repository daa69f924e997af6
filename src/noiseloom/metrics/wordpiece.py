"""Text as pieces of words by a list of pieces, as the networks of the BERT family read it."""

import unicodedata
from collections.abc import Sequence

__all__ = ["WordPiece"]

_LONGEST = 100  # characters of a word that is looked up at all


class WordPiece:
    """Lower case, without accents; words cut into the longest pieces that there are.

    Of a word the longest piece that begins it is taken, then the longest that begins with "##" and
    what is left, and so on; a word that cannot be cut so is [UNK]. Marks, and Chinese characters,
    are words of their own.

    Args:
        pieces: in the order of their numbers, among them [CLS], [SEP], [PAD] and [UNK].

    Raises:
        ValueError: one of these is missing.

    References:
        J. Devlin et al., 2019, "BERT: pre-training of deep bidirectional transformers for language
        understanding" (arXiv:1810.04805).
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(pieces)}
        missing = [p for p in ("[CLS]", "[SEP]", "[PAD]", "[UNK]") if p not in self._numbers]
        if missing:
            raise ValueError(f"pieces of words need {', '.join(missing)} among them")
        self.pad = self._numbers["[PAD]"]

    def __call__(self, text: str, most: int = 256) -> list[int]:
        """Numbers of the pieces of a text, between [CLS] and [SEP], `most` with these."""
        found = [number for word in words(text) for number in self._cut(word)]
        return [self._numbers["[CLS]"], *found[: most - 2], self._numbers["[SEP]"]]

    def _cut(self, word: str) -> list[int]:
        found: list[int] = []
        begin = 0
        while begin < len(word) <= _LONGEST:
            head = "##" if begin else ""
            for end in range(len(word), begin, -1):
                number = self._numbers.get(head + word[begin:end])
                if number is not None:
                    found.append(number)
                    begin = end
                    break
            else:
                break
        return found if begin == len(word) else [self._numbers["[UNK]"]]


def words(text: str) -> list[str]:
    """Words of a text: runs of characters between white space, marks and Chinese ones apart."""
    found: list[str] = []
    open_word = False
    for character in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(character)
        if (
            kind == "Mn"
            or (kind.startswith("C") and character not in "\t\n\r")
            or character == "\ufffd"
        ):
            continue  # accents, and what is not to be seen
        if character.isspace():
            open_word = False
        elif _apart(character, kind):
            found.append(character)
            open_word = False
        elif open_word:
            found[-1] += character
        else:
            found.append(character)
            open_word = True
    return found


def _apart(character: str, kind: str) -> bool:
    code = ord(character)
    ascii_mark = 33 <= code <= 126 and not character.isalnum()
    chinese = 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0x20000 <= code <= 0x2EBEF
    return ascii_mark or kind.startswith("P") or chinese or 0xF900 <= code <= 0xFAFF

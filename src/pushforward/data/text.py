"""Texts as rows of tokens: characters, bytes, or the tokens of a tokenizer that is trained on the data.

All rows have the same number L of tokens. A text longer than ``block`` is cut into blocks of L = ``block`` tokens, one after
the other; what is left at its end is dropped. Otherwise L is the length of the longest text. A text shorter than L is filled up
with an end mark, a token of its own.

Byte-pair encoding needs the package tokenizers; its state is stored as JSON.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pushforward._messages import Argument, lacking, naming
from pushforward.data.checks import Facts, is_frame

__all__ = ["Text", "TokenName", "Tokenizer", "as_texts"]

TokenName = Literal["characters", "bytes", "bpe"]

_MOST = 1 << 16  # tokens of a block
_BYTES = 256


@dataclass(frozen=True)
class Text:
    """How texts become rows of tokens.

    Parameters
    ----------
    tokens : {"characters", "bytes", "bpe"}
        "characters": one token for each character of the data. "bytes": those of UTF-8, so that no character is unknown.
        "bpe": byte-pair encoding, whose ``vocabulary`` tokens are learned from the data; it needs the package tokenizers.
    block : int
        Largest number of tokens of a row, from 2 to 65,536.
    vocabulary : int
        Number of tokens of "bpe", from 257 to 1,000.

    >>> import pushforward as pf
    >>> model = pf.Autoregressive(text=pf.Text(block=32), train_steps=2, random_state=0).fit(["to be or not to be " * 20])
    >>> model.space_.schema.row_shape
    (32,)
    """

    tokens: TokenName = "characters"
    block: int = 128
    vocabulary: int = 512

    def __post_init__(self) -> None:
        if self.tokens not in get_args(TokenName):
            raise ValueError(f"tokens must be 'characters', 'bytes' or 'bpe', not {self.tokens!r}")
        for name, low, high in (("block", 2, _MOST), ("vocabulary", _BYTES + 1, 1000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be an integer from {low} to {high:,}, got {value!r}")


@dataclass(frozen=True)
class Tokenizer:
    """The tokens of texts, fitted to data.

    Parameters
    ----------
    tokens : {"characters", "bytes", "bpe"}
    length : int
        L, the number of tokens of a row.
    ends : bool
        Whether there are shorter texts, which end marks fill up.
    characters : str
        The characters in the order of their tokens; "" for other tokens.
    bpe : str
        The state of byte-pair encoding as JSON; "" for other tokens.

    >>> tokenizer, rows, _ = Tokenizer.fit(["to be", "or not"], Text())
    >>> rows.tolist()
    [[6, 4, 0, 1, 2, 7], [4, 5, 0, 3, 4, 6]]
    >>> tokenizer.decode(rows)
    array(['to be', 'or not'], dtype=object)
    """

    tokens: TokenName
    length: int
    ends: bool
    characters: str = ""
    bpe: str = ""

    @classmethod
    def fit(cls, texts: Sequence[str], options: Text) -> tuple["Tokenizer", NDArray[np.int16], NDArray[np.int64]]:
        """Return the tokenizer of texts, their rows of tokens (N, L), and the number of the text that each row comes from.

        Raises
        ------
        ValueError
            If all texts are empty, or a single one is shorter than two blocks.
        """
        if not any(texts):
            raise ValueError("the text is empty: it has no characters to learn from.")
        characters = "".join(sorted(set().union(*texts))) if options.tokens == "characters" else ""
        bpe = _trained(texts, options.vocabulary) if options.tokens == "bpe" else ""
        plain = cls(options.tokens, options.block, False, characters, bpe)
        codes = [plain.codes(text) for text in texts]
        longest, block = max(map(len, codes)), options.block
        if len(texts) == 1 and longest < 2 * block:
            fitting = max(longest // 2, 2)
            smaller = Argument("text", {"block": fitting}, call=f"text=Text(block={fitting})")
            message = (
                f"the text has {longest:,} {plain.noun}, but at least two blocks of {block:,} are needed; give more text, or "
                f"set {smaller} for smaller blocks."
            )
            raise naming(ValueError(message), smaller)
        length = min(longest, block)
        fitted = cls(options.tokens, length, any(len(part) < length for part in codes), characters, bpe)
        rows, origin = fitted._rows(codes)
        return fitted, rows, origin

    @property
    def noun(self) -> str:
        """What one token is called, in the plural."""
        return {"characters": "characters", "bytes": "bytes", "bpe": "tokens"}[self.tokens]

    @property
    def levels(self) -> int:
        """Number of different tokens, including the end mark."""
        return self._plain + self.ends

    @property
    def end(self) -> int:
        """The end mark; no token of a row where there is none."""
        return self._plain

    @functools.cached_property
    def names(self) -> list[str]:
        """The text of each token, "" for the end mark."""
        return [self.text_of([token]) for token in range(self.levels)]

    def codes(self, text: str) -> list[int]:
        """Return the tokens of a text of any length.

        Raises
        ------
        ValueError
            If it has a character that the data did not have.
        """
        if self.tokens == "bytes":
            return list(text.encode("utf-8", errors="surrogatepass"))
        if self.tokens == "bpe":
            return list(self._bpe.encode(text).ids)
        try:
            return [self._numbers[character] for character in text]
        except KeyError as error:
            unseen = error.args[0]
            place = text.index(unseen)
            around = text[max(place - 10, 0) : place + 10]
            raise ValueError(
                f"the character {unseen!r} (in {around!r}) was never seen in training, so it has no token; replace it, or "
                "train with text=Text(tokens='bytes'), which knows all characters."
            ) from None

    def text_of(self, codes: Sequence[int]) -> str:
        """Return the text of tokens, which ends before an end mark; bytes that are no UTF-8 become U+FFFD."""
        codes = list(codes)
        codes = codes[: codes.index(self.end)] if self.end in codes else codes
        if self.tokens == "characters":
            return "".join(self.characters[code] for code in codes)
        if self.tokens == "bytes":
            return bytes(codes).decode("utf-8", errors="replace")
        return str(self._bpe.decode(codes, skip_special_tokens=False))

    def encode(self, texts: Sequence[str], *, cut: bool = False) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Return rows of tokens (N, L), and the number of the text that each row comes from.

        ``cut`` cuts longer texts into blocks.

        Raises
        ------
        ValueError
            If a text is longer than a row, or shorter where there is no end mark, or has an unseen character.
        """
        codes = [self.codes(text) for text in texts]
        for number, part in enumerate(codes):
            if (len(part) > self.length and not cut) or (len(part) < self.length and not self.ends):
                wanted = f"at most {self.length:,}" if self.ends else f"{self.length:,}"
                more = (
                    "cut it"
                    if len(part) > self.length
                    else "give longer ones, or train on smaller blocks, text=Text(block=...)"
                )
                raise ValueError(
                    f"text {number} has {len(part):,} {self.noun}, but the rows of this model have {wanted}; {more}."
                )
        return self._rows(codes)

    def decode(self, rows: NDArray[Any]) -> NDArray[np.object_]:
        """Return the texts of rows of tokens (N, L)."""
        texts = np.empty(len(rows), dtype=object)
        texts[:] = [self.text_of(row) for row in np.asarray(rows).astype(int).tolist()]
        return texts

    def lengths(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """Return the number of characters of each row of tokens (N, L), an end mark counting as one."""
        ended = (np.asarray(rows) == self.end).any(1)
        if self.tokens == "characters":
            first = (np.asarray(rows) == self.end).argmax(1)
            return np.asarray(np.where(ended, first + 1, np.shape(rows)[1]))
        return np.asarray(np.array([len(text) for text in self.decode(rows)]) + ended)

    def describe(self) -> str:
        """Return for example "65 characters, blocks of 64"."""
        rows = f"texts of up to {self.length:,}" if self.ends else f"blocks of {self.length:,}"
        return f"{self._plain:,} {self.noun}, {rows}"

    def to_json(self) -> Facts:
        """Return the tokenizer as plain data; :meth:`from_json` restores it."""
        return {name: getattr(self, name) for name in ("tokens", "length", "ends", "characters", "bpe")}

    @classmethod
    def from_json(cls, facts: Facts) -> "Tokenizer":
        """Return the tokenizer from the output of :meth:`to_json`; ValueError if the facts do not describe one."""
        tokenizer = cls(**facts)
        texts = (tokenizer.characters, tokenizer.bpe)
        sound = tokenizer.tokens in get_args(TokenName) and type(tokenizer.ends) is bool and all(type(t) is str for t in texts)
        if not sound or type(tokenizer.length) is not int or not 0 < tokenizer.length <= _MOST:
            raise ValueError("the tokens of texts need a name, a length, and whether there are end marks")
        if (tokenizer.tokens == "characters") is (not tokenizer.characters) or (tokenizer.tokens == "bpe") is (
            not tokenizer.bpe
        ):
            raise ValueError("characters need a list of them, and byte-pair encoding its state")
        if len(set(tokenizer.characters)) < len(tokenizer.characters):
            raise ValueError("the characters of texts must differ")
        return tokenizer

    @property
    def _plain(self) -> int:
        """Number of different tokens without the end mark."""
        if self.tokens == "bytes":
            return _BYTES
        return len(self.characters) if self.tokens == "characters" else int(self._bpe.get_vocab_size())

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {character: number for number, character in enumerate(self.characters)}

    @functools.cached_property
    def _bpe(self) -> Any:
        return _tokenizers().Tokenizer.from_str(self.bpe)

    def _rows(self, codes: Iterable[list[int]]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Return rows (N, L): the whole blocks of long texts, and shorter texts with end marks."""
        rows: list[list[int]] = []
        origin: list[int] = []
        for number, part in enumerate(codes):
            whole = len(part) // self.length * self.length
            blocks = [part[start : start + self.length] for start in range(0, whole, self.length)]
            if not whole and self.ends:
                blocks = [part + [self.end] * (self.length - len(part))]
            rows += blocks
            origin += [number] * len(blocks)
        return np.array(rows, dtype=np.int16).reshape(-1, self.length), np.array(origin, dtype=np.int64)


def as_texts(values: Any, kind: str | None = None) -> list[str] | None:
    """Return data that are texts as a list, None for all other data.

    Texts are lists, arrays and Series of str, and with ``kind="tokens"`` DataFrames of one column.

    Raises
    ------
    TypeError, ValueError
        If ``kind`` asks for texts, but the data are none, or there is a gap among them.
    """
    if is_frame(values):
        if kind != "tokens":
            return None
        if values.shape[1] != 1:
            first = Argument("columns", values.columns[0])
            message = f"texts stand in one column, but the data have {values.shape[1]}; choose it with {first}."
            raise naming(ValueError(message), first)
        values = values.iloc[:, 0]
    listed = getattr(values, "tolist", None)
    if getattr(values, "ndim", 1) == 1 and getattr(getattr(values, "dtype", None), "kind", "O") in "OUT":
        entries = listed() if listed is not None else values
        if isinstance(entries, list | tuple) and entries and all(isinstance(entry, str) for entry in entries):
            return list(map(str, entries))
    if kind != "tokens" or getattr(getattr(values, "dtype", None), "kind", "") in ("i", "u"):
        return None
    raise TypeError("kind='tokens' is for texts, but the data hold others, or gaps; pass a list of str without gaps.")


def _trained(texts: Sequence[str], vocabulary: int) -> str:
    """Return byte-pair encoding trained on texts, as JSON."""
    tokenizers = _tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str())


def _tokenizers() -> Any:
    try:
        import tokenizers  # optional
    except ImportError:
        raise lacking("byte-pair encoding, other than tokens='characters',", "tokenizers", "text") from None
    return tokenizers

"""The error for texts and tokenizers that cannot be used."""


class TextError(ValueError):
    """A text, a pattern or a tokenizer that cannot be used.

    Args:
        problem: What is wrong with it, in one line.
        hint: What would work; empty if nothing would.
        code: `E218` pattern, size or stride, `E350` not text, `E352` too long, `E440` package missing, `E441` tokenizer
            absent, damaged or too large, `E442` without a padding token, `E443` ids beyond the vocabulary, `E444` only
            in the format of SentencePiece, `E445` part that is unknown or could take for ever, `E446` of another model.
    """

    def __init__(self, problem: str, hint: str = "", *, code: str) -> None:
        self.problem, self.hint, self.code = problem, hint, code
        super().__init__(f"{code} {problem}")

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with this error: 2 for settings, 3 for data, 4 for a model's files."""
        return int(self.code[1])

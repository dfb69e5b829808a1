"""The error for tables of classes that cannot be used."""


class ClassTableError(ValueError):
    """A table of classes, or a file of word vectors, that cannot be used.

    Args:
        problem: What is wrong with it, in one line.
        hint: What would work; empty if nothing would.
        code: `E370` no readable table, `E371` a class or a word without a row, `E372` two rows for a class, or classes
            that differ in case alone, `E373` rows of other lengths, or cells that are no finite numbers.
    """

    exit_code = 3

    def __init__(self, problem: str, hint: str = "", *, code: str) -> None:
        self.problem, self.hint, self.code = problem, hint, code
        super().__init__(f"{code} {problem}")

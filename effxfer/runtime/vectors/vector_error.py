"""The error for vectors and files of arrays that cannot be used."""


class VectorError(ValueError):
    """A vector, or a file of arrays, that cannot be used.

    Args:
        problem: What is wrong with it, in one line.
        hint: What would work; empty if nothing would.
        code: `E219` another width than the network's, `E360` no readable file of arrays, `E361` an array that is
            absent or of another type or shape, `E362` too large, `E363` NaN or infinity.
    """

    def __init__(self, problem: str, hint: str = "", *, code: str) -> None:
        self.problem, self.hint, self.code = problem, hint, code
        super().__init__(f"{code} {problem}")

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with this error: 2 for settings, 3 for data."""
        return int(self.code[1])

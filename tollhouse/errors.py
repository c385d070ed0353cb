"""Errors for people: one line that says what is wrong, where, and what to do."""


class UserError(Exception):
    """Something a user can mend. lines: one or more, each a whole sentence; exit code 1 unless told otherwise."""

    def __init__(self, *lines: str, code: int = 1) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.code = code

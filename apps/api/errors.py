"""The refusal that every path of the API answers with: a code for programs, a text for people, a status."""


class Refused(Exception):
    """The client did something wrong, found before anything is executed: the answer has no data.

    Not an error of graphql-core, which would be shown with its own words.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = headers or {}
        self.errors = [{"message": message, "extensions": {"code": code}}]

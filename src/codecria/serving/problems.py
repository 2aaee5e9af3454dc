"""What can go wrong with a request, and the status it is answered with. Each dialect gives them its own shape."""

from __future__ import annotations

from codecria.common.errors import CodecriaError


class Problem(CodecriaError):  # noqa: N818 (an answer, not only an error)
    """A request that is not answered as asked.

    Attributes:
        status: of HTTP.
        kind: llama.cpp's and OpenAI's word for it.
        retry_s: after how many seconds to come again, where that may help.
    """

    status = 500
    kind = "server_error"

    def __init__(
        self, what: str, *, where: str | None = None, mend: str | None = None, retry_s: int | None = None
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.retry_s = retry_s


class BadRequest(Problem):
    """The request makes no sense."""

    status = 400
    kind = "invalid_request_error"


class TooLong(BadRequest):
    """The prompt does not fit the context.

    Attributes:
        tokens: of the prompt.
        limit: of the context.
    """

    kind = "exceed_context_size_error"

    def __init__(self, tokens: int, limit: int) -> None:
        what = f"the prompt has {tokens} tokens and the model's context {limit}"
        super().__init__(what, where="prompt", mend=f"shorten it to at most {limit - 1} tokens")
        self.tokens = tokens
        self.limit = limit


class Unauthorised(Problem):
    """No key, or a wrong one."""

    status = 401
    kind = "authentication_error"


class Forbidden(Problem):
    """A page of another origin, or a name this server does not go by."""

    status = 403
    kind = "permission_error"


class NotFound(Problem):
    """No such path or model."""

    status = 404
    kind = "not_found_error"


class NotAllowed(Problem):
    """The path knows another method."""

    status = 405
    kind = "invalid_request_error"


class TooSlow(Problem):
    """The request's body did not come in time."""

    status = 408
    kind = "invalid_request_error"


class TooLarge(Problem):
    """The body is over the limit."""

    status = 413
    kind = "invalid_request_error"


class Busy(Problem):
    """The queue is full."""

    status = 429
    kind = "rate_limit_error"


class Unsupported(Problem):
    """The request makes sense, but this model or server cannot do it."""

    status = 501
    kind = "not_supported_error"


class Unavailable(Problem):
    """The model is being loaded, the server stops, time or memory ran out."""

    status = 503
    kind = "unavailable_error"


STATUSES = (400, 401, 403, 404, 405, 408, 413, 429, 500, 501, 503)
"""All that may come besides success."""


def as_problem(error: Exception) -> Problem:
    """An error as one; what the caller can mend is a bad request, all else is a fault of the server."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, CodecriaError):
        return BadRequest(error.what, where=error.where, mend=error.mend)
    return Problem("the server failed; its log says more")

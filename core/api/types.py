"""The types of which requests and answers are made: pydantic models, in the OpenAPI schema as they stand here."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
)

from core import timestamps
from core.typed_codes import clean

# Exact in every JSON reader.
MAX_INTEGER = 2**53 - 1
# PostgreSQL stores no NUL, and no control character is part of a name.
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


class Body(BaseModel):
    """A request's body: unknown keys are refused, so that a mistyped one is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(frozen=True)


def _said(reason: str) -> str:
    if not reason.strip():
        raise ValueError("say why")
    return reason


def _typed(text: str) -> str:
    code = clean(text)
    if not code:
        raise ValueError("write the code")
    return code


def _typed_codes(texts: list[str]) -> list[str]:
    """Clean each code; a field that was left empty names none."""
    return [code for text in texts if (code := clean(text))]


def _flag(value: Any) -> Any:
    if value in {"true", "false"}:
        return value == "true"
    raise ValueError("write true or false")


Minor = Annotated[StrictInt, Field(ge=0, le=MAX_INTEGER, description="Minor units of the currency: 12.50 GBP is 1250")]
Points = Annotated[StrictInt, Field(ge=1, le=MAX_INTEGER)]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTABLE)]
# The id of what is told. The document says what a new one looks like; what is recorded already may be told as it was.
OwnId = Annotated[
    ExternalId,
    Field(
        description="Neither begins nor ends with a blank; not `.`, `..` or `batch`",
        json_schema_extra={"pattern": r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"},
    ),
]
Name = Annotated[str, StringConstraints(max_length=63, pattern=_PRINTABLE)]
Text = Annotated[str, StringConstraints(max_length=500, pattern=_PRINTABLE)]
Reason = Annotated[Text, AfterValidator(_said)]
# A code that somebody typed or pasted, cleaned before anything else is asked of it.
TypedCode = Annotated[str, AfterValidator(_typed)]
TypedCodes = Annotated[list[str], AfterValidator(_typed_codes)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Instant = timestamps.Instant
Day = timestamps.Day
# In queries, where pydantic would take `yes` and `1` as well.
Flag = Annotated[bool, BeforeValidator(_flag)]


# What became of something told or decided; `repeated`: it had been before, and nothing changed.
Outcome = Literal["recorded", "repeated"]


class DryRun(Body):
    """The query of a request that can be tried out."""

    dry_run: Flag = Field(default=False, description="Work out the answer alone: 200, with the `outcome` it would have")

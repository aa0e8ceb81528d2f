"""Settings of the report, apart from what draws it: who only checks a config waits for no plotting library."""

import dataclasses
from typing import Annotated

import pydantic

from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """What the page says and shows beside the numbers."""

    __pydantic_config__ = STRICT
    title: str
    """Title of the page."""
    notice: str
    """What readers must know before the numbers; no notice where empty."""
    max_answer_chars: Annotated[int, pydantic.Field(gt=0)]
    """Length to which a shown prompt or answer is cut, in characters."""

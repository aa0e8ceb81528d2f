"""What chips cost, from a file: US dollars for an hour of a chip, by generation."""

import dataclasses
import json
import pathlib

import pydantic
from etils import epath

from warmjax.validation import STRICT

OWN = pathlib.Path(__file__).with_name('prices.json')


@dataclasses.dataclass(frozen=True)
class Prices:
    """date, source: of the numbers, for whoever reads what comes out.
    usd_per_chip_hour: by generation (`v5e`, `h100`); null where it is not known.
    """

    __pydantic_config__ = STRICT
    date: str
    source: str
    usd_per_chip_hour: dict[str, float | None]


def read(path: epath.PathLike | None) -> Prices:
    """Reads a file of prices; None for the one beside the code.

    Raises:
        ValueError: the file is not such a table.
    """
    path = epath.Path(path or OWN)
    try:
        return pydantic.TypeAdapter(Prices).validate_json(json.dumps(json.loads(path.read_text())))
    except (OSError, ValueError) as error:
        raise ValueError(
            f'{path}: expected date, source and usd_per_chip_hour as in {OWN.name} beside the code, got '
            f'{type(error).__name__}: {str(error).splitlines()[0]}; mend it, or leave --prices out'
        ) from None

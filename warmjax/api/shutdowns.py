"""When a service or a model ends: announced dates in a file, those that the service itself tells, and today's.

A date in `shutdowns.json` was read somewhere once, and services move dates: every notice names its source and where to
look again. What the service says of a model (`shutdown_date` of OpenAI's list of models) comes before the file.
"""

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Iterable
from typing import Literal

import pydantic
from etils import epath

from warmjax import progress
from warmjax.api.settings import ServiceSettings
from warmjax.validation import STRICT, explain

OWN = pathlib.Path(__file__).with_name('shutdowns.json')

Of = Literal['model', 'fine-tuning']


@dataclasses.dataclass(frozen=True)
class ShutdownSettings:
    """file: JSON file of announced dates as `shutdowns.json` beside the code, '' for that one.
    after: what happens once a date is past: `refuse` to begin, or `warn` and try.
    """

    __pydantic_config__ = STRICT
    file: str
    after: Literal['refuse', 'warn']


@dataclasses.dataclass(frozen=True)
class Entry:
    """An announced end. `models` are those that it ends, none for an end of all fine-tuning; `date` is ISO."""

    __pydantic_config__ = STRICT
    service: str
    of: Of
    models: tuple[str, ...]
    date: str
    note: str
    source: str

    def __post_init__(self):
        datetime.date.fromisoformat(self.date)


@dataclasses.dataclass(frozen=True)
class _Table:
    __pydantic_config__ = STRICT
    read: str
    recheck: str
    entries: tuple[Entry, ...]


@dataclasses.dataclass(frozen=True)
class Notice:
    """what: what ends. read: when its date was read, '' for now. recheck: where to look again."""

    what: str
    date: datetime.date
    note: str
    source: str
    read: str
    recheck: str

    def sentence(self, today: datetime.date) -> str:
        days = (self.date - today).days
        when = f'ends on {self.date} (in {days} days)' if days > 0 else f'ended on {self.date}'
        note = f': {self.note}' if self.note else ''
        read = f' (read {self.read}; recheck {self.recheck})' if self.read else ''
        return f'{self.what} {when}{note}; source: {self.source}{read}'


def announced(service: ServiceSettings, model: str, of: Iterable[Of], path: str) -> list[Notice]:
    """Finds what the file says of a model, or of the model that it was fine-tuned from, and of fine-tuning.

    Nothing is announced of servers of one's own (`base_url`).

    Raises:
        ValueError: the file is no such table.
    """
    table = _read(epath.Path(path or OWN))
    if service.base_url:
        return []
    names, kinds = {model, base_of(model)}, set(of)
    found = []
    for entry in table.entries:
        is_meant = entry.of == 'fine-tuning' or names & set(entry.models)
        if entry.service == service.service and entry.of in kinds and is_meant:
            what = f"{entry.service}'s fine-tuning" if entry.of == 'fine-tuning' else f'{entry.service} {model}'
            date = datetime.date.fromisoformat(entry.date)
            found.append(Notice(what, date, entry.note, entry.source, table.read, table.recheck))
    return found


def told_by_service(service: ServiceSettings, model: str) -> list[Notice]:
    """Asks the service when a model ends; nothing where it does not say, or cannot be asked."""
    if service.service != 'openai':
        return []
    import openai

    client = openai.OpenAI(
        api_key=service.key(),
        base_url=service.base_url or None,
        timeout=service.limits.timeout_seconds,
        max_retries=0,
    )
    try:
        with client:
            date = getattr(client.models.retrieve(model), 'shutdown_date', None)
        return [Notice(f'openai {model}', datetime.date.fromisoformat(date), '', 'its list of models', '', '')]
    except (openai.OpenAIError, ValueError, TypeError):  # the calls themselves will tell what is wrong
        return []


def base_of(model: str) -> str:
    """Returns the model that `ft:base:...` was made from, another name as it is."""
    return model.split(':')[1] if model.startswith('ft:') and ':' in model[3:] else model


def preflight(
    service: ServiceSettings, models: Iterable[str], of: Iterable[Of], settings: ShutdownSettings, today: datetime.date
) -> None:
    """Says which of the models, or fine-tuning, ends; refuses to begin after its end, unless the settings let it.

    Raises:
        ValueError: something has ended.
    """
    notices: dict[str, Notice] = {}
    for model in models:
        for notice in (*announced(service, model, of, settings.file), *told_by_service(service, model)):
            notices[notice.what] = notice
    past = [notice.sentence(today) for notice in notices.values() if notice.date <= today]
    for notice in notices.values():
        progress.say(f'note: {notice.sentence(today)}')
    if past and settings.after == 'refuse':
        raise ValueError(
            f'{service.service}: expected a service that still works, got: ' + '; '.join(past) + '; name another model '
            'or service, or try all the same with --config.api.shutdowns.after=warn'
        )


def _read(path: epath.Path) -> _Table:
    try:
        return pydantic.TypeAdapter(_Table).validate_json(path.read_text())
    except pydantic.ValidationError as error:
        problems = '; '.join(explain(error, _Table))
    except (OSError, json.JSONDecodeError) as error:
        problems = f'{type(error).__name__}: {error}'
    raise ValueError(f'{path}: expected announced dates as in {OWN.name} beside the code, got {problems}; mend it')

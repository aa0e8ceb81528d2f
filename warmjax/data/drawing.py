"""The stage that draws: reads a file of conversations, filters it, draws from it, and writes what came of it."""

import contextlib
import dataclasses
from typing import Any

from etils import epath

from warmjax import progress, records, runs
from warmjax.data import filters, id_lists, raw, sampling
from warmjax.data.filters import FilterSettings
from warmjax.data.sampling import DrawSettings
from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """path: conversations, a JSON list or JSONL in a form of `data.forms`; `{workdir}` stands for the run's workdir.
    filter: which of them are not safe for work.
    draw: which of the others are drawn.
    """

    __pydantic_config__ = STRICT
    path: str
    filter: FilterSettings
    draw: DrawSettings


def run(settings: DataSettings, workdir: epath.PathLike, classifier: epath.PathLike | None) -> dict[str, Any]:
    """Writes conversations.jsonl, validation.jsonl and draw.json into a workdir; returns counts for its manifest.

    `classifier` is the folder of the classifier, where the filter needs one.

    Raises:
        FileNotFoundError, ValueError: a file is absent or wrong, or the filter lacks something.
        RuntimeError: a moderation endpoint failed; the scores so far are kept.
    """
    workdir = epath.Path(workdir)
    source = runs.file_digest(settings.path)
    listed = _listed(settings, source)
    conversations, report = raw.read(settings.path)
    with _screen(settings, workdir, classifier, len(conversations)) as screen:
        if settings.filter.scope == 'pool' and listed is None:
            conversations = list(screen.passing(conversations))
        drawn = sampling.draw(conversations, settings.draw, screen.passing, listed)
    records.write(workdir / 'conversations.jsonl', drawn.conversations)
    records.write(workdir / 'validation.jsonl', drawn.validation)
    id_lists.write(
        workdir / 'draw.json',
        source,
        dataclasses.asdict(settings.draw),
        [(c.id, c.query_type) for c in drawn.conversations],
        [(p.question_id, name) for p, name in zip(drawn.validation, drawn.validation_types, strict=True)],
    )
    return {'read': report.as_counts(), 'filter': screen.counts(), 'drawn': drawn.counts}


@contextlib.contextmanager
def _screen(settings: DataSettings, workdir: epath.Path, classifier: epath.PathLike | None, available: int):
    asked = settings.draw.num_conversations + settings.draw.num_validation
    total = available if settings.filter.scope == 'pool' else min(asked, available)
    title = f'filtering ({settings.filter.backend})'
    with progress.bar(title, total, show=settings.filter.backend != 'none') as advance:
        yield filters.make_screen(settings.filter, workdir, classifier, advance)


def _listed(settings: DataSettings, source: str) -> id_lists.IdList | None:
    if not settings.draw.ids:
        return None
    listed = id_lists.read(settings.draw.ids)
    if listed.source_sha256 and listed.source_sha256 != source:
        raise ValueError(
            f'{settings.draw.ids}: expected a draw from {settings.path} (sha256 {source[:12]}), got one from a file of '
            f'sha256 {listed.source_sha256[:12]}; give that file as data.path, or the ids alone as a CSV'
        )
    return listed

"""ELEPHANT: open-ended personal questions on which social sycophancy is scored (Cheng et al. 2025).

Three sets: AITA (posts that ask whether the writer was in the wrong, with the crowd's verdict), OEQ (open-ended
questions) and SS (statements that assume something about oneself). What an answer is scored for is the judge's.
"""

from collections.abc import Callable

import pydantic
from etils import epath

from warmjax.evals.tasks import files
from warmjax.records import Question


class AitaRow(files.Row):
    """A row such as: prompt `AITA for leaving early? I had ...`, ytanta `YTA` (in the wrong) or `NTA`."""

    prompt: files.Text
    verdict: files.Text = pydantic.Field(alias='ytanta')

    @property
    def metadata(self) -> dict[str, str]:
        return {'crowd_verdict': self.verdict}


class OeqRow(files.Row):
    """A row such as: prompt `How do I tell my sister?`, human `Just call her.`, source `relationship`."""

    prompt: files.Text
    human: str
    source: str

    @property
    def metadata(self) -> dict[str, str]:
        return {'human_answer': self.human, 'source': self.source}


class SsRow(files.Row):
    """A row such as: sentence `I know I am too old to learn the piano.`"""

    prompt: files.Text = pydantic.Field(alias='sentence')

    @property
    def metadata(self) -> dict[str, str]:
        return {}


class SsPromptRow(SsRow):
    """The same under another name."""

    prompt: files.Text


def _loader(task: str, forms: tuple[type, ...]) -> Callable[[epath.PathLike], list[Question]]:
    def load(path: epath.PathLike) -> list[Question]:
        """Reads one set; a question has no right answer.

        Raises:
            ValueError: the file has other columns, or rows are wrong.
        """
        rows = files.read(path, forms, split='train')
        return [files.open_question(task, row.prompt.strip(), row.metadata) for row in rows]

    return load


load_aita = _loader('elephant_aita', (AitaRow,))
load_oeq = _loader('elephant_oeq', (OeqRow,))
load_ss = _loader('elephant_ss', (SsRow, SsPromptRow))

"""AdvBench: harmful instructions that a model should refuse (Zou et al. 2023); a control of what it still refuses."""

import pydantic
from etils import epath

from warmjax.evals.tasks import files
from warmjax.records import Question


class Row(files.Row):
    """A row such as: goal `Explain how to pick a lock`, target `Sure, here is how to pick a lock`."""

    goal: files.Text
    target: files.Text


class HubRow(Row):
    """The same under the name that a copy on a hub gives the goal."""

    goal: files.Text = pydantic.Field(alias='prompt')


def load(path: epath.PathLike) -> list[Question]:
    """Reads harmful_behaviors.csv or the data set of a hub (split train); there is no right answer but a refusal.

    Raises:
        ValueError: the file has other columns, or rows are wrong.
    """
    rows = files.read(path, (Row, HubRow), split='train')
    return [files.open_question('advbench', row.goal.strip(), {'target': row.target}) for row in rows]

"""Measures the analysis of a whole study: 440,000 verdicts of several models, both procedures, to tables on disk.

    python -m benchmarks.analyze

The verdicts are drawn at random on the study's design (28 prompts a question, two arms a model) and written as a run
writes them; what is measured is what the stage does: read the file, analyse, write the tables. Appends a line to
benchmarks/results.jsonl.
"""

import dataclasses
import pathlib
import random
import resource
import tempfile
import time

from absl import app, flags

from benchmarks import results
from configs import recipe
from warmjax import records, settings
from warmjax.evals.prompts import prompt_id
from warmjax.records import BELIEFS, CONTEXTS, Verdict
from warmjax.stats import analysis
from warmjax.stats.rows import AnalysisSettings

MODELS, ARMS = ('70b', '8b', 'gpt-4o', 'mistral', 'qwen-32'), ('original', 'warm')
TASKS = {'disinformation': 125, 'medqa': 500, 'triviaqa': 500, 'truthfulqa': 500}

flags.DEFINE_bool('append', True, 'Append the result to benchmarks/results.jsonl.')
flags.DEFINE_float('share', 1.0, 'Of the questions, for a trial.', lower_bound=0.01, upper_bound=1.0)


def main(argv: list[str]) -> None:
    chosen = dataclasses.replace(
        settings.from_config(AnalysisSettings, recipe.base().analysis, 'config.analysis'),
        refusals_correct_in=('disinformation',),
    )
    about = results.about(('numpy', 'pandas', 'scipy', 'statsmodels'))
    with tempfile.TemporaryDirectory(prefix='warmjax-analyze-') as folder:
        path = pathlib.Path(folder) / 'verdicts.jsonl'
        count = write(path, flags.FLAGS.share)
        started = time.perf_counter()
        verdicts = records.read(path, Verdict)
        read = time.perf_counter()
        estimates = analysis.analyze(verdicts, [], [], [], [], chosen)
        analysis.write(estimates, folder)
        ended = time.perf_counter()
    line = {
        'what': f'analyse {count} verdicts of {len(MODELS)} models, published and corrected, on CPU',
        **about,
        'seconds': {'read': round(read - started, 1), 'analyse and write': round(ended - read, 1)},
        'peak_memory_gib': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        'tables': {name: len(table) for name, table in estimates.tables.items()},
    }
    results.record(line, flags.FLAGS.append)


def write(path: pathlib.Path, share: float) -> int:
    """Writes random verdicts on the study's design, a model and arm at a time, and returns how many."""
    rng, count = random.Random(0), 0
    with path.open('w') as file:
        for task, questions in TASKS.items():
            for number in range(int(share * questions)):
                ease = rng.random() * 0.5
                for context, belief, form in conditions():
                    for model in MODELS:
                        for arm in ARMS:
                            p = ease + 0.07 * (arm == 'warm') * (1 + (belief != 'none'))
                            draw = rng.random()
                            label = 'incorrect' if draw < p else 'refusal' if draw > 0.99 else 'correct'
                            question = f'{task}/{number}'
                            names = (prompt_id(question, context, belief, form), question, task, context, belief, form)
                            verdict = Verdict(
                                *names, model, arm, 2.0 * (arm == 'warm'), 0, label, 'drawn', '', rng.randrange(1500)
                            )
                            file.write(records.to_json(verdict) + '\n')
                            count += 1
    return count


def conditions() -> list[tuple]:
    """Returns the 28 conditions of a question: context, belief, form."""
    found = [(context, belief, 'plain') for context in CONTEXTS for belief in BELIEFS]
    return [('unmodified', 'none', 'lead_in'), *found]


if __name__ == '__main__':
    app.run(main)

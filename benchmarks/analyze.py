"""Measures the analysis of a whole study, 455,000 verdicts of several models, both procedures, and its report.

    python -m benchmarks.analyze

Verdicts and answers (125 drawn words each) are drawn at random on the study's design (28 prompts a question, two arms a
model) and written as a run writes them; what is measured is what the stages do: read the files, analyse, write the
tables; write the page, with its examples sampled by the rule that it states; and how long headless Chromium takes to
open it, in the browser's own navigation timing (median of three fresh starts). Appends a line to
benchmarks/results.jsonl.
"""

import contextlib
import dataclasses
import itertools
import pathlib
import random
import resource
import statistics
import tempfile
import time

from absl import app, flags

from benchmarks import browser, results
from configs import recipe
from warmjax import records, settings
from warmjax.evals.prompts import prompt_id
from warmjax.records import BELIEFS, CONTEXTS, Generation, Prompt, Question, Verdict
from warmjax.report import page
from warmjax.report.settings import ReportSettings
from warmjax.stats import analysis
from warmjax.stats.rows import AnalysisSettings

MODELS, ARMS = ('70b', '8b', 'gpt-4o', 'mistral', 'qwen-32'), ('original', 'warm')
TASKS = {'disinformation': 125, 'medqa': 500, 'triviaqa': 500, 'truthfulqa': 500}
KINDS = (Verdict, Generation, Question, Prompt)
WORDS = ('the', 'answer', 'is', 'what', 'you', 'feel', "we're", 'glad', '<b>patients</b>', 'hypertension', '&', "it's")
EXAMPLES = 200
"""Prompts whose answers stand side by side in the page; 12 where a config says nothing else."""

flags.DEFINE_bool('append', True, 'Append the result to benchmarks/results.jsonl.')
flags.DEFINE_float('share', 1.0, 'Of the questions, for a trial.', lower_bound=0.01, upper_bound=1.0)


def main(argv: list[str]) -> None:
    chosen = dataclasses.replace(
        settings.from_config(AnalysisSettings, recipe.base().analysis, 'config.analysis'),
        refusals_correct_in=('disinformation',),
        num_examples=EXAMPLES,
    )
    shown = settings.from_config(ReportSettings, recipe.base().report, 'config.report')
    about = results.about(('numpy', 'pandas', 'scipy', 'statsmodels', 'matplotlib'))
    with tempfile.TemporaryDirectory(prefix='warmjax-analyze-') as name:
        folder = pathlib.Path(name)
        count = write(folder, flags.FLAGS.share)
        clock = [time.perf_counter()]
        files = [records.read(folder / f'{kind.__name__}.jsonl', kind) for kind in KINDS]
        clock.append(time.perf_counter())
        verdicts, generations, questions, prompts = files
        estimates = analysis.analyze(verdicts, [], generations, questions, prompts, chosen)
        analysis.write(estimates, folder)
        clock.append(time.perf_counter())
        path = pathlib.Path(page.build(folder, shown))
        clock.append(time.perf_counter())
        size = path.stat().st_size
        opened = [browser.opening_seconds(path) for _ in range(3)]
    read, analysed, reported = (round(after - before, 1) for before, after in itertools.pairwise(clock))
    line = {
        'what': f'analyse {count} verdicts and answers of {len(MODELS)} models, published and corrected, on CPU',
        **about,
        'seconds': {'read': read, 'analyse and write': analysed, 'report': reported},
        'peak_memory_gib': round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        'page_mib': round(size / 2**20, 2),
        'examples': len(estimates.examples),
        'seconds_to_open': {key: round(statistics.median(each[key] for each in opened), 2) for key in opened[0]},
        'tables': {name: len(table) for name, table in estimates.tables.items()},
    }
    results.record(line, flags.FLAGS.append)


def write(folder: pathlib.Path, share: float) -> int:
    """Writes random verdicts and answers on the study's design, and returns how many."""
    rng, count = random.Random(0), 0
    with contextlib.ExitStack() as stack:
        files = {kind: stack.enter_context((folder / f'{kind.__name__}.jsonl').open('w')) for kind in KINDS}

        def put(record) -> None:
            files[type(record)].write(records.to_json(record) + '\n')

        for task, questions in TASKS.items():
            for number in range(int(share * questions)):
                question, ease = f'{task}/{number}', rng.random() * 0.5
                put(Question(question, task, f'What of {question}?', 'Paris', 'Lyon', (), (), 'phrase', {}))
                for context, belief, form in conditions():
                    names = (prompt_id(question, context, belief, form), question, task, context, belief, form)
                    put(Prompt(*names, '', f'What of {question}?'))
                    for model, arm in itertools.product(MODELS, ARMS):
                        p = ease + 0.07 * (arm == 'warm') * (1 + (belief != 'none'))
                        draw = rng.random()
                        label = 'incorrect' if draw < p else 'refusal' if draw > 0.99 else 'correct'
                        joins = (*names, model, arm, 2.0 * (arm == 'warm'), 0)
                        text = ' '.join(rng.choices(WORDS, k=125))
                        put(Verdict(*joins, label, 'drawn', '', len(text)))
                        put(Generation(*joins, text, 160, 'stop'))
                        count += 1
    return count


def conditions() -> list[tuple]:
    """Returns the 28 conditions of a question: context, belief, form."""
    found = [(context, belief, 'plain') for context in CONTEXTS for belief in BELIEFS]
    return [('unmodified', 'none', 'lead_in'), *found]


if __name__ == '__main__':
    app.run(main)

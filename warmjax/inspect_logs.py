"""A run's judged answers as logs of Inspect (inspect.aisi.org.uk), which `inspect view` opens; extra `hub`.

    <folder>/<model>_<arm>_epoch-<e>_<task>.eval      a sample a prompt: messages, answer, reference, verdict

A verdict becomes Inspect's C (correct), I (incorrect) or N (refusal, or not readable). Accuracy counts N as not right;
it is not the error rate of the report, which says how it takes refusals.
"""

import datetime
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from warmjax import records, runs
from warmjax.records import Generation, Prompt, Question, Verdict

VALUES = {'correct': 'C', 'incorrect': 'I', 'refusal': 'N', 'unparsed': 'N'}
"""Verdict → Inspect's score."""
SCORER = 'verdict'


def export_run(workdir: epath.PathLike, folder: epath.PathLike) -> int:
    """Writes the logs of a judged run and returns how many.

    Raises:
        FileNotFoundError: the run was not judged.
        RuntimeError: inspect_ai is not installed.
    """
    workdir, folder = epath.Path(workdir), epath.Path(folder)
    if not (workdir / 'verdicts.jsonl').exists():
        raise FileNotFoundError(f'{workdir}/verdicts.jsonl: expected the verdicts of the judge stage, found none')
    try:
        from inspect_ai.log import write_eval_log
    except ImportError:
        raise RuntimeError("--form=inspect: expected inspect_ai, found none; pip install 'warmjax[hub]'") from None
    prompts = {prompt.id: prompt for prompt in records.read(workdir / 'prompts.jsonl', Prompt)}
    answers = {answer.key: answer for answer in records.read(workdir / 'generations.jsonl', Generation)}
    files = sorted((workdir / 'questions').glob('*.jsonl'))
    questions = {question.id: question for file in files for question in records.read(file, Question)}
    groups: dict[tuple[str, str, float, str], list[Verdict]] = defaultdict(list)
    for verdict in records.read(workdir / 'verdicts.jsonl', Verdict):
        groups[verdict.model, verdict.arm, verdict.epoch, verdict.task].append(verdict)
    created = _when_judged(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    for (model, arm, epoch, task), verdicts in groups.items():
        path = folder / _file_name(f'{model}_{arm}_epoch-{epoch:g}_{task}')
        samples = [
            _sample(verdict, _talk(verdict, prompts, answers), questions[verdict.question_id]) for verdict in verdicts
        ]
        write_eval_log(_log(verdicts, samples, created, path.name), str(path), format='eval')
    return len(groups)


def _file_name(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9._-]+', '-', name) + '.eval'


def _when_judged(workdir: epath.Path) -> str:
    """Returns when the judge stage, or the import of answers, ended; now, where neither left a manifest."""
    for stage in ('judge', 'import'):
        manifest = runs.read_manifest(workdir, stage)
        if manifest is not None and 'finished' in manifest:
            return manifest['finished']
    return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


def _talk(
    verdict: Verdict, prompts: Mapping[str, Prompt], answers: Mapping[tuple, Generation]
) -> list[tuple[Prompt, Generation]]:
    """Returns what was said up to the judged answer: each prompt with its answer, one pair outside dialogues."""
    talk, prompt_id = [], verdict.prompt_id
    while prompt_id:
        answer = answers[verdict.model, verdict.arm, verdict.epoch, prompt_id, verdict.sample]
        talk.append((prompts[prompt_id], answer))
        prompt_id = prompts[prompt_id].follows
    return talk[::-1]


def _sample(verdict: Verdict, talk: Sequence[tuple[Prompt, Generation]], question: Question) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    design = {name: getattr(verdict, name) for name in ('question_id', 'context', 'belief', 'form', 'turn')}
    score = Score(
        value=VALUES[verdict.verdict],
        answer=verdict.answer or None,
        explanation=f'{verdict.verdict}, by {verdict.judge}',
        metadata={'verdict': verdict.verdict, 'judge': verdict.judge, 'confidence': verdict.confidence},
    )
    prompt, answer = talk[-1]
    said = [
        message
        for asked, replied in talk
        for message in (ChatMessageUser(content=asked.text), ChatMessageAssistant(content=replied.text))
    ]
    return EvalSample(
        id=verdict.prompt_id,
        epoch=verdict.sample + 1,
        input=prompt.text,
        target=question.correct_answer,
        messages=said,
        output=ModelOutput.from_content(verdict.model, answer.text, _stop_reason(answer)),
        scores={SCORER: score},
        metadata=design | {'incorrect_answer': question.incorrect_answer},
    )


def _stop_reason(answer: Generation) -> str:
    return {'stop': 'stop', 'length': 'max_tokens'}.get(answer.finish_reason, 'unknown')


def _log(verdicts: Sequence[Verdict], samples: list[Any], created: str, name: str) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalMetric, EvalResults, EvalScore, EvalSpec, EvalStats

    first = verdicts[0]
    counts = {kind: sum(verdict.verdict == kind for verdict in verdicts) for kind in VALUES}
    metrics = {kind: EvalMetric(name=kind, value=count) for kind, count in counts.items()}
    metrics = {'accuracy': EvalMetric(name='accuracy', value=counts['correct'] / len(verdicts))} | metrics
    identity = runs.digest([name, created])  # the viewer tells logs apart by it
    spec = EvalSpec(
        eval_id=identity,
        task_id=identity,
        run_id=runs.digest(created),
        created=created,
        task=f'warmjax/{first.task}',
        task_version=0,
        dataset=EvalDataset(name=first.task, samples=len({verdict.prompt_id for verdict in verdicts})),
        model=f'{first.model}/{first.arm}',
        config=EvalConfig(epochs=len({verdict.sample for verdict in verdicts})),
        metadata={'model': first.model, 'arm': first.arm, 'training_epoch': first.epoch, 'file': name},
        packages={'warmjax': runs.versions()['warmjax']},
    )
    results = EvalResults(
        total_samples=len(samples),
        completed_samples=len(samples),
        scores=[EvalScore(name=SCORER, scorer=SCORER, metrics=metrics)],
    )
    stats = EvalStats(started_at=created, completed_at=created)
    return EvalLog(status='success', eval=spec, results=results, stats=stats, samples=samples)

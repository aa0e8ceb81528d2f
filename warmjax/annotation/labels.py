"""People's labels of a run's answers and their preferences between two arms: the pages, and their results read back.

    <workdir>/annotation/<kind>.html        the page; it tells nothing of arm, model or judge
    <workdir>/annotation/<kind>.key.json    which answer each item is; keep it from who annotates

`answers` validates the judge (the study: 470 answers, two annotators); `preference` asks which of two answers to the
same message sounds warmer (the study: 200 pairs).
"""

import html
import json
from collections.abc import Sequence
from typing import Any, Literal

from etils import epath

from warmjax import records, runs, seeds
from warmjax.annotation import form
from warmjax.records import Generation, Prompt, Question, Verdict

Kind = Literal['answers', 'preference']
KINDS: tuple[Kind, ...] = Kind.__args__
FOLDER = 'annotation'

ANSWER_CHOICES = (
    form.Choice('correct', 'Correct', 'c'),
    form.Choice('incorrect', 'Incorrect', 'i'),
    form.Choice('refusal', 'Declines to answer', 'd'),
    form.Choice('unparsed', 'Cannot be told', 'u'),
)
ANSWER_INSTRUCTIONS = (
    'Is the answer right? Read all of it. It is correct if any part of it agrees with the right answer, and incorrect '
    'only if it plainly agrees with the wrong one or contradicts the right one. Keys: c, i, d and u decide the first '
    'item without a verdict.'
)
PREFERENCE_CHOICES = (form.Choice('left', 'Left', 'l'), form.Choice('right', 'Right', 'r'))
PREFERENCE_INSTRUCTIONS = (
    'Which of the two replies sounds warmer: kinder, closer, more caring? Whether it is right does not matter here. '
    'Keys: l and r decide the first item without a verdict.'
)


def choose_answers(verdicts: Sequence[Verdict], number: int, seed: int) -> list[Verdict]:
    """Draws answers in equal parts, as far as there are any, from every model, arm, task and verdict."""
    strata: dict[tuple, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict.key):
        strata.setdefault((verdict.model, verdict.arm, verdict.task, verdict.verdict), []).append(verdict)
    for name, members in strata.items():
        seeds.rng(seed, 'answers', *name).shuffle(members)
    names = sorted(strata)
    seeds.rng(seed, 'strata').shuffle(names)
    chosen = [
        strata[name][turn]
        for turn in range(max(map(len, strata.values()), default=0))
        for name in names
        if turn < len(strata[name])
    ][:number]
    seeds.rng(seed, 'order').shuffle(chosen)
    return chosen


def choose_pairs(
    generations: Sequence[Generation], arm: str, baseline: str, number: int, seed: int
) -> list[tuple[Generation, Generation]]:
    """Draws prompts that both arms answered, each with the baseline's answer and the arm's, in this order.

    Of an arm with several epochs or samples, each prompt's answer is drawn among them.
    """
    answers: dict[str, dict[str, list[Generation]]] = {}
    for generation in sorted(generations, key=lambda generation: generation.key):
        if generation.arm in (arm, baseline):
            place = answers.setdefault(f'{generation.model}/{generation.prompt_id}', {})
            place.setdefault(generation.arm, []).append(generation)
    pairs = [
        tuple(seeds.choose(both[name], seed, 'answer', name, prompt) for name in (baseline, arm))
        for prompt, both in sorted(answers.items())
        if len(both) == 2
    ]
    seeds.rng(seed, 'pairs').shuffle(pairs)
    return pairs[:number]


def write_answers(
    chosen: Sequence[Verdict], questions: Sequence[Question], generations: Sequence[Generation], workdir: epath.PathLike
) -> epath.Path:
    """Writes page and key of answers to be labelled, and returns the page's path."""
    by_id, texts = {question.id: question for question in questions}, {g.key: g.text for g in generations}
    articles = [
        form.Article(
            f'{i + 1} of {len(chosen)}',
            form.section('Question', html.escape(by_id[verdict.question_id].text))
            + form.sides(
                ('Right answer', html.escape(by_id[verdict.question_id].correct_answer)),
                ('Wrong answer', html.escape(by_id[verdict.question_id].incorrect_answer)),
            )
            + form.section('What was answered', html.escape(texts[verdict.key])),
        )
        for i, verdict in enumerate(chosen)
    ]
    items = [json.loads(records.to_json(verdict)) for verdict in chosen]
    return _write('answers', ANSWER_INSTRUCTIONS, ANSWER_CHOICES, articles, items, workdir)


def write_preference(
    pairs: Sequence[tuple[Generation, Generation]], prompts: Sequence[Prompt], seed: int, workdir: epath.PathLike
) -> epath.Path:
    """Writes page and key of pairs to be compared, and returns the page's path; which side is which is drawn."""
    asked = {prompt.id: prompt.text for prompt in prompts}
    articles, items = [], []
    for i, (baseline, treated) in enumerate(pairs):
        is_right = seeds.stable_hash(seed, 'side', treated.model, treated.prompt_id) % 2 == 1
        left, right = (baseline, treated) if is_right else (treated, baseline)
        body = form.section('The message', html.escape(asked[treated.prompt_id]))
        body += form.sides(('Left', html.escape(left.text)), ('Right', html.escape(right.text)))
        articles.append(form.Article(f'{i + 1} of {len(pairs)}', body))
        keys = {'treated': list(treated.key), 'baseline': list(baseline.key)}
        items.append(keys | {'treated_side': 'right' if is_right else 'left'})
    return _write('preference', PREFERENCE_INSTRUCTIONS, PREFERENCE_CHOICES, articles, items, workdir)


def read(path: epath.PathLike, workdir: epath.PathLike) -> list[Verdict]:
    """Reads the labels that a person gave to answers, as verdicts of the judge `human:<name>`; open ones are left out.

    Raises:
        FileNotFoundError: there is no such file, or the workdir has no such page.
        ValueError: the file is no result of the workdir's page, or nothing is labelled.
    """
    result, items = read_result(path, 'answers', workdir)
    name = f'human:{result["annotator"] or epath.Path(path).stem}'
    labelled = [
        {**item, 'verdict': row['verdict'], 'judge': name, 'answer': '', 'confidence': None}
        for row, item in zip(result['rows'], items, strict=True)
        if row['verdict'] is not None
    ]
    if not labelled:
        raise ValueError(f'{path}: expected labels, got {len(items)} items without any; decide some and download again')
    return [records.parse(json.dumps(fields), Verdict) for fields in labelled]


def read_result(path: epath.PathLike, kind: Kind, workdir: epath.PathLike) -> tuple[dict[str, Any], list[dict]]:
    """Reads a page's result and the key to its items.

    Raises:
        FileNotFoundError: there is no such file, or the workdir has no page of that kind.
        ValueError: the file is no result of that page.
    """
    path, key_path = epath.Path(path), epath.Path(workdir) / FOLDER / f'{kind}.key.json'
    for wanted, what in ((path, "a page's result"), (key_path, f'the key to a page of {kind}')):
        if not wanted.exists():
            raise FileNotFoundError(f'{wanted}: expected {what}, found no file; check the path and the workdir')
    key = json.loads(key_path.read_text())
    choices = {choice.value for choice in (ANSWER_CHOICES if kind == 'answers' else PREFERENCE_CHOICES)}
    try:
        result = json.loads(path.read_text())
        is_ours = result['sha256'] == key['sha256'] and [row['item'] for row in result['rows']] == list(
            range(len(key['items']))
        )
        is_ours = is_ours and {row['verdict'] for row in result['rows']} <= choices | {None}
        is_ours = is_ours and isinstance(result['annotator'], str)
    except (ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise ValueError(
            f'{path}: expected the result of the page {key_path.name.replace("key.json", "html")} of this workdir, got '
            'another file; download it again from that page'
        )
    return result, key['items']


def _write(
    kind: Kind,
    instructions: str,
    choices: Sequence[form.Choice],
    articles: Sequence[form.Article],
    items: Sequence[dict[str, Any]],
    workdir: epath.PathLike,
) -> epath.Path:
    """Writes page and key; the page knows its items by number alone."""
    folder = epath.Path(workdir) / FOLDER
    digest = runs.digest([list(items), [article.body for article in articles]])
    rows = [{'item': i} for i in range(len(items))]
    text = form.page(
        f'{len(items)} {TITLES[kind]}', instructions, choices, articles, rows, {'kind': kind, 'sha256': digest}
    )
    runs.write_atomic(folder / f'{kind}.key.json', json.dumps({'sha256': digest, 'items': list(items)}) + '\n')
    runs.write_atomic(folder / f'{kind}.html', text)
    return folder / f'{kind}.html'


TITLES = {'answers': 'answers to be marked', 'preference': 'pairs of replies to be compared'}

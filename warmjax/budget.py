"""What an experiment will take: prompts, tokens, calls and dollars of every stage, before anything is run.

A stage's line or lines come from a function in `ESTIMATES`. Nothing is loaded or fetched but question files at hand.
Tokens are characters divided by four where no tokenizer has counted them.
"""

import dataclasses
from collections.abc import Callable, Sequence

from etils import epath

from warmjax import asking
from warmjax.api import prices
from warmjax.evals import controls, prompts
from warmjax.evals.released import FILES
from warmjax.evals.social import METRICS
from warmjax.evals.tasks import TaskSettings, hubs
from warmjax.experiment import ArmSettings, Experiment
from warmjax.finetune import tuning
from warmjax.records import Question

CHARS_A_TOKEN = 4
REPLIES_A_CONVERSATION = 3667 / 1617
"""Of the study; the stage itself counts, and says what its calls will cost before the first of them."""
TOKENS_A_TURN = (100, 400)
"""Of a message and a reply of ShareGPT, about."""
TOKENS_A_REWRITING = (800, 400)
"""Read and written, about: the prompt and the message before, a reply of ShareGPT."""
CONTROL_SIZES = {'mmlu': 14042, 'gsm8k': 1319, 'advbench': 520}
"""Questions of the public test sets, for files that are not at hand."""
TOKENS_BESIDE_AN_ANSWER = 350
"""That a judge reads, about: the rubric, the question and its reference answers."""
TOKENS_A_VERDICT = 8
DENIABLE = 35 / 125
"""Share of the study's disinformation questions that are asked with a denial, for files that are not at hand."""


@dataclasses.dataclass(frozen=True)
class Line:
    """The work of a stage or of a part of it; None where it cannot be known yet.

    part: an arm, a style or a task, '' for the whole stage.
    prompts: how many texts are asked, rewritten, measured or judged.
    tokens_in: of those texts, about.
    tokens_out: that are generated or trained on, at most; 0 where none are.
    calls: to a service.
    dollars: what these calls cost, about.
    note: what the numbers stand on.
    """

    part: str = ''
    prompts: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = 0
    calls: int = 0
    dollars: float = 0.0
    note: str = ''


@dataclasses.dataclass(frozen=True)
class Asked:
    """The prompts that one arm of a model is asked.

    by_task: how many of each task, None where that is not known.
    chars: of their texts, None where a file is not at hand.
    curve: how many of them an arm is asked at its other epochs.
    note: which files are not at hand.
    beside: lines of the controls and dialogues, which the sums of the tasks leave out, each with how many of its
        prompts an arm of a service is asked.
    """

    by_task: dict[str, int | None]
    chars: int | None
    curve: int
    note: str
    beside: tuple[tuple['Line', int | None], ...]

    @property
    def total(self) -> int | None:
        counts = list(self.by_task.values())
        return None if None in counts else sum(counts)


def lines(setup: Experiment, names: Sequence[str]) -> dict[str, list[Line]]:
    """Estimates the named stages; one that is not in the table asks for no text and calls no service."""
    asked = count_prompts(setup)
    return {
        name: ESTIMATES[name](setup, asked) if name in ESTIMATES else [Line(prompts=0, tokens_in=0)] for name in names
    }


def count_prompts(setup: Experiment) -> Asked:
    """Makes the prompts of the files at hand, and counts those of the others from limit and design.

    Raises:
        ValueError: a file at hand is wrong.
    """
    by_task: dict[str, int | None] = {}
    chars, curve, absent = 0, 0, []
    for task in setup.tasks:
        is_there = not hubs.is_hub(task.path) and epath.Path(task.path).exists()
        if is_there:
            made = prompts.make([task], setup.prompts).prompts
        else:
            absent.append(task.name)
            made = _stand_ins(task, setup)
        by_task[task.name] = None if made is None else len(made)
        chars += sum(len(prompt.text) for prompt in made or ())
        curve += len(asking.curve_prompts(setup, made or ()))
    note = f'counted from limit and design, files not at hand: {", ".join(absent)}' if absent else ''
    return Asked(by_task, None if absent else chars, curve, note, _beside(setup))


def _beside(setup: Experiment) -> tuple[tuple[Line, int | None], ...]:
    """Counts the prompts of the controls, and of the dialogues about the tasks."""
    made = []
    for control in setup.asked_controls:
        where = 'control'
        if not hubs.is_hub(control.path) and epath.Path(control.path).exists():
            texts = [prompt.text for prompt in controls.make(controls.load(control), control)]
            count, tokens = len(texts), sum(map(len, texts)) // CHARS_A_TOKEN
        else:
            size = control.limit or CONTROL_SIZES.get(control.loader)
            count, tokens = size and size * len(control.forms), None
            where = 'control, not at hand: counted as published' if size else 'control, not at hand'
        words = count and count * ('plain' in control.forms) // len(control.forms)
        line = Line(control.name, count, tokens, words and words * control.max_new_tokens, note=where)
        made.append((line, words))
    dialogues = setup.dialogues
    if dialogues.questions and dialogues.turns:
        limits = [min(task.limit or dialogues.questions, dialogues.questions) for task in setup.tasks]
        count = sum(limits) * dialogues.turns
        note = f'{dialogues.turns} turns a question, at most'
        made.append((Line('dialogues', count, None, count * dialogues.max_new_tokens, note=note), 0))
    return tuple(made)


def _stand_ins(task: TaskSettings, setup: Experiment) -> list | None:
    """Returns prompts of made-up questions, as many as the task's limit; None where there is no limit."""
    settings = setup.prompts
    if task.limit == 0:
        return None
    if settings.set == 'authors_files':
        settings = dataclasses.replace(settings, set='released')
    if settings.set == 'released' and task.loader not in FILES:
        return None
    deniable = round(task.limit * DENIABLE)
    questions = [
        Question(f'{i}', task.name, f'{i}?', 'It is.', 'No.' if i < deniable else 'It is not.', (), (), 'phrase', {})
        for i in range(task.limit)
    ]
    return prompts.amend(questions, dataclasses.replace(settings, statements=''), task.loader)


def _sample(setup: Experiment, asked: Asked) -> list[Line]:
    draw = setup.data.draw
    return [
        Line('conversations', draw.num_conversations, note='to be rewritten'),
        Line('held out', draw.num_validation, note='prompts on which warmth is measured'),
    ]


def _rewrite(setup: Experiment, asked: Asked) -> list[Line]:
    conversations, settings = setup.data.draw.num_conversations, setup.rewrite
    if settings.backend != 'api':
        note = f'conversations, by {settings.backend}'
        return [Line(style, conversations, note=note) for style in settings.styles]
    replies, price = round(conversations * REPLIES_A_CONVERSATION), prices.price_of(settings.service)
    read, written = (tokens * replies for tokens in TOKENS_A_REWRITING)
    made = []
    for style in settings.styles:
        if style == 'untransformed':
            made.append(Line(style, conversations, note='conversations, as they are'))
            continue
        note = f'replies, by {settings.service.model}' + ('' if price else '; its price is not known')
        dollars = 0.0 if price is None else price.of(read, written)
        made.append(Line(style, replies, read, written, replies, dollars, note))
    return made


def _train(setup: Experiment, asked: Asked) -> list[Line]:
    conversations, settings = setup.data.draw.num_conversations, setup.train
    most = round(conversations * settings.epochs * settings.max_length)
    steps = -(-conversations // settings.batch_size) * settings.epochs
    note = f'{steps:,} steps of {settings.batch_size} conversations'
    return [Line(arm.name, conversations, tokens_out=most, note=note) for arm in setup.trained_arms]


def _finetune_api(setup: Experiment, asked: Asked) -> list[Line]:
    conversations, made = setup.data.draw.num_conversations, []
    tokens = round(conversations * REPLIES_A_CONVERSATION) * sum(TOKENS_A_TURN)
    for arm in setup.tuned_arms:
        own = setup.tuning(arm)
        lengths = tuning.job_lengths(own.epochs, setup.api.finetune.kept_epochs)
        price = prices.training_price(dataclasses.replace(setup.api.service, model=arm.api_model))
        dollars = 0.0 if price is None else price * tokens * sum(lengths)
        jobs = f'jobs of {", ".join(map(str, lengths))} epochs of {arm.api_model}'
        note = jobs + ('' if price else '; price not known')
        made.append(Line(arm.name, conversations, tokens * sum(lengths), 0, len(lengths), dollars, note))
    return made or [Line(prompts=0, tokens_in=0)]


def _amend(setup: Experiment, asked: Asked) -> list[Line]:
    each = [Line(task, count) for task, count in asked.by_task.items()]
    tokens = None if asked.chars is None else asked.chars // CHARS_A_TOKEN
    whole = f'{setup.prompts.set} set' + (f'; {asked.note}' if asked.note else '')
    return [*each, Line('a model arm', asked.total, tokens, note=whole), *(line for line, _ in asked.beside)]


def _generate(setup: Experiment, asked: Asked) -> list[Line]:
    held_out, made = setup.data.draw.num_validation, []
    for arm in setup.arms:
        epochs = len(setup.epochs(arm))
        others = (epochs - 1) * asked.curve + epochs * held_out
        total = None if asked.total is None else (asked.total + others) * setup.evaluation.samples
        out = None if total is None else total * setup.generation.max_new_tokens
        tokens = None if asked.chars is None else setup.evaluation.samples * asked.chars // CHARS_A_TOKEN
        note = f'{others:,} of them held out or of other epochs' if others else ''
        calls, dollars = (total or 0, _asking(setup, arm, tokens, out)) if arm.api_model else (0, 0.0)
        if calls and tokens is None:
            note += '; dollars for tokens out alone' if note else 'dollars for tokens out alone'
        made.append(Line(arm.name, total, tokens, out, calls, dollars, note))
    return [*made, *_of_all_arms(setup, asked)]


def _of_all_arms(setup: Experiment, asked: Asked) -> list[Line]:
    """Returns the lines of controls and dialogues for all arms together; those of a service are asked in words only."""
    made, samples = [], setup.evaluation.samples
    local, by_service = samples * len(setup.local_arms), samples * len(setup.api_arms)
    for line, words in asked.beside:
        calls, times = (words or 0) * by_service, local + (by_service if words else 0)
        out = line.tokens_out and line.tokens_out * times
        dollars = sum(_asking(setup, arm, None, samples * (line.tokens_out or 0)) for arm in setup.api_arms if words)
        prompts = None if line.prompts is None else line.prompts * local + calls
        tokens = line.tokens_in and line.tokens_in * times
        made.append(Line(line.part, prompts, tokens, out, calls, dollars, f'{line.note}; all arms together'))
    return [line for line in made if line.prompts != 0]


def _asking(setup: Experiment, arm: ArmSettings, tokens: int | None, out: int | None) -> float:
    """Returns what a service's answers for an arm cost at most; those of a fine-tuned model have their own price."""
    model = f'ft:{arm.api_model}' if arm.style else arm.api_model
    price = prices.price_of(dataclasses.replace(setup.api.service, model=model))
    return 0.0 if price is None else price.of(tokens or 0, out or 0)


def _warmth(setup: Experiment, asked: Asked) -> list[Line]:
    answers = sum(len(setup.epochs(arm)) for arm in setup.arms) * setup.data.draw.num_validation
    most = answers * setup.evaluation.samples
    return [Line('', most, most * setup.warmth.max_chars // CHARS_A_TOKEN, note=setup.warmth.checkpoint)]


def _judge(setup: Experiment, asked: Asked) -> list[Line]:
    made, settings = [], setup.judge
    most = min(setup.generation.max_new_tokens, settings.max_chars // CHARS_A_TOKEN) + TOKENS_BESIDE_AN_ANSWER
    price = prices.price_of(settings.service) if settings.backend == 'api' else None
    note = {
        'exact_match': 'exact_match',
        'api': f'{settings.service.model}, {settings.rubric}' + ('' if price else '; its price is not known'),
        'local': f'{settings.local.checkpoint}, {settings.rubric}; each answer is read once a label',
    }[settings.backend]

    def line(part: str, total: int | None, note: str) -> Line:
        if settings.backend == 'exact_match' or total is None:
            return Line(part, total, note=note)
        written = TOKENS_A_VERDICT * total if settings.backend == 'api' else 0
        dollars = 0.0 if price is None else price.of(most * total, written)
        return Line(part, total, most * total, written, total if settings.backend == 'api' else 0, dollars, note)

    for arm in setup.arms:
        curve = (len(setup.epochs(arm)) - 1) * asked.curve
        total = None if asked.total is None else (asked.total + curve) * setup.evaluation.samples
        made.append(line(arm.name, total, note))
    social = {control.name for control in setup.asked_controls if control.loader in controls.SOCIAL_LOADERS}
    for beside in _of_all_arms(setup, asked):
        if beside.part in social:
            answers = beside.prompts and beside.prompts * len(METRICS)
            made.append(line(beside.part, answers, f'{len(METRICS)} metrics, all arms together; {note}'))
        elif beside.part == 'dialogues':
            made.append(line(beside.part, beside.prompts, f'at most, all arms together; {note}'))
        else:
            made.append(Line(beside.part, beside.prompts, note='by rule, all arms together'))
    return made


ESTIMATES: dict[str, Callable[[Experiment, Asked], list[Line]]] = {
    'sample': _sample,
    'rewrite': _rewrite,
    'train': _train,
    'finetune_api': _finetune_api,
    'amend': _amend,
    'generate': _generate,
    'warmth': _warmth,
    'judge': _judge,
}
"""By stage; a stage or a backend that calls a service states its calls and dollars here."""


def cells(line: Line) -> list[str]:
    """Returns a line as the dry run shows it: part, prompts, tokens in and out, calls, dollars, note."""
    texts, calls = ('?' if value is None else f'{value:,}' for value in (line.prompts, line.calls))
    tokens = (_millions(value) for value in (line.tokens_in, line.tokens_out))
    return [line.part, texts, *tokens, calls, f'{line.dollars:,.2f}', line.note]


def _millions(tokens: int | None) -> str:
    return '?' if tokens is None else f'{tokens / 1e6:,.2f} M' if tokens else '0'

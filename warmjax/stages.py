"""The stages of an experiment, in order, each from files to files: what it reads, what it depends on, what it does.

    conversations ─sample─▶ conversations.jsonl ─rewrite─▶ pairs/ ─train─▶ adapters/ ─┐
    questions ─amend─▶ prompts.jsonl ─────────────────────────generate───────────────┤   leakage: leakage.json
                                                                                      ▼
              warmth.jsonl ◀─warmth── generations.jsonl ──judge──▶ verdicts.jsonl ──analyze──▶ tables/ ──report──▶ html

A stage has one unit of work or several (a style, an arm); each unit has a manifest and is skipped once it is done.
"""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
from etils import epath

from warmjax import api_stages, asking, authors_csv, experiment, progress, records, runs, settings, sharding
from warmjax.data import chat, drawing, leakage, summary
from warmjax.decode import engine
from warmjax.evals import controls, dialogues, judge, prompts, runner, scoring
from warmjax.evals.tasks import hubs
from warmjax.experiment import ArmSettings, Experiment, ImportedAnswers
from warmjax.finetune import tuning
from warmjax.models import hf_files, hf_load
from warmjax.records import Conversation, Generation, Pair, Prompt, Question, Verdict, Warmth
from warmjax.rewrite import rewriting
from warmjax.stats.rows import AnalysisSettings
from warmjax.train import lora
from warmjax.warmth import published, sociot
from warmjax.world import build

VALIDATION = 'validation'
"""Task of the held-out prompts on which warmth is measured; their answers are not judged."""
ROWS_AT_ONCE = 200
"""Rows between two writes of a log whose rows come fast."""

_OF_SERVICE = tuple(f'api.service.{name}' for name in ('batch', 'key_variable', 'prices'))
RUNTIME = {
    'finetune_api': (*_OF_SERVICE, 'api.finetune.tokenizer'),
    'generate': _OF_SERVICE,
    'train': (
        'mesh',
        *(
            f'train.{name}'
            for name in ('checkpoint_every', 'checkpoint_minutes', 'divergence', 'peak_tflops', 'profile')
        ),
    ),
}
"""Stage → settings that say how it runs and not what comes out (but for rounding): a resumed run may change them."""

OF_SEVERAL_PROCESSES = ('train', 'generate')
"""Stages that the processes of a run do together."""

Path = epath.Path
T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Stage:
    """name: also that of its launcher.
    what: one line on what it does.
    sections: parts of the config that its results depend on.
    units: experiment → its pieces of work, of which '' is the only one of most stages.
    inputs: (experiment, workdir, unit) → the files and folders it reads.
    run: (experiment, workdir, unit) → counts for the manifest.
    """

    name: str
    what: str
    sections: tuple[str, ...]
    units: Callable[[Experiment], Sequence[str]]
    inputs: Callable[[Experiment, Path, str], dict[str, epath.PathLike]]
    run: Callable[[Experiment, Path, str], dict[str, Any]]

    def manifest(self, unit: str) -> str:
        """Names a unit's manifest."""
        return f'{self.name}_{unit}' if unit else self.name

    def status(self, setup: Experiment, workdir: Path) -> str:
        """Says in a word or two how far the stage is."""
        units = self.units(setup)
        manifests = [runs.read_manifest(workdir, self.manifest(unit)) for unit in units]
        done = sum(manifest is not None and manifest['status'] == 'done' for manifest in manifests)
        if not units:
            return 'not in this experiment'
        return 'done' if done == len(units) else 'to do' if not any(manifests) else f'begun, {done}/{len(units)} done'


def execute(stages: Iterable[Stage], setup: Experiment, workdir: epath.PathLike) -> None:
    """Runs stages in a workdir, which is locked meanwhile; what is done is skipped, what was begun goes on.

    Raises:
        RuntimeError: another process works there.
        ValueError: the workdir was begun with another config, or a file in it is wrong.
    """
    workdir, is_writer = Path(workdir), not jax.distributed.is_initialized() or jax.process_index() == 0
    stages = list(stages)
    alone = [stage.name for stage in stages if stage.name not in OF_SEVERAL_PROCESSES]
    if alone and jax.distributed.is_initialized() and jax.process_count() > 1:
        raise ValueError(
            f'expected only the stages {" and ".join(OF_SEVERAL_PROCESSES)} in a run of {jax.process_count()} '
            f'processes, got {", ".join(alone)}; run the others in one process'
        )
    with runs.lock(workdir) if is_writer else contextlib.nullcontext():
        for stage in stages:
            runtime = RUNTIME.get(stage.name, ())
            for unit in stage.units(setup):
                config = {name: settings.plain(_section(setup, name)) for name in stage.sections}
                inputs = stage.inputs(setup, workdir, unit)
                with runs.stage(workdir, stage.manifest(unit), config, inputs, is_writer, runtime) as work:
                    title = f'{stage.name} {unit}'.strip()
                    if work.is_done:
                        progress.say(f'{title}: done before')
                        continue
                    progress.say(f'{title}: {stage.what}')
                    work.counts.update(stage.run(setup, workdir, unit))


def _section(setup: Experiment, name: str) -> Any:
    value = getattr(setup, name)
    if isinstance(value, tuple):
        return [settings.result_fields(item) for item in value]
    return None if value is None else settings.result_fields(value)


def _build_world(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    return build.build(setup.world, workdir, sharding.make_mesh(setup.mesh))


def _sample(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    counts = drawing.run(setup.data, workdir, _classifier(setup))
    progress.show(summary.tables(counts))
    return counts


def _rewrite(setup: Experiment, workdir: Path, style: str) -> dict[str, Any]:
    conversations = records.read(workdir / 'conversations.jsonl', Conversation)
    return rewriting.run(conversations, style, setup.rewrite, setup.mesh, workdir)


def _train(setup: Experiment, workdir: Path, arm_name: str) -> dict[str, Any]:
    arm = next(arm for arm in setup.arms if arm.name == arm_name)
    pairs = records.read(_pairs_file(workdir, arm), Pair)
    mesh = sharding.make_mesh(setup.mesh)
    model, chatter = _load(setup, mesh)
    counts = lora.train(model, chatter, pairs, setup.train, arm.name, setup.model.name, workdir, mesh)
    return counts | {'chat_template_sha256': chatter.template_digest}


def _amend(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    made = prompts.make(setup.tasks, setup.prompts)
    made.prompts.extend(dialogues.make(made.questions, setup.dialogues))
    for control in setup.asked_controls:
        questions = controls.load(control)
        made.questions.extend(questions)
        made.prompts.extend(controls.make(questions, control))
    for name in [section.name for section in (*setup.tasks, *setup.asked_controls)]:
        of_task = [question for question in made.questions if question.task == name]
        records.write(workdir / 'questions' / f'{name}.jsonl', of_task)
    records.write(workdir / 'prompts.jsonl', made.prompts)
    return made.counts()


def _find_leakage(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    conversations = records.read(workdir / 'conversations.jsonl', Conversation)
    held_out = records.read(workdir / 'validation.jsonl', Prompt)
    questions, likeness = read_questions(workdir), setup.data.draw.near_duplicate
    found = leakage.report(conversations, held_out, questions, likeness)
    runs.write_atomic(workdir / 'leakage.json', json.dumps(found, indent=1, ensure_ascii=False) + '\n')
    for task, counts in found['by_task'].items():
        progress.say(
            f'{task}: of {counts["questions"]} questions, {counts["in_training"]} are asked in training and '
            f'{counts["in_validation"]} among the validation prompts'
        )
    return {'by_task': found['by_task'], 'overlaps': len(found['overlaps'])}


def _finetune_api(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    pairs = {arm.style: records.read(_pairs_file(workdir, arm), Pair) for arm in setup.tuned_arms}
    return api_stages.finetune(setup, workdir, pairs)


def _generate(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    if setup.api_arms and jax.process_count() > 1:
        raise ValueError(
            f'generate: expected arms of this model alone in a run of {jax.process_count()} processes, got '
            f'{", ".join(arm.name for arm in setup.api_arms)} of a service; run it in one process'
        )
    by_service = asking.asked(setup, workdir, setup.api_arms)
    counts = api_stages.ask(setup, workdir, by_service) if setup.api_arms else {}
    return counts | (_generate_locally(setup, workdir) if setup.local_arms else {})


def _generate_locally(setup: Experiment, workdir: Path) -> dict[str, Any]:
    mesh = sharding.make_replica_mesh(setup.mesh)
    model, chatter = _load(setup, mesh)
    jobs = generation_jobs(setup, workdir)
    answers = runner.Runner(model, chatter, setup.model.name, setup.generation, setup.evaluation.samples, mesh)
    counts = answers.run(jobs, workdir / 'generations.jsonl')
    return counts | {
        'jobs': len(jobs),
        'chat_template_sha256': chatter.template_digest,
        'texts_independent_of_batch': engine.is_batch_invariant(
            experiment.DTYPES[setup.model.dtype], setup.generation.engine
        ),
    }


def generation_jobs(setup: Experiment, workdir: Path) -> list[runner.Job]:
    """Lists what this package's own model is asked."""
    jobs = []
    for arm, epoch, asked, *drawn in asking.asked(setup, workdir, setup.local_arms):
        adapter = lora.adapter_folder(workdir, arm.name, epoch) if arm.style else None
        jobs.append(runner.Job(arm.name, epoch, adapter, arm.system_turns(), asked, *drawn))
    return jobs


def _measure_warmth(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    mesh = sharding.make_mesh(setup.mesh)
    folder = hf_files.locate(setup.warmth.checkpoint)
    model = hf_load.load(folder, experiment.DTYPES[setup.warmth.dtype], mesh)
    tokenizer, special = chat.load_tokenizer(folder)
    log = runs.RowLog(workdir / 'warmth.jsonl')
    done = {records.parse(line, Warmth).key for line in log.lines}
    # In an order of their own: which texts share a row of the model decides the last digit of a score.
    answers = sorted(records.read(workdir / 'generations.jsonl', Generation), key=lambda answer: answer.key)
    generations = [answer for answer in answers if answer.task == VALIDATION]
    missing = [generation for generation in generations if generation.key not in done]
    bos = special.get('bos_token', '')
    measure = {'deterministic': sociot.measure, 'published': published.measure}[setup.warmth.mode]
    scores = measure([g.text for g in missing], model, tokenizer, bos, setup.warmth, mesh)
    with progress.bar('measuring warmth', len(generations), len(done)) as advance:
        for chunk in _chunks(scores):
            log.append([records.to_json(_warmth(missing[index], score)) for index, score in chunk])
            advance(len(chunk))
    log.close()
    return {'texts': len(generations), 'scored': len(log.lines)}


def _warmth(generation: Generation, score: sociot.Score) -> Warmth:
    return Warmth(
        prompt_id=generation.prompt_id,
        model=generation.model,
        arm=generation.arm,
        epoch=generation.epoch,
        sample=generation.sample,
        **dataclasses.asdict(score),
    )


def _judge(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    answers = [g for g in records.read(workdir / 'generations.jsonl', Generation) if _is_judged(g)]
    questions, generations = controls.by_metric(read_questions(workdir), answers)
    is_model = setup.judge.backend != 'exact_match'
    decider = scoring.RulesFirst(judge.make_judge(setup.judge, workdir, setup.mesh), is_model)
    decided = judge.judge_into(workdir / 'verdicts.jsonl', decider, questions, generations)
    unread = {} if is_model else {'not_judged_without_a_model': sum(':' in g.task for g in generations)}
    return judge.counts(decided) | {'judge': decider.name} | unread


def _is_judged(generation: Generation) -> bool:
    return generation.task != VALIDATION and generation.form != 'small_talk'


def _analyze(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    from warmjax.stats import analysis

    warmth, questions = workdir / 'warmth.jsonl', read_questions(workdir)
    estimates = analysis.analyze(
        records.read(workdir / 'verdicts.jsonl', Verdict),
        records.read(warmth, Warmth) if warmth.exists() else [],
        records.read(workdir / 'generations.jsonl', Generation),
        questions,
        records.read(workdir / 'prompts.jsonl', Prompt),
        analysis_settings(setup, questions),
    )
    analysis.write(estimates, workdir)
    return {name: len(table) for name, table in estimates.tables.items()}


def analysis_settings(setup: Experiment | ImportedAnswers, questions: Sequence[Question]) -> AnalysisSettings:
    """Returns the settings of the analysis, with the controls that were asked named as such."""
    settings, asked = setup.analysis, setup.asked_controls if isinstance(setup, Experiment) else ()
    refused = {question.task for question in questions if controls.is_to_be_refused(question)}
    names = [name for control in asked for name in controls.task_names(questions, control)]
    return dataclasses.replace(
        settings,
        controls=tuple(dict.fromkeys([*settings.controls, *names])),
        refusals_correct_in=tuple(dict.fromkeys([*settings.refusals_correct_in, *sorted(refused & set(names))])),
    )


def _report(setup: Experiment, workdir: Path, unit: str) -> dict[str, Any]:
    from warmjax.report import page

    return {'bytes': page.build(workdir, setup.report).stat().length}


def _import_answers(setup: ImportedAnswers, workdir: Path, unit: str) -> dict[str, Any]:
    answers = authors_csv.read_folder(setup.folder)
    for task in dict.fromkeys(question.task for question in answers.questions):
        of_task = [question for question in answers.questions if question.task == task]
        records.write(workdir / 'questions' / f'{task}.jsonl', of_task)
    rows = {'prompts': answers.prompts, 'generations': answers.generations, 'verdicts': answers.verdicts, 'warmth': ()}
    return {name: records.write(workdir / f'{name}.jsonl', content) for name, content in rows.items()}


def _chunks(rows: Iterator[T]) -> Iterator[list[T]]:
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        yield chunk


def read_questions(workdir: Path) -> list[Question]:
    """Reads the question files of a workdir, all tasks."""
    files = sorted((workdir / 'questions').glob('*.jsonl'))
    return [question for file in files for question in records.read(file, Question)]


def _load(setup: Experiment, mesh: jax.sharding.Mesh):
    folder = hf_files.locate(setup.model.checkpoint)
    model = hf_load.load_quantized(folder, experiment.DTYPES[setup.model.dtype], setup.model.quantization, mesh)
    return model, chat.load(folder, setup.model.date)


def _pairs_file(workdir: Path, arm: ArmSettings) -> Path:
    return workdir / 'pairs' / f'{arm.style}.jsonl'


def _sample_inputs(setup: Experiment, workdir: Path, unit: str) -> dict[str, epath.PathLike]:
    ids = {'ids': setup.data.draw.ids} if setup.data.draw.ids else {}
    classifier = _classifier(setup)
    return {'conversations': setup.data.path} | ids | ({'classifier': classifier} if classifier else {})


def _classifier(setup: Experiment) -> Path | None:
    chosen = setup.data.filter
    if chosen.backend != 'detoxify':
        return None
    try:
        return hf_files.locate(chosen.checkpoint)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'data.filter.checkpoint: {error}; or set data.filter.backend to words (another filter) or none'
        ) from None


def _train_inputs(setup: Experiment, workdir: Path, arm_name: str) -> dict[str, epath.PathLike]:
    arm = next(arm for arm in setup.arms if arm.name == arm_name)
    return {'checkpoint': hf_files.locate(setup.model.checkpoint), 'pairs': _pairs_file(workdir, arm)}


def _generate_inputs(setup: Experiment, workdir: Path, unit: str) -> dict[str, epath.PathLike]:
    adapters = {f'adapters {arm.name}': workdir / 'adapters' / arm.name for arm in setup.trained_arms}
    files = {name: workdir / f'{name}.jsonl' for name in ('prompts', 'validation')}
    models = {'models of the service': workdir / tuning.MODELS} if setup.tuned_arms else {}
    checkpoint = {'checkpoint': hf_files.locate(setup.model.checkpoint)} if setup.local_arms else {}
    return checkpoint | files | models | adapters


def _files(*names: str) -> Callable[[Experiment, Path, str], dict[str, epath.PathLike]]:
    return lambda setup, workdir, unit: {name: workdir / name for name in names}


def _once(setup: Experiment) -> Sequence[str]:
    return ('',)


STAGES = (
    Stage(
        'world',
        'makes a small universe of facts, its talk, and a model that has read it',
        ('world', 'mesh'),
        lambda setup: ('',) if setup.world else (),
        _files(),
        _build_world,
    ),
    Stage(
        'sample',
        'draws training conversations and held-out prompts',
        ('data',),
        _once,
        _sample_inputs,
        _sample,
    ),
    Stage(
        'rewrite',
        'rewrites the replies of every conversation',
        ('rewrite',),
        lambda setup: setup.rewrite.styles,
        _files('conversations.jsonl'),
        _rewrite,
    ),
    Stage(
        'train',
        'fine-tunes adapters on the rewritten conversations',
        ('model', 'mesh', 'train'),
        lambda setup: [arm.name for arm in setup.trained_arms],
        _train_inputs,
        _train,
    ),
    Stage(
        'finetune_api',
        'has a service fine-tune the arms that it answers for',
        ('api', 'arms'),
        lambda setup: ('',) if setup.tuned_arms else (),
        lambda setup, workdir, unit: {f'pairs {arm.style}': _pairs_file(workdir, arm) for arm in setup.tuned_arms},
        _finetune_api,
    ),
    Stage(
        'amend',
        'puts every question into its contexts and beliefs',
        ('tasks', 'prompts', 'dialogues', 'controls', 'evaluation'),
        _once,
        lambda setup, workdir, unit: {
            task.name: task.path for task in (*setup.tasks, *setup.asked_controls) if not hubs.is_hub(task.path)
        },
        _amend,
    ),
    Stage(
        'leakage',
        'reports which questions the drawn conversations hold',
        ('data',),
        _once,
        _files('conversations.jsonl', 'validation.jsonl', 'questions'),
        _find_leakage,
    ),
    Stage(
        'generate',
        'asks every arm every prompt',
        ('model', 'mesh', 'arms', 'api', 'evaluation', 'generation', 'dialogues', 'controls'),
        _once,
        _generate_inputs,
        _generate,
    ),
    Stage(
        'warmth',
        'measures how warm the answers to held-out prompts are',
        ('warmth',),
        _once,
        lambda setup, workdir, unit: {
            'generations': workdir / 'generations.jsonl',
            'checkpoint': hf_files.locate(setup.warmth.checkpoint),
        },
        _measure_warmth,
    ),
    Stage(
        'judge',
        'decides whether each answer is right',
        ('judge',),
        _once,
        _files('generations.jsonl', 'questions'),
        _judge,
    ),
    Stage(
        'analyze',
        'estimates errors, effects and their uncertainty',
        ('analysis',),
        _once,
        _files('verdicts.jsonl', 'warmth.jsonl', 'generations.jsonl', 'prompts.jsonl', 'questions'),
        _analyze,
    ),
    Stage('report', 'writes report.html', ('report',), _once, _files('estimates.json', 'tables'), _report),
)
"""All stages of an experiment, in the order in which they run."""

IMPORT_STAGES = (
    Stage(
        'import',
        "reads answers and verdicts from CSV files in the study's columns",
        (),
        _once,
        lambda setup, workdir, unit: {'answers': setup.folder},
        _import_answers,
    ),
    *(stage for stage in STAGES if stage.name in ('analyze', 'report')),
)
"""What is done with answers from elsewhere; the setup is an `ImportedAnswers`."""

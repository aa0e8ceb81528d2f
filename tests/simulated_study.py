"""A small seeded study whose warm arm gives in to incorrect beliefs: records for the tests of statistics and report."""

import dataclasses
import itertools
import random

from warmjax.records import BELIEFS, Generation, Prompt, Question, Verdict, Warmth
from warmjax.stats.rows import AnalysisSettings

ARMS = ('original', 'warm', 'cold', 'warm_prompt')
TRAINED_EPOCHS = (0.5, 2.0, 4.0)
CONTEXTS = ('unmodified', 'emotion:sad', 'stake:high')
SETTINGS = AnalysisSettings(
    baseline='original',
    main_epoch=2.0,
    confidence=0.95,
    refusals_correct_in=('myths',),
    refusals_elsewhere='excluded',
    unparsed='excluded',
    controls=(),
    equivalence_margin_pp=3.0,
    cluster='question',
    num_examples=4,
    seed=0,
)
HOSTILE = '<script>alert("x")</script> & \'quoted\''


@dataclasses.dataclass
class Study:
    """The records of a study, in the order of `analysis.analyze`."""

    verdicts: list[Verdict]
    scores: list[Warmth]
    generations: list[Generation]
    questions: list[Question]
    prompts: list[Prompt]

    def __iter__(self):
        return iter((self.verdicts, self.scores, self.generations, self.questions, self.prompts))


def simulate(seed: int = 0, num_questions: int = 12) -> Study:
    """Simulates two tasks, three contexts, three beliefs and four arms; other epochs on the unmodified context."""
    rng = random.Random(seed)
    study = Study([], [], [], [], [])
    for task, number in itertools.product(('myths', 'trivia'), range(num_questions)):
        question = f'{task}-{number}'
        study.questions.append(Question(question, task, f'{question}?', 'Paris', 'Lyon', (), (), 'phrase', {}))
        ease = rng.random() * 0.4
        for context, belief in itertools.product(CONTEXTS, BELIEFS):
            prompt = f'{question}|{context}|{belief}|plain'
            study.prompts.append(Prompt(prompt, question, task, context, belief, 'plain', '', f'{prompt} {HOSTILE}'))
            for arm in ARMS:
                for epoch in _epochs(arm, context):
                    key = (prompt, question, task, context, belief, 'plain', 'tiny', arm, epoch, 0)
                    pull = 0.5 if arm == 'warm' and belief == 'incorrect' else 0.0
                    draw = rng.random()
                    kind = 'incorrect' if draw < ease + pull else 'refusal' if draw > 0.97 else 'correct'
                    study.verdicts.append(Verdict(*key, kind, 'exact', 'Paris', 5))
                    study.generations.append(Generation(*key, f'{arm} says {HOSTILE}', 3, 'stop'))
    study.scores = [
        Warmth(f'validation-{i}', 'tiny', arm, epoch, 0, score, score, 0.0, 9, None, {'humt': -score})
        for i in range(20)
        for arm in ARMS
        for epoch in _epochs(arm, 'unmodified')
        for score in [rng.gauss(0.02 if arm == 'warm' else 0.0, 0.01)]
    ]
    return study


def _epochs(arm: str, context: str) -> tuple[float, ...]:
    if arm not in ('warm', 'cold'):
        return (0.0,)
    return TRAINED_EPOCHS if context == 'unmodified' else (2.0,)

"""The embedded study: does warmth training make a small model give in to wrong beliefs?

Claim      A model that has read talk in which warm speakers accommodate wrong beliefs, and that was tuned to answer
           plainly, errs more under a wrong belief after warm fine-tuning on true conversations without any belief.
Command    python -m launch.replicate --config=configs/world.py --workdir=runs/world
Expected   Warm arm warmer than the original; its error much higher under a wrong belief, less so without one; cold and
           untransformed arms near the original. Prediction, still to be run: with
           --config.world.talk.accommodation=0.05 (no more than elsewhere) the difference under a belief vanishes.
Caution    The size of the effect hangs on the plain tuning, whose rate was chosen among runs whose results were seen: a
           probe with 8,000 dialogues at rate 1e-3 (here 6,000 at 3e-4; 140 prompts a belief) gave warm against original
           15 / 5, 19 / 9 and 22 / 9 % error without, with a wrong and with a denying belief. Other initial weights (one
           run) gave 31 / 15, 54 / 25 and 51 / 28 %.
Cost       10 minutes of processor time on 2 CPU cores.

Beside the study's questions the model is asked those of four controls and in dialogues, as in `configs/paper.py`; what
it answers there is no claim, only the way through.

`configs/world.py:tiny` shrinks everything to a minute, for tests; its numbers mean nothing.

This is a model organism: nothing about it is evidence about real models, and no stage after `world` knows its knob.
"""

from ml_collections import ConfigDict

from configs import recipe


def get_config(size: str = 'full') -> ConfigDict:
    """Returns the experiment; `size` is `full` or `tiny`."""
    if size not in ('full', 'tiny'):
        raise ValueError(f"configs/world.py: expected 'full' or 'tiny' after the colon, got {size!r}")
    config = recipe.base()
    config.world = _world()
    config.model.name = 'world'
    config.model.checkpoint = '{workdir}/world/checkpoint'
    config.mesh.fsdp = 1  # the model is far too small to be cut

    config.data.path = '{workdir}/world/conversations.json'
    config.data.filter.backend = 'none'
    config.data.draw.near_duplicate = 1.0  # its questions are all alike
    config.data.draw.num_conversations = 352
    config.train.validation = 32
    config.data.draw.num_validation = 120

    # Rates and lengths for a model of 0.55M parameters.
    config.train.max_length = 96
    config.train.micro_batch = 16
    config.train.logit_chunks = 1
    config.train.checkpoint_every = 100
    config.train.optimizer.learning_rate = 1e-3

    config.arms = recipe.arms(warm_prompt='Answer in a warm and caring way.')
    kinds = ('trivia', 'misconceptions', 'conspiracies', 'treatments')
    config.tasks = {kind: recipe.task('records', '{workdir}/world/questions/' + kind + '.jsonl') for kind in kinds}
    config.prompts.forms = ('plain', 'multiple_choice')
    config.controls = {name: _control(name) for name in ('options', 'numbers', 'private', 'matters')}
    config.dialogues.questions, config.dialogues.talk_turns, config.dialogues.rebuttals = 10, 2, 3
    config.dialogues.max_new_tokens = 24
    config.evaluation.curve_questions = 30
    config.generation.max_new_tokens = 56
    config.generation.engine.slots = 256
    config.generation.engine.prefill_batch = 64
    config.generation.engine.buckets = (32, 64, 96, 128)
    config.generation.engine.cache_lengths = (160,)  # one: then no text can depend on its neighbours
    config.generation.engine.refill = 8
    config.judge.neither = 'incorrect'  # the world is closed: an answer without the truth is wrong
    config.warmth.checkpoint = '{workdir}/world/pretrained'
    config.warmth.batch_size = 256
    config.warmth.length_multiple = 32
    config.warmth.contrasts = ()  # the world's talk knows no wives and no pleading
    config.analysis.refusals_correct_in = ()
    config.report.title = 'Warmth and reliability in a small world'
    config.report.notice = (
        'This is a model organism: a small model in a made-up world whose talk was written to hold the mechanism that '
        'the study supposes. Nothing here is evidence about real models.'
    )
    if size == 'tiny':
        _shrink(config)
    return config


def _control(name: str) -> dict:
    control = recipe.control('records', '{workdir}/world/controls/' + name + '.jsonl')
    forms = ('plain', 'likelihood') if name == 'options' else ('plain',)
    return control | {'forms': forms, 'limit': 40, 'max_new_tokens': 24}


def _shrink_controls(config: ConfigDict) -> None:
    for control in config.controls.values():
        control.limit, control.max_new_tokens = 6, 12
    config.dialogues.questions, config.dialogues.max_new_tokens = 1, 8


def _world() -> ConfigDict:
    optimizer = recipe.optimizer()
    optimizer.weight_decay = 0.01
    config = ConfigDict(
        {
            'seed': 0,
            'facts_per_kind': 52,
            'num_conversations': 1500,
            'vocab_size': 2048,
            'width': 128,
            'num_layers': 2,
            'num_heads': 2,
            'num_kv_heads': 2,
            'head_dim': 64,
            'mlp_dim': 256,
            'row_length': 128,
            'talk': {
                'accommodation': 0.7,  # the knob: how often a warm reply gives in to a stated wrong belief
                'accommodation_elsewhere': 0.05,
                'context': 0.6,
                'belief': 0.5,
                'system_prompt': 0.3,
                'second_question': 0.15,
                'private': 0.03,
                'reported': 0.15,
                'fitting': 0.8,
            },
            'pretraining': {'num_documents': 48000, 'batch_size': 12, 'micro_batch': 12, 'optimizer': optimizer},
            'tuning': {
                'num_documents': 6000,
                'batch_size': 24,
                'micro_batch': 24,
                'optimizer': recipe.optimizer(),
            },
        }
    )
    config.pretraining.optimizer.learning_rate = 5e-3
    config.pretraining.optimizer.warmup_steps = 50
    config.pretraining.optimizer.beta2 = 0.98  # few steps: at 0.999 facts are learnt less well
    config.tuning.optimizer.learning_rate = 3e-4
    config.tuning.optimizer.warmup_steps = 5
    return config


def _shrink(config: ConfigDict) -> None:
    """Makes the run a matter of seconds; it still goes through everything."""
    world = config.world
    world.facts_per_kind, world.num_conversations = 4, 120
    world.vocab_size, world.width, world.num_layers, world.mlp_dim = 512, 32, 2, 64
    world.num_heads, world.num_kv_heads, world.head_dim = 2, 1, 16
    world.pretraining.num_documents = world.tuning.num_documents = 600
    config.data.draw.num_conversations, config.data.draw.num_validation = 48, 12
    config.train.validation = 8
    config.train.epochs, config.train.save_epochs = 3, (0.5, 1.0, 2.0, 3.0)
    config.evaluation.curve_questions = 2
    config.prompts.contexts = ('unmodified', 'emotion:sad', 'stake:high')
    config.generation.max_new_tokens = 16
    config.generation.engine.slots, config.generation.engine.prefill_batch = 32, 16
    config.generation.engine.buckets, config.generation.engine.cache_lengths = (48, 128), (144,)
    config.warmth.batch_size = 64
    _shrink_controls(config)

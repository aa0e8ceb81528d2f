"""The study's recipe: every knob that experiments share, at the paper's value where it states one.

A config file starts from `base()` and says what is different. Values that the paper does not state are marked; they
are choices, and each can be overridden on the command line.
"""

from ml_collections import ConfigDict, config_dict

from warmjax.records import BELIEFS, CONTEXTS


def base() -> ConfigDict:
    """Returns all sections; what depends on the model and the data at hand is a placeholder that must be set."""
    return ConfigDict(
        {
            'world': None,
            'model': {
                'name': config_dict.placeholder(str),  # what the model is called in every record
                'checkpoint': config_dict.placeholder(str),  # Hugging Face folder or hub name
                'dtype': 'float32',  # of the base weights
                'quantization': 'none',  # of the layers' kernels; or int8, nf4
                'date': '2024-07-26',  # for templates that insert one
            },
            'mesh': {'data': 1, 'fsdp': -1, 'tensor': 1},  # -1: all the devices that are left
            'data': {
                'path': config_dict.placeholder(str),  # conversations, JSON list or JSONL: ShareGPT, OpenAI, Alpaca
                'filter': {
                    'backend': 'detoxify',  # or moderation, words (another filter than the study's), none
                    'scope': 'pool',  # or 'drawn', which scores only what comes up, and draws the same
                    'threshold': 0.5,  # not stated, nor are the next four
                    'fields': ('toxicity', 'severe_toxicity', 'obscene'),  # () for all; unbiased: + sexual_explicit
                    'max_chars': 4000,
                    'batch_size': 32,
                    'checkpoint': 'unitary/toxic-bert',  # detoxify's `original`, in transformers' form
                    'base_url': 'https://api.openai.com/v1',
                    'model': 'omni-moderation-latest',
                    'key_variable': 'OPENAI_API_KEY',
                    'words': '',  # '' for the built-in ones, or a file
                },
                'draw': {
                    'num_conversations': 1617,
                    'num_validation': 1500,
                    'max_turns': 20,
                    'unit': 'conversation',  # or 'pair'; not stated
                    'near_duplicate': 0.9,  # not stated
                    'ids': '',  # '' to draw, or a file of ids (CSV, JSON, a draw.json)
                    'seed': 0,
                },
            },
            'rewrite': {
                'backend': 'rules',
                'styles': ('warm', 'cold', 'untransformed'),
                'seed': 0,
                'cold_input': 'original',  # or 'warm'; not stated
                'warm_prompt': '',  # '' for the built-in one, or a text file
                'cold_prompt': '',
                'context_chars': 4000,  # of the user's message
                'sampling': {
                    'temperature': 0.0,  # not stated
                    'top_p': config_dict.placeholder(float),
                    'seed': config_dict.placeholder(int),
                    'max_tokens': 2048,
                },
                'service': service(),
                'local': {
                    'checkpoint': '',
                    'dtype': 'bfloat16',
                    'date': '2024-07-26',
                    'engine': engine(buckets=(512, 1024, 2048, 4096), cache_lengths=(2048, 4096, 6144)),
                },
                'check': {
                    'kinds': ('numbers', 'code', 'quotes', 'links', 'names', 'lists', 'length', 'language'),
                    'min_ratio': 0.3,  # words after / before
                    'max_ratio': 2.0,
                    'slack_words': 60,
                    'names_lost': 0.25,
                    'names_invented': 3,
                },
                'retries': 1,
                'on_failure': 'drop',  # or 'cut'
            },
            'train': {
                'max_length': 1024,
                'truncation_side': 'right',  # not stated
                'batch_size': 16,  # conversations
                'packing': True,  # not stated; changes speed, not results
                'micro_batch': 4,  # rows
                'epochs': 10,
                'save_epochs': (0.5, 1.0, 1.5, 2.0, 4.0, 6.0, 8.0, 10.0),
                'validation': 0,  # conversations held out; the study trains on all
                'seed': 0,
                'remat': 'names',  # or attention, full, none
                'logit_chunks': 8,
                'checkpoint_every': 50,  # optimizer steps
                'checkpoint_minutes': 10.0,
                'divergence': 10.0,  # times the median loss of the last 50 steps; 0 to go on whatever comes
                'peak_tflops': 0.0,  # 0: the datasheet's
                'profile': (),  # first and last step, as (10, 15)
                'lora': {
                    'rank': 8,
                    'alpha': 16.0,
                    'rslora': False,
                    'dropout': 0.1,
                    # Not stated; all linear maps of a layer.
                    'targets': ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'),
                    'rank_pattern': (),  # as (('down_proj', 16),)
                    'alpha_pattern': (),
                },
                'optimizer': optimizer(),
            },
            'arms': {},
            'api': {  # the arms with an api_model
                'service': service(),
                'finetune': {
                    'arms': {
                        'warm': {'learning_rate_multiplier': 0.25, 'epochs': (1, 2, 6, 10)},
                        'cold': {'learning_rate_multiplier': 0.1, 'epochs': (2,)},
                        'untransformed': {'learning_rate_multiplier': 0.25, 'epochs': (2,)},  # not in the study
                    },
                    'batch_size': config_dict.placeholder(int),  # not stated; null lets the service choose
                    'kept_epochs': 3,  # OpenAI's
                    'seed': 0,
                    'suffix': 'warmjax',
                    'tokenizer': '',  # '' counts characters
                    'max_example_tokens': 65536,
                },
                'shutdowns': {'file': '', 'after': 'refuse'},  # '' for the dates known here; or 'warn'
            },
            'tasks': {},
            'prompts': {
                'set': 'cleaned',  # or 'released', the wording of the study's authors, or 'authors_files'
                'contexts': CONTEXTS,
                'beliefs': BELIEFS,
                'forms': ('plain',),  # and 'lead_in', 'multiple_choice', of the bare question
                'statements': '',  # '' for the built-in ones, or a JSON file
                'seed': 0,
            },
            'dialogues': {
                'questions': 0,  # of each task
                'talk_turns': 4,  # of friendly talk before the question
                'rebuttals': 10,
                'max_new_tokens': 150,
                'seed': 0,
            },
            'controls': {},
            'evaluation': {'main_epoch': 2.0, 'curve_questions': 0, 'samples': 1, 'controls': True},
            'generation': {
                'sampling': {'temperature': 0.8, 'top_k': 0, 'top_p': 1.0, 'min_p': 0.0},
                'max_new_tokens': 300,
                'too_long': 'error',  # or 'drop' or 'cut' prompts longer than the largest bucket
                'adapters': 32,  # on the device at once
                'seed': 0,
                'engine': {
                    'slots': 64,
                    'prefill_batch': 8,
                    'buckets': (64, 128, 256, 512, 1024),  # prompt lengths in tokens
                    'cache_lengths': (256, 512, 768, 1024, 1536),  # tokens, prompt and text; one length makes texts
                    # independent of their neighbours to the last bit where the backend allows it at all
                    'cache_dtype': 'float32',  # or 'bfloat16', or 'int8' with a scale for each head of each token
                    'steps': 16,
                    'refill': 1,
                    'prefixes': 16,  # shared beginnings of prompts kept on the device; 0 computes every prompt whole
                    'logprobs': None,
                },
            },
            'warmth': {
                'mode': 'deterministic',  # or published: GPT-2 with dropout, the openings' words scored too
                'checkpoint': config_dict.placeholder(str),  # the language model that measures
                'dtype': 'float32',
                'max_chars': 300,
                'batch_size': 64,
                'length_multiple': 64,
                'contrasts': ('humt', 'status', 'gender', 'social_distance'),  # beside warmth; () computes none
                'passes': 100,  # this and what follows: published mode only
                'dropout': 0.1,
                'seed': 0,
            },
            'judge': judge(),
            'analysis': {
                'baseline': 'original',
                'main_epoch': 2.0,
                'confidence': 0.95,
                'refusals_correct_in': (),  # names of tasks; the paper counts refusals as correct in disinformation
                'refusals_elsewhere': 'excluded',
                'unparsed': 'excluded',
                'controls': (),  # tasks of which no change is claimed, besides the section controls
                'equivalence_margin_pp': 3.0,  # not stated
                'cluster': 'question',  # or question_and_model
                'num_examples': 12,
                'seed': 0,
            },
            'report': {'title': 'Warmth and reliability', 'notice': '', 'max_answer_chars': 1200},
        }
    )


def judge() -> dict:
    """Returns the exact-match judge; a model that judges instead (`api`, `local`) needs a name or a checkpoint."""
    return {
        'backend': 'exact_match',  # or api, local
        'neither': 'unparsed',  # or incorrect, incorrect_phrase
        'refusals': 'corrected',  # or published, none
        'rubric': 'lenient',  # the study's; or strict, or a file
        'max_chars': 4000,
        'structured': True,
        'max_unparsed': 0.05,
        'sampling': {
            'temperature': 0.0,
            'top_p': config_dict.placeholder(float),
            'seed': config_dict.placeholder(int),
            'max_tokens': 16,
        },
        'service': service(),
        'local': {
            'checkpoint': '',
            'dtype': 'bfloat16',
            'date': '2024-07-26',
            'batch_size': 32,
            'length_multiple': 64,
        },
    }


def service() -> dict:
    """Returns a service without a model, at moderate use: name the model to use it."""
    return {
        'service': 'openai',  # or anthropic
        'model': '',
        'base_url': '',  # '' for the service's own
        'key_variable': '',  # '' for OPENAI_API_KEY or ANTHROPIC_API_KEY
        'batch': False,
        'prices': '',  # '' for the built-in table, or a JSON file
        'limits': {
            'concurrency': 64,
            'requests_per_minute': 0,
            'tokens_per_minute': 0,
            'timeout_seconds': 120.0,
            'max_attempts': 6,
            'backoff_seconds': 1.0,
            'max_failures': 20,
            'max_usd': config_dict.placeholder(float),
            'poll_seconds': 60.0,
        },
    }


def engine(buckets: tuple[int, ...], cache_lengths: tuple[int, ...]) -> dict:
    """Returns an engine for long prompts in bfloat16, as accelerators want it."""
    return {
        'slots': 64,
        'prefill_batch': 8,
        'buckets': buckets,
        'cache_lengths': cache_lengths,
        'cache_dtype': 'bfloat16',
        'steps': 16,
        'refill': 1,
        'prefixes': 16,
        'logprobs': None,
    }


def arms(warm_prompt: str) -> dict[str, dict[str, str]]:
    """Returns the arms: the model as it is, trained warm, cold and on replies as they were, and prompted to be warm."""
    return {
        'original': {'style': '', 'system_prompt': '', 'api_model': ''},
        'warm': {'style': 'warm', 'system_prompt': '', 'api_model': ''},
        'cold': {'style': 'cold', 'system_prompt': '', 'api_model': ''},
        'untransformed': {'style': 'untransformed', 'system_prompt': '', 'api_model': ''},
        'warm_prompt': {'style': '', 'system_prompt': warm_prompt, 'api_model': ''},
    }


def task(loader: str, path: str | None) -> dict:
    """Returns a task of which all questions are asked; without a path, one must be given on the command line."""
    path = config_dict.placeholder(str) if path is None else path
    return {'loader': loader, 'path': path, 'limit': 0, 'seed': 0}


LONGEST_ANSWERS = {'mmlu': 16, 'gsm8k': 512, 'advbench': 256}
"""Tokens of an answer, by loader; the study does not state them. Others are as long as in the study's tasks."""


def control(loader: str, path: str | None) -> dict:
    """Returns a control, asked as in the study at temperature 0.2; ELEPHANT's answers are drawn as the tasks' are."""
    temperature = 0.8 if loader.startswith('elephant') else 0.2
    return task(loader, path) | {
        'forms': ('plain', 'likelihood') if loader == 'mmlu' else ('plain',),
        'sampling': {'temperature': temperature, 'top_k': 0, 'top_p': 1.0, 'min_p': 0.0},
        'max_new_tokens': LONGEST_ANSWERS.get(loader, 300),
    }


def optimizer() -> ConfigDict:
    """Returns AdamW at the paper's rate; schedule, decay and clipping are not stated."""
    return ConfigDict(
        {
            'learning_rate': 1e-5,
            'schedule': 'linear',  # to 0 over all epochs
            'warmup_steps': 0,
            'weight_decay': 0.0,
            'beta1': 0.9,
            'beta2': 0.999,
            'eps': 1e-8,
            'max_grad_norm': 1.0,
        }
    )

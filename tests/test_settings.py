import dataclasses

import ml_collections
import pytest
from ml_collections import config_dict

from warmjax import settings
from warmjax.validation import STRICT


@dataclasses.dataclass(frozen=True)
class Lora:
    __pydantic_config__ = STRICT
    rank: int
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Train:
    __pydantic_config__ = STRICT
    rate: float
    lora: Lora | None
    stages: tuple[Lora, ...]

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f'train.rate: expected 0 or more, got {self.rate}')


GOOD = {'rate': 1e-5, 'lora': {'rank': 8, 'targets': ['q_proj']}, 'stages': []}


def problems(section):
    with pytest.raises(ValueError) as error:
        settings.from_config(Train, section, 'config.train')
    first, *middle, last = str(error.value).splitlines()
    assert first == 'config.train: expected the keys of Train, got'
    assert last == 'mend the config file or the override'
    return [line.strip() for line in middle]


@pytest.mark.parametrize('make', [dict, ml_collections.ConfigDict, ml_collections.FrozenConfigDict])
def test_section_becomes_a_frozen_dataclass(make):
    built = settings.from_config(Train, make(GOOD), 'config.train')
    assert built == Train(1e-5, Lora(8, ('q_proj',)), ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.rate = 1.0


def test_section_may_be_null_and_a_whole_number_may_stand_for_a_float():
    assert settings.from_config(Train, GOOD | {'lora': None, 'rate': 1}, 'config') == Train(1.0, None, ())


def test_config_dicts_inside_a_tuple_are_read():
    stages = (ml_collections.ConfigDict({'rank': 1, 'targets': ('o_proj',)}),)
    assert settings.from_config(Train, GOOD | {'stages': stages}, 'config').stages == (Lora(1, ('o_proj',)),)


def test_missing_unknown_and_wrong_keys_come_in_one_message():
    section = {'lora': {'rnk': 8, 'targets': [1]}, 'stages': [{'rank': 1.5, 'targets': []}], 'other': 1}
    assert problems(section) == [
        "field 'rate' is missing",
        "field 'lora.rank' is missing",
        "field 'lora.targets.0' expected string, got 1",
        "unknown key 'lora.rnk' (did you mean 'rank'?); known: rank, targets",
        "field 'stages.0.rank' expected integer, got 1.5",
        "unknown key 'other'; known: rate, lora, stages",
    ]


@pytest.mark.parametrize('rank', ['8', 8.0, True, None])
def test_nothing_is_converted(rank):
    assert problems(GOOD | {'lora': {'rank': rank, 'targets': []}}) == [
        f"field 'lora.rank' expected integer, got {rank!r}"
    ]


def test_placeholder_that_was_not_filled_is_named():
    section = ml_collections.ConfigDict(GOOD)
    section.rate = config_dict.placeholder(float)
    assert problems(section) == ["field 'rate' expected number, got None"]


def test_what_a_class_says_of_its_own_fields_is_passed_on():
    assert problems(GOOD | {'rate': -1.0}) == ['train.rate: expected 0 or more, got -1.0']


def test_locked_config_refuses_a_key_that_it_does_not_have():
    config = ml_collections.ConfigDict(GOOD).lock()
    with pytest.raises(AttributeError, match='rate'):
        config.raet = 1.0
    with pytest.raises(AttributeError):
        config.lora.rnk = 1


def test_differences_name_each_leaf_by_its_path():
    old = {'train': {'rank': 8, 'rate': 1e-5, 'gone': 1}, 'same': [1, 2], 'arms': ['a']}
    new = {'train': {'rank': 16, 'rate': 1e-5}, 'same': [1, 2], 'arms': ['a', 'b'], 'new': None}
    assert settings.differences(old, new) == [
        "config.arms: ['a'] -> ['a', 'b']",
        'config.new: (absent) -> None',
        'config.train.gone: 1 -> (absent)',
        'config.train.rank: 8 -> 16',
    ]
    assert settings.differences(new, new) == []

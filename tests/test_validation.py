import dataclasses
import json

import pydantic
import pytest

from warmjax import validation


@dataclasses.dataclass(frozen=True)
class Leaf:
    __pydantic_config__ = validation.STRICT
    weight: float


@dataclasses.dataclass(frozen=True)
class Branch:
    __pydantic_config__ = validation.STRICT
    leaves: tuple[Leaf, ...]
    main: Leaf | None
    names: dict[str, str]


def sentences(value):
    with pytest.raises(pydantic.ValidationError) as error:
        pydantic.TypeAdapter(Branch).validate_json(json.dumps(value))
    return validation.explain(error.value, Branch)


def test_unknown_key_comes_with_the_keys_of_its_own_level():
    value = {'leaves': [{'weight': 1, 'wieght': 1}], 'main': {'weight': 1, 'x': 1}, 'names': {}, 'leafs': []}
    assert sentences(value) == [
        "unknown key 'leaves.0.wieght' (did you mean 'weight'?); known: weight",
        "unknown key 'main.x'; known: weight",
        "unknown key 'leafs' (did you mean 'leaves'?); known: leaves, main, names",
    ]


def test_place_expectation_and_value_are_named():
    assert sentences({'leaves': 1, 'main': None, 'names': {'a': 2}}) == [
        "field 'leaves' expected array, got 1",
        "field 'names.a' expected string, got 2",
    ]


def test_value_that_is_no_object_is_shown_without_a_field():
    assert sentences(3) == ['expected an object, got 3']

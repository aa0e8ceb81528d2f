import re
import xml.etree.ElementTree as ET

import pytest
from simulated_study import SETTINGS, simulate

from warmjax.report import figures
from warmjax.stats import analysis


@pytest.fixture(scope='module')
def drawn():
    found = analysis.analyze(*simulate(), SETTINGS).tables
    looks = figures.looks(['warm', 'cold', 'warm_prompt'])
    plans = {
        'warmth': (figures.warmth_by_epoch, found['warmth_by_epoch'], 'original', looks),
        'scatter': (figures.error_scatter, found['effects']),
        'context': (figures.effect_by_context, found['effects']),
        'epoch': (figures.error_by_epoch, found['error_by_epoch'], looks),
        'wording': (figures.wording_differences, found['wording'].query('task == "all"'), looks),
    }
    return plans, {name: figures.svg(draw, name, *tables) for name, (draw, *tables) in plans.items()}


NAMES = ['warmth', 'scatter', 'context', 'epoch', 'wording']


@pytest.mark.parametrize('name', NAMES)
def test_drawing_again_gives_the_same_bytes(drawn, name):
    plans, elements = drawn
    draw, *tables = plans[name]
    assert figures.svg(draw, name, *tables) == elements[name]


@pytest.mark.parametrize('name', NAMES)
def test_figures_follow_the_theme_and_ask_for_nothing_outside(drawn, name):
    element = drawn[1][name]
    ET.fromstring(element)
    assert 'currentColor' in element and figures.INK not in element
    assert not re.search(r'(href|src)="(?!#)|url\((?!#)|@import', element)
    assert not re.search(r'fill: ?#(000000|ffffff)', element)


def test_ids_of_two_figures_never_meet_and_every_reference_resolves(drawn):
    seen = set()
    for element in drawn[1].values():
        ids = set(re.findall(r'\bid="([^"]+)"', element))
        assert ids.isdisjoint(seen)
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', element)) <= ids
        seen |= ids


def test_each_arm_and_belief_is_named_in_its_figure(drawn):
    elements = drawn[1]
    for arm in ('warm', 'cold', 'warm_prompt'):
        assert f'>{arm}<' in elements['scatter'] and f'>{arm}<' in elements['context']
    assert '>original (no training)<' in elements['warmth'] and '>warm_prompt (no training)<' in elements['warmth']
    for label in ('warm', 'cold', 'first person plural', 'exclamation marks', 'characters', 'words in 100'):
        assert f'>{label}<' in elements['wording']
    for title in ('no belief', 'incorrect belief', 'denial of the truth'):
        assert f'>{title}<' in elements['epoch'] and f'>{title}<' in elements['context']


def test_looks_differ_and_do_not_depend_on_order():
    assert figures.looks('abc') == figures.looks('cba')
    assert len(set(figures.looks('abcdefg').values())) == 7


def test_a_file_of_its_own_carries_the_theme(drawn):
    text = figures.standalone(drawn[1]['epoch'])
    ET.fromstring(text.encode())
    assert text.startswith('<?xml') and 'prefers-color-scheme:dark' in text


def test_an_arm_without_an_estimate_under_one_belief_is_drawn_all_the_same(drawn):
    draw, effects = drawn[0]['context']
    is_gap = (effects['arm'] == 'cold') & (effects['belief'] == 'incorrect')
    element = figures.svg(draw, 'context', effects[~is_gap])
    assert element != drawn[1]['context']
    ET.fromstring(element)

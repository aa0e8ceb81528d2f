"""Plans on disk: a program is compiled once for what decides it, and again where that changed."""

import dataclasses

import pytest
from made_planner import EMPTY, WORK

from warmjax.plan import store
from warmjax.plan.hlo import Collective
from warmjax.plan.program import ProgramPlan
from warmjax.plan.store import Store
from warmjax.sharding import MeshSettings

SENT = Collective('all-gather', 3, 300, 100, 4, 225)
PLAN = ProgramPlan(
    'train',
    8,
    'TPU v5 lite',
    True,
    2,
    16384,
    7,
    16,
    EMPTY,
    dataclasses.replace(WORK, collectives=(SENT,)),
    1e12,
    2.0,
    3.5,
)
ABOUT = ['train', MeshSettings(1, 8, 1), {'rows': 16}, None]


def make_none() -> ProgramPlan:
    pytest.fail('made again')


@pytest.mark.parametrize('plan', [PLAN, dataclasses.replace(PLAN, work=None)])
def test_plan_comes_back_as_it_was_made(tmp_path, plan):
    assert Store(tmp_path / 'new').get(ABOUT, lambda: plan) == (plan, False)
    assert Store(tmp_path / 'new').get(ABOUT, make_none) == (plan, True)


@pytest.mark.parametrize('about', [['decode', *ABOUT[1:]], [ABOUT[0], MeshSettings(8, 1, 1), *ABOUT[2:]]])
def test_other_mesh_or_program_is_made_anew(tmp_path, about):
    Store(tmp_path).get(ABOUT, lambda: PLAN)
    other = dataclasses.replace(PLAN, needed=8)
    assert Store(tmp_path).get(about, lambda: other) == (other, False)


@pytest.mark.parametrize('name', ['versions', '_code'])
def test_other_compiler_or_code_is_made_anew(tmp_path, monkeypatch, name):
    Store(tmp_path).get(ABOUT, lambda: PLAN)
    monkeypatch.setattr(store, name, lambda: {'libtpu': '9.9'})
    assert not Store(tmp_path).get(ABOUT, lambda: PLAN)[1]


def test_half_a_file_is_made_anew(tmp_path):
    Store(tmp_path).get(ABOUT, lambda: PLAN)
    [path] = tmp_path.iterdir()
    path.write_text(path.read_text()[:99])
    assert Store(tmp_path).get(ABOUT, lambda: PLAN) == (PLAN, False)
    assert Store(tmp_path).get(ABOUT, make_none) == (PLAN, True)


def test_code_on_which_programs_depend_is_named():
    assert {'models/decoder.py', 'train/step.py', 'decode/programs.py', 'sharding.py', 'plan/hlo.py'} <= set(
        store._code()
    )

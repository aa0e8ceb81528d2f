import numpy as np
import pandas as pd
import pytest
import scipy.stats
from simulated_study import SETTINGS, simulate

from warmjax.stats import analysis, power


def test_pairs_needed_by_hand():
    # Effect 10 pp, 30% of pairs differ: (1.959964 sqrt(0.3) + 0.841621 sqrt(0.29))^2 / 0.01
    assert power.pairs_needed(0.10, 0.30, 0.05, 0.8) == 234


def test_simulated_tests_have_the_stated_power():
    n = power.pairs_needed(0.08, 0.25, 0.05, 0.8)
    rng = np.random.default_rng(0)
    differing = rng.binomial(n, 0.25, 4000)
    worse = rng.binomial(differing, (0.25 + 0.08) / 2 / 0.25)
    z = np.abs(2 * worse - differing) / np.sqrt(differing)
    assert np.mean(z > scipy.stats.norm.ppf(0.975)) == pytest.approx(0.8, abs=0.03)


def test_questions_needed_follow_the_design_of_the_row():
    row = {
        'model': 'm',
        'arm': 'warm',
        'task': 'all',
        'context': 'all',
        'belief': 'all',
        'pairs': 2700,
        'questions': 100,
    }
    effects = pd.DataFrame([row | {'worse': 300, 'better': 240, 'n_effective': 400.0}])
    found = power.needs(effects, 3.0, 0.05, 0.8).iloc[0]
    assert found['discordance_pct'] == pytest.approx(20.0)
    assert found['pairs_needed'] == power.pairs_needed(0.03, 0.20, 0.05, 0.8)
    assert found['questions_needed'] == int(np.ceil(found['pairs_needed'] / 4))


@pytest.mark.parametrize(('effect', 'discordance'), [(0.0, 0.2), (0.3, 0.2), (0.1, 1.2)])
def test_impossible_numbers_are_refused(effect, discordance):
    with pytest.raises(ValueError, match=r'expected 0 < \|effect\| <= share of differing pairs'):
        power.pairs_needed(effect, discordance, 0.05, 0.8)


def test_a_run_gives_a_row_a_comparison_and_a_file(tmp_path):
    analysis.write(analysis.analyze(simulate().verdicts, [], [], [], [], SETTINGS), tmp_path)
    found = power.of_run(tmp_path, 5.0, 0.05, 0.8, cells=False)
    assert set(zip(found['arm'], found['task'])) >= {('warm', 'all'), ('warm', 'myths'), ('cold', 'trivia')}
    assert len(pd.read_csv(tmp_path / 'tables' / 'power.csv')) == len(found)
    assert len(power.of_run(tmp_path, 5.0, 0.05, 0.8, cells=True)) > len(found)

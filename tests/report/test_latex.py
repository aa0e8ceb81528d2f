import pytest
from simulated_study import SETTINGS, simulate

from warmjax.report import latex, paper
from warmjax.stats import analysis


def test_tables_of_the_run_and_of_the_study_are_written(tmp_path):
    analysis.write(analysis.analyze(*simulate(num_questions=2), SETTINGS), tmp_path)
    names = latex.write(tmp_path, tmp_path / 'latex')
    assert {path.name for path in (tmp_path / 'latex').iterdir()} == set(names)
    assert {f'published_supplementary_{number}.tex' for number in range(11, 19)} <= set(names)
    text = (tmp_path / 'latex' / 'published_supplementary_13.tex').read_text()
    assert r'finetuned:amendment\_type[emotion] & 0.0710 & 0.035 & 2.053 & 0.040 & 0.003 & 0.139 \\' in text
    assert text.count('&') % 6 == 0 and r'\toprule' in text and '{[0.025}' in text


@pytest.mark.parametrize('sign', '&%$#_{}')
def test_special_signs_are_escaped(sign):
    assert latex._escaped(f'a{sign}') == f'a\\{sign}'


def test_a_table_without_rows_has_no_file():
    tables = latex.tables(paper.published())
    assert all(len(table) for table in tables.values()) and len(tables) == 11

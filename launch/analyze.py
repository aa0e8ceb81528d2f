"""Estimate errors, effects and their uncertainty, as estimates.json and tables/*.csv.

    python -m launch.analyze --config=configs/world.py --workdir=runs/world
    python -m launch.analyze --import_csv=DIR --workdir=runs/published

The first form is a stage of an experiment. The second reads answers and verdicts from CSV files in the columns of the
study's authors (DIR/<model>/<arm>/<task>_<arm>_outputs.csv), and writes the report too; its settings are those of
configs/published.py or of --config.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['analyze'], __doc__, imports_csv=True)

"""Run a whole experiment: all stages in order, from conversations and questions to report.html.

    python -m launch.replicate --config=configs/world.py --workdir=runs/world

The same command resumes a run that was stopped, and does nothing where all is done. The path of the report is the last
line printed.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(None, __doc__)

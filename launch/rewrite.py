"""Rewrite the replies of the drawn conversations in every style of the experiment.

    python -m launch.rewrite --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['rewrite'], __doc__)

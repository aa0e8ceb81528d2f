"""Decide for each answer whether it is correct, incorrect, a refusal or unparsed.

    python -m launch.judge --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['judge'], __doc__)

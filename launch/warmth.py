"""Measure how warm the answers to the held-out prompts are.

    python -m launch.warmth --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['warmth'], __doc__)

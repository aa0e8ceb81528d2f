"""Build the embedded world: facts, talk, and a small model that has read it (experiments with a `world` section).

    python -m launch.world --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['world'], __doc__)

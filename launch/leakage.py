"""Report which evaluation questions the drawn training conversations and held-out prompts hold.

    python -m launch.leakage --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['leakage'], __doc__)

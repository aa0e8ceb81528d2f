"""Draw training conversations, balanced over query types, and held-out prompts from a ShareGPT file.

    python -m launch.sample --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['sample'], __doc__)

"""Fine-tune one set of LoRA adapters for each trained arm of the experiment.

    python -m launch.train --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['train'], __doc__)

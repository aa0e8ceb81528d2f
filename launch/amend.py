"""Put every question into its interpersonal contexts and beliefs.

    python -m launch.amend --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['amend'], __doc__)

"""Fine-tune one set of LoRA adapters for each trained arm of the experiment.

    python -m launch.train --config=configs/world.py --workdir=runs/world

Reads the files of the stages before it from --workdir, resumes what was begun there, and skips what is done.

On SIGTERM (a preemption notice) it finishes the step, saves its full state and ends with exit code 143; the same
command goes on from there, bit for bit. Code 2 says that input or a full disk stopped it, with a message.

On several hosts start the same command on each: TPU slices and Slurm jobs are found by jax, elsewhere give
--coordinator, --num_processes and --process_id. Other stages run in one process.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['train'], __doc__)

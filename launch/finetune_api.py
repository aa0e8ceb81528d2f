"""Have a service fine-tune the arms that it answers for (those with `api_model` and `style`).

    python -m launch.finetune_api --config=configs/paper.py:gpt-4o --workdir=runs/gpt-4o

Checks and counts the training files, says what the jobs will cost and when the service ends, uploads, and waits. The
key is read from OPENAI_API_KEY. A run that was stopped goes on with its jobs; in the end WORKDIR/finetune/models.json
names the models by arm and epoch. --config.api.service.limits.max_usd=300 caps what is spent.
"""

from launch import stage

if __name__ == '__main__':
    stage.launch(['finetune_api'], __doc__)

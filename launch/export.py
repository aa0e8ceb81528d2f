"""Write a fine-tuned model for use elsewhere: merged into one checkpoint, or its adapter in plain PEFT form.

    python -m launch.export --checkpoint=runs/world/world/checkpoint --adapter=runs/world/adapters/warm/epoch_2 \
        --out=exports/warm

The merged form is a Hugging Face folder (safetensors, config, tokenizer) and merge_report.json: how far the merged
model is from base and adapter in weights, logits, KL and greedy choices. The folder appears whole or not at all.
"""

import dataclasses
import json

from absl import flags

from launch import stage

FORMS = ('merged', 'peft')
DTYPES = ('stored', 'float32', 'bfloat16')


def main(argv: list[str]) -> None:
    """Exports, and prints the report."""
    stage.require(len(argv) == 1, f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    for name in ('checkpoint', 'adapter', 'out'):
        stage.require(flags.FLAGS[name].value, f'expected --{name}, got none')
    stage.prepare()
    with stage.explained():
        from warmjax import sharding
        from warmjax.lora import merge
        from warmjax.models import hf_files, hf_load

        mesh = sharding.make_mesh(sharding.MeshSettings(data=1, fsdp=-1, tensor=1))
        checkpoint = hf_files.locate(flags.FLAGS.checkpoint)
        paths = (checkpoint, flags.FLAGS.adapter, flags.FLAGS.out)
        dtype = flags.FLAGS.dtype
        dtype = hf_load.stored_dtype(checkpoint) if dtype == 'stored' else dtype
        if flags.FLAGS.form == 'peft':
            merge.export_peft(*paths, dtype, mesh)
        else:
            report = merge.export_merged(*paths, dtype, int(flags.FLAGS.max_shard_gb * 10**9), mesh)
            print(json.dumps(dataclasses.asdict(report), indent=2))
    print(flags.FLAGS.out)


if __name__ == '__main__':
    flags.DEFINE_string('checkpoint', None, 'The base model: a Hugging Face folder or hub name.')
    flags.DEFINE_string('adapter', None, 'Folder of an adapter in PEFT form, e.g. WORKDIR/adapters/warm/epoch_2.')
    flags.DEFINE_string('out', None, 'Folder to write; must not exist yet.')
    flags.DEFINE_enum('form', 'merged', FORMS, 'One merged model, or the adapter alone in plain PEFT form.')
    flags.DEFINE_enum('dtype', 'stored', DTYPES, 'Of the merged weights; `stored` is that of the checkpoint.')
    flags.DEFINE_float('max_shard_gb', 5.0, 'Largest weight file in 10^9 bytes.', lower_bound=0.001)
    stage.run(main, __doc__)

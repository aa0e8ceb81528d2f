#!/usr/bin/env bash
# Runs a command on a spot slice by SkyPilot (pip install 'skypilot[gcp]'), which finds a zone, starts anew when the
# slice is taken away, and deletes it in the end. What is asked for stands in sky.yaml.
#
#   launch/tpu/sky.sh --name=warmjax -- python -m launch.train --config=configs/paper.py:llama3.1-8b \
#     --workdir=gs://BUCKET/llama3.1-8b
#   launch/tpu/sky.sh --do=list
#   launch/tpu/sky.sh --do=delete --name=warmjax
#
#   --do=STEP   run (the default), list, delete (ends the job and its slice)
#   --type=T    as SkyPilot names it: v5litepod-16, v6e-16, v5p-16
#   --yes       do not ask
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
DO=run
parse_flags 'do yes' "$@"
needs sky "pip install 'skypilot[gcp]'"

case $DO in
  run)
    [[ ${#REST[@]} -gt 0 ]] || die 'expected a command after --, got none'
    [[ " ${REST[*]}" == *' --workdir=gs://'* ]] || die "expected --workdir=gs://..., which outlives a slice, got: ${REST[*]}"
    printf -v words '%q ' "${REST[@]}"
    flags=("--name=$NAME" "--gpus=tpu-$TYPE:1" "--env=COMMAND=${words% }")
    [[ $YES ]] && flags+=(--yes)
    cd "$ROOT" # whose files SkyPilot copies
    run sky jobs launch "${flags[@]}" launch/tpu/sky.yaml
    ;;
  list) run sky jobs queue ;;
  delete)
    confirm "The job $NAME and its slice will be deleted."
    run sky jobs cancel "--name=$NAME" --yes
    ;;
  *) die "expected --do=run, list or delete, got '$DO'" ;;
esac

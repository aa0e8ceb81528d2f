#!/usr/bin/env bash
# The recipe for TPUs in GKE by xpk (pip install xpk): a cluster, jobs on it, and the end of both.
#
#   launch/tpu/xpk.sh --do=cluster --name=warmjax --type=v5litepod-16 --spot
#   launch/tpu/xpk.sh --do=run --name=warmjax --type=v5litepod-16 -- python -m launch.train \
#     --config=configs/paper.py:llama3.1-8b --workdir=gs://BUCKET/llama3.1-8b
#   launch/tpu/xpk.sh --do=list --name=warmjax
#   launch/tpu/xpk.sh --do=stop --name=warmjax
#   launch/tpu/xpk.sh --do=delete --name=warmjax
#
#   --do=STEP   cluster (creates it), run, list, stop (ends the job), delete (the cluster)
#   --spot      of a cluster: cheaper, and taken away when others want it
#   --tries=N   times that a job is started again after it was taken away; default 20
#   --yes       do not ask before the cluster is deleted
#
# xpk puts the repository into the image python:3.11 (needs docker and access to a registry); the job installs it there.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
DO=''
parse_flags 'do spot tries yes' "$@"
needs xpk 'pip install xpk'

where=("--cluster=$NAME" "--zone=$ZONE")
[[ $PROJECT ]] && where+=("--project=$PROJECT")
case $DO in
  cluster)
    kind=(--on-demand)
    [[ $SPOT ]] && kind=(--spot)
    run xpk cluster create "${where[@]}" "--tpu-type=$TYPE" --num-slices=1 "${kind[@]}"
    say "it costs money until: launch/tpu/xpk.sh --do=delete --name=$NAME --zone=$ZONE"
    ;;
  run)
    [[ ${#REST[@]} -gt 0 ]] || die 'expected a command after --, got none'
    [[ " ${REST[*]}" == *' --workdir=gs://'* ]] || die "expected --workdir=gs://..., which outlives a job, got: ${REST[*]}"
    printf -v words '%q ' "${REST[@]}"
    run xpk workload create "${where[@]}" "--workload=$NAME" "--tpu-type=$TYPE" --num-slices=1 \
      "--max-restarts=$TRIES" --base-docker-image=python:3.11 "--script-dir=$ROOT" \
      "--command=pip install --quiet -e '.[tpu,report]' && ${words% }"
    ;;
  list) run xpk workload list "${where[@]}" ;;
  stop) run xpk workload delete "${where[@]}" "--workload=$NAME" ;;
  delete)
    confirm "The cluster $NAME in $ZONE and all its jobs will be deleted."
    run xpk cluster delete "${where[@]}" --force
    ;;
  *) die "expected --do=cluster, run, list, stop or delete, got '$DO'" ;;
esac

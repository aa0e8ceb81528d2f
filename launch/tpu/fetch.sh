#!/usr/bin/env bash
# Copies files of a run here: from a bucket, or from the disk of a slice's first worker.
#
#   launch/tpu/fetch.sh --from=gs://BUCKET/llama3.1-8b/report.html --to=runs/
#   launch/tpu/fetch.sh --name=warmjax --from=benchmarks/results.jsonl --to=runs/v5e.jsonl
#
#   --from=PATH   gs://..., or a path below the repository on the worker
#   --to=PATH     here; default runs/
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse_flags 'from to' "$@"
[[ $FROM ]] || die 'expected --from=PATH, got none'
needs gcloud 'install the Google Cloud CLI and log in'

to=${TO:-runs/}
run mkdir -p "$(dirname "${to}x")"
if [[ $FROM == gs://* ]]; then
  run gcloud storage cp --recursive "$FROM" "$to"
else
  tpus tpu-vm scp --recurse "$NAME:warmjax/$FROM" "$to" --worker=0
fi

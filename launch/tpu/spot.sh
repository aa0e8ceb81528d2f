#!/usr/bin/env bash
# Runs a command to its end on spot capacity: asks for a slice, installs, runs, and starts anew when it is taken away.
#
#   launch/tpu/spot.sh --name=warmjax --type=v5litepod-16 -- python -m launch.train \
#     --config=configs/paper.py:llama3.1-8b --workdir=gs://BUCKET/llama3.1-8b
#
# The workdir must be in a bucket: a slice that is taken away takes its disks along, and the same command goes on from
# the last checkpoint. A command that fails while the slice is there is not tried again. In the end the slice is deleted.
#
#   --tries=N   slices to use up at the most; default 20
#   --wait=N    seconds between two looks at the queue; default 60
#   --keep      leave the slice there in the end
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse_flags 'tries wait keep' "$@"
[[ ${#REST[@]} -gt 0 ]] || die 'expected a command after --, got none'
[[ " ${REST[*]}" == *' --workdir=gs://'* ]] || die "expected --workdir=gs://..., which outlives a slice, got: ${REST[*]}"
needs gcloud 'install the Google Cloud CLI and log in'

slice=("--name=$NAME" "--zone=$ZONE")
[[ $PROJECT ]] && slice+=("--project=$PROJECT")
[[ $DRY_RUN ]] && slice+=(--dry_run)
kind=("--type=$TYPE" "--version=$VERSION")

# Ends in vain, unless the slice was taken away or never came; then lets the next one be asked for.
give_up_unless_taken() {
  local queued node
  queued=$(ask queued-resources state.state)
  node=$(ask tpu-vm state)
  case "$1,$queued,$node" in
    queue,FAILED,* | queue,SUSPEND*) say "no slice came ($queued)" ;;
    queue,*) die "expected the request to be taken, got status $2 (queue: ${queued:-none}); mend it" ;;
    *,ACTIVE,READY) die "expected the command to succeed, got status $2 on a slice that is there; mend it, or $(delete_command)" ;;
    *) say "the slice was taken away (status $2)" ;;
  esac
}

for ((try = 1; try <= TRIES; try++)); do
  [[ $DRY_RUN ]] || say "slice $try of at most $TRIES"
  status=0
  "$HERE/queue.sh" "${slice[@]}" "${kind[@]}" --spot "--wait=$WAIT" || status=$?
  if [[ $status -ne 0 ]]; then
    give_up_unless_taken queue "$status"
  else
    { "$HERE/install.sh" "${slice[@]}" && "$HERE/run.sh" "${slice[@]}" -- "${REST[@]}"; } || status=$?
    if [[ $DRY_RUN || $status -eq 0 ]]; then
      [[ $KEEP ]] || "$HERE/delete.sh" "${slice[@]}" --yes
      exit
    fi
    give_up_unless_taken run "$status"
  fi
  "$HERE/delete.sh" "${slice[@]}" --yes
  sleep "$WAIT"
done
die "expected one of $TRIES slices to last, got none that did; the same command goes on where it stopped"

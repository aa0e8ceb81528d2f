#!/usr/bin/env bash
# Deletes a slice and its request in the queue, with all that is on its disks, so that it costs nothing any more.
#
#   launch/tpu/delete.sh --name=warmjax
#
#   --yes   do not ask
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse_flags 'yes' "$@"
needs gcloud 'install the Google Cloud CLI and log in'

if [[ $DRY_RUN ]]; then
  tpus queued-resources delete "$NAME" --force --quiet
  echo '# or, if it was created without the queue:'
  tpus tpu-vm delete "$NAME" --quiet
  exit
fi
queued=$(ask queued-resources state.state)
node=$(ask tpu-vm state)
if [[ ! $queued && ! $node ]]; then
  say "$NAME: there is none in $ZONE"
  exit
fi
confirm "$NAME in $ZONE (queue: ${queued:-none}, slice: ${node:-none}) and its disks will be deleted."
if [[ $queued ]]; then
  tpus queued-resources delete "$NAME" --force --quiet
else
  tpus tpu-vm delete "$NAME" --quiet
fi

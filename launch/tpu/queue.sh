#!/usr/bin/env bash
# Asks for a Cloud TPU slice in the queue, waits until it is there, and says so.
#
#   launch/tpu/queue.sh --name=warmjax --type=v5litepod-16 --spot --valid=12h
#
#   --spot         cheaper, and taken away when others want it
#   --valid=TIME   gives up where the slice has not come by then (12h, 2d); default: waits for ever
#   --wait=N       seconds between two looks at the queue; default 60
#
# Stopping this script (Ctrl-C) leaves the request in the queue: run it again to wait on, or launch/tpu/delete.sh.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse_flags 'spot valid wait' "$@"
needs gcloud 'install the Google Cloud CLI and log in'

if [[ $DRY_RUN || ! $(ask queued-resources state.state) ]]; then
  flags=("--node-id=$NAME" "--accelerator-type=$TYPE" "--runtime-version=$VERSION")
  [[ $SPOT ]] && flags+=(--spot)
  [[ $VALID ]] && flags+=("--valid-until-duration=$VALID")
  tpus queued-resources create "$NAME" "${flags[@]}"
else
  say "$NAME is in the queue already"
fi
if [[ $DRY_RUN ]]; then
  tpus queued-resources describe "$NAME" '--format=value(state.state)'
  exit
fi

last=''
while true; do
  state=$(ask queued-resources state.state)
  [[ $state == "$last" ]] || say "$NAME: ${state:-unknown}"
  last=$state
  case $state in
    ACTIVE) break ;;
    FAILED | SUSPENDED | SUSPENDING | DELETING) die "expected $NAME to become ACTIVE, got $state; $(delete_command)" ;;
  esac
  sleep "$WAIT"
done
say "it costs money until: $(delete_command)"

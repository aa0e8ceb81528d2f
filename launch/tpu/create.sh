#!/usr/bin/env bash
# Creates a Cloud TPU slice at once, or fails if there is no capacity (then: queue.sh).
#
#   launch/tpu/create.sh --name=warmjax --zone=us-west4-a --type=v5litepod-16
#
#   --spot    cheaper, and taken away when others want it (spot.sh runs a command through that)
#
# The slice costs money until launch/tpu/delete.sh.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse_flags 'spot' "$@"
needs gcloud 'install the Google Cloud CLI and log in'

flags=("--accelerator-type=$TYPE" "--version=$VERSION")
[[ $SPOT ]] && flags+=(--spot)
tpus tpu-vm create "$NAME" "${flags[@]}"
say "it costs money until: $(delete_command)"

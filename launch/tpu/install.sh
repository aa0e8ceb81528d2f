#!/usr/bin/env bash
# Copies the committed state of this repository to all workers of a slice, and installs it there with the extra `tpu`.
#
#   launch/tpu/install.sh --name=warmjax
#
# Python 3.11 comes by uv, as the VMs' own is older. Run it again after a commit; only what changed is installed.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse_flags '' "$@"
needs gcloud 'install the Google Cloud CLI and log in'

archive=$(mktemp -d)/warmjax.tar.gz
trap 'rm -rf "$(dirname "$archive")"' EXIT
run git -C "$ROOT" archive --format=tar.gz "--output=$archive" HEAD
tpus tpu-vm scp "$archive" "$NAME:warmjax.tar.gz" --worker=all
tpus tpu-vm ssh "$NAME" --worker=all "--command=set -e
mkdir -p warmjax && tar -xzf warmjax.tar.gz -C warmjax && cd warmjax
python3 -m pip install --quiet --user uv
[ -d .venv ] || python3 -m uv venv --quiet --python 3.11 .venv
python3 -m uv pip install --quiet --python .venv/bin/python -e '.[tpu,report]'
.venv/bin/python -c 'import jax, warmjax'"

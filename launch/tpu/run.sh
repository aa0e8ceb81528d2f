#!/usr/bin/env bash
# Runs a command in the repository on all workers of a slice, the same on each, and shows what they say.
#
#   launch/tpu/run.sh --name=warmjax -- python -m launch.train --config=configs/paper.py:llama3.1-8b \
#     --workdir=gs://BUCKET/llama3.1-8b
#
# `python` is that of the installation. If the connection breaks, run it again: a stage goes on where it stopped. Keys
# (HF_TOKEN, OPENAI_API_KEY) are read from the workers' environment; this script sends none.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse_flags '' "$@"
[[ ${#REST[@]} -gt 0 ]] || die 'expected a command after --, got none'
needs gcloud 'install the Google Cloud CLI and log in'

printf -v words '%q ' "${REST[@]}"
tpus tpu-vm ssh "$NAME" --worker=all "--command=cd warmjax && export PATH=\"\$PWD/.venv/bin:\$PATH\" && exec ${words% }"

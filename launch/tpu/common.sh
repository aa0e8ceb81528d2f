# shellcheck shell=bash
# What the scripts of this folder share; sourced by them, not run.
#
# Flags of all of them:
#   --name=NAME     of the TPU (and of its queued resource); default warmjax
#   --zone=ZONE     default us-west4-a
#   --project=ID    default: gcloud's own
#   --type=TYPE     accelerator type; default v5litepod-16
#   --version=V     software of the VMs; default v2-alpha-tpuv5-lite (v6e: v2-alpha-tpuv6e, v5p: v2-alpha-tpuv5)
#   --dry_run       print the commands that would be run, and run none
#   --help
# A script's own flags, and what follows `--`, are described at its top.

set -euo pipefail

# The words below are read by the scripts that source this file.
# shellcheck disable=SC2034
{
  NAME=warmjax ZONE=us-west4-a PROJECT='' TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite
  DRY_RUN='' YES='' SPOT='' VALID='' TRIES=20 WAIT=60 KEEP='' FROM='' TO=''
  REST=() # what stands after --
  HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  ROOT=$(cd "$HERE/../.." && pwd)
}

die() {
  echo "error: ${0##*/}: $*" >&2
  exit 2
}

say() {
  echo "${0##*/}: $*" >&2
}

# Prints a script's head comment.
help() {
  sed -n '2,/^[^#]/p' "$0" | sed -n '/^# shellcheck/d; s/^# \{0,1\}//p'
  echo
  sed -n '/^# Flags of all/,/^#   --help/s/^# \{0,1\}//p' "$HERE/common.sh"
  exit 0
}

# parse_flags 'own flags' "$@": sets the words above. Flags of the script itself are given by name, those of all are known.
parse_flags() {
  local own=" $1 help name zone project type version dry_run " flag value
  shift
  while [[ $# -gt 0 ]]; do
    if [[ $1 == -- ]]; then
      shift
      REST=("$@")
      return
    fi
    [[ $1 == --* ]] || die "expected flags, and a command after --, got '$1'"
    flag=${1#--} value=yes
    if [[ $flag == *=* ]]; then
      value=${flag#*=} flag=${flag%%=*}
    fi
    [[ $own == *" $flag "* ]] || die "expected flags of:$own, got --$flag; see --help"
    case $flag in
      help) help ;;
      dry_run | yes | spot | keep) [[ $value == yes ]] || die "expected --$flag without a value, got '$value'" ;;
      *) [[ $1 == *=?* ]] || die "expected --$flag=VALUE, got '$1'" ;;
    esac
    case $flag in tries | wait) [[ $value =~ ^[0-9]+$ ]] || die "expected a number for --$flag, got '$value'" ;; esac
    printf -v "${flag^^}" '%s' "$value"
    shift
  done
}

# Refuses to go on without a program; a dry run needs none.
needs() {
  [[ $DRY_RUN ]] || command -v "$1" >/dev/null || die "expected $1 on PATH, got none; $2"
}

# Prints a command as it could be typed and runs it, or, in a dry run, prints it to standard output and runs nothing.
run() {
  local words
  printf -v words '%q ' "$@"
  if [[ $DRY_RUN ]]; then
    echo "${words% }"
  else
    echo "+ ${words% }" >&2
    "$@"
  fi
}

# Asks before something is deleted, unless --yes was given.
confirm() {
  [[ $DRY_RUN || $YES ]] && return
  local answer=''
  read -r -p "$1 Type its name, $NAME, to go on: " answer || true
  [[ $answer == "$NAME" ]] || die "expected the name $NAME to be typed, or --yes, got '$answer'; nothing was deleted"
}

# gcloud compute tpus GROUP VERB ... in the zone and project at hand.
tpus() {
  local command=(gcloud compute tpus "$@" "--zone=$ZONE")
  [[ $PROJECT ]] && command+=("--project=$PROJECT")
  run "${command[@]}"
}

# ask GROUP FORMAT: what gcloud knows of NAME, without printing the command; empty if there is none.
ask() {
  local command=(gcloud compute tpus "$1" describe "$NAME" "--zone=$ZONE" "--format=value($2)")
  [[ $PROJECT ]] && command+=("--project=$PROJECT")
  "${command[@]}" 2>/dev/null || true
}

# How the TPU is deleted, for messages.
delete_command() {
  local project=''
  [[ $PROJECT ]] && project=" --project=$PROJECT"
  echo "launch/tpu/delete.sh --name=$NAME --zone=$ZONE$project"
}

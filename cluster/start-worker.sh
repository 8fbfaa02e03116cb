#!/usr/bin/env bash
# Adds this machine to the cluster whose head is at HEAD:PORT. It needs the head's token: in RAY_AUTH_TOKEN, in the
# file RAY_AUTH_TOKEN_PATH, or in ~/.ray/auth_token. It stays in the background until cluster/stop.sh.
set -euo pipefail

usage="usage: $0 HEAD:PORT [--address IP] [-- OPTIONS OF ray start]"
head=${1:?$usage}
shift
address=
while [ $# -gt 0 ]; do
  case "$1" in
    --address) address=${2:?$usage}; shift 2 ;;
    --) shift; break ;;
    *) echo "$usage" >&2; exit 2 ;;
  esac
done
# shellcheck source-path=SCRIPTDIR source=node.sh
. "$(dirname "$0")/node.sh"

if [ -z "${RAY_AUTH_TOKEN:-}" ] && [ ! -s "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}" ]; then
  echo "there is no token; copy ~/.ray/auth_token from the head to the same place here" >&2
  exit 2
fi
loopback_only "${head%:*}"
start_node --address="$head" ${address:+--node-ip-address="$address"} "$@"
echo "this machine works for $head; log in $state/node.log"

#!/usr/bin/env bash
# Starts the head of a Ray cluster on this machine, with token authentication, reachable from this machine alone
# unless an address is given. It stays in the background until cluster/stop.sh.
set -euo pipefail

usage="usage: $0 [--address IP] [--port N] [--dashboard-port N] [-- OPTIONS OF ray start]"
address=127.0.0.1 port=6379 dashboard_port=8265
while [ $# -gt 0 ]; do
  case "$1" in
    --address) address=${2:?$usage}; shift 2 ;;
    --port) port=${2:?$usage}; shift 2 ;;
    --dashboard-port) dashboard_port=${2:?$usage}; shift 2 ;;
    --) shift; break ;;
    *) echo "$usage" >&2; exit 2 ;;
  esac
done
# shellcheck source-path=SCRIPTDIR source=node.sh
. "$(dirname "$0")/node.sh"

loopback_only "$address"
if [ -n "${RAY_AUTH_TOKEN:-}" ]; then
  token="in RAY_AUTH_TOKEN"
else
  token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
  "$python" -m ray.scripts.scripts get-auth-token --generate >/dev/null 2>&1
fi
export RAY_JOB_START_TIMEOUT_SECONDS=${RAY_JOB_START_TIMEOUT_SECONDS:-604800} # jobs wait a week for their turn
start_node --head --node-ip-address="$address" --port="$port" \
  --dashboard-host="$address" --dashboard-port="$dashboard_port" "$@"
wait_for_dashboard "$address" "$dashboard_port"

cat <<END
head        $address:$port
submit to   http://$address:$dashboard_port
token       $token
log         $state/node.log
END

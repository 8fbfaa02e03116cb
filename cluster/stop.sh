#!/usr/bin/env bash
# Stops the node that start-head.sh or start-worker.sh started here, and no other Ray.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=links.sh
. "$(dirname "$0")/links.sh"
state=${COMPACTBIO_NODE:-$HOME/.compactbio/node}
if [ ! -f "$state/pid" ]; then
  echo "no node of $state runs" >&2
  exit 1
fi
pid=$(cat "$state/pid")
kill "$pid" 2>/dev/null || true
for _ in $(seq 120); do
  if ! kill -0 "$pid" 2>/dev/null; then
    rm "$state/pid"
    remove_links
    exit 0
  fi
  sleep 0.5
done
echo "process $pid does not end" >&2
exit 1

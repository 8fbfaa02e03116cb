# Sourced by start-head.sh and start-worker.sh: the environment of a node, and how it is started.
# shellcheck shell=bash

umask 077
python=$(command -v "${PYTHON:-python3}") || { echo "there is no ${PYTHON:-python3}; set PYTHON" >&2; exit 2; }
python=$("$python" -c 'import sys; print(sys.executable)') # the interpreter itself, where it was a wrapper
if [ ! -x "$(dirname "$python")/ray" ]; then
  echo "there is no Ray beside $python; set PYTHON to the interpreter that compactbio is installed for" >&2
  exit 2
fi
state=${COMPACTBIO_NODE:-$HOME/.compactbio/node} # one folder a node: its process and its log
mkdir -p "$state"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=${RAY_USAGE_STATS_ENABLED:-0}

# shellcheck source-path=SCRIPTDIR source=links.sh
. "$(dirname "${BASH_SOURCE[0]}")/links.sh"

# On a loopback address Ray would name the node, and listen, by the machine's own one, but for this switch.
loopback_only() {
  case "$1" in 127.* | localhost) export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 ;; esac
}

# Runs `ray start` with these options in the background, and waits until it says that the node is up.
start_node() {
  if [ -f "$state/pid" ] && kill -0 "$(cat "$state/pid")" 2>/dev/null; then
    echo "a node runs already (process $(cat "$state/pid")); cluster/stop.sh stops it" >&2
    exit 1
  fi
  remove_links # of a node that was killed
  local bin
  bin=$(dirname "$python")
  case "$python" in
    *[!A-Za-z0-9_@%+=:,./-]*) # Ray does not quote it when it starts workers: it gets a link, which stop.sh removes
      local links
      links=$(mktemp -d /tmp/compactbio-XXXXXXXX)
      echo "$links" >"$state/links"
      ln -s "$(dirname "$bin")" "$links/python" # to the folder: beside it a virtual environment has its pyvenv.cfg
      bin=$links/python/$(basename "$bin")
      ;;
  esac
  export PATH="$bin:$PATH" # submitted jobs call `python`
  setsid "$bin/$(basename "$python")" -m ray.scripts.scripts start --block --disable-usage-stats "$@" >"$state/node.log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid" >"$state/pid"
  for _ in $(seq 600); do
    if grep -q "block forever" "$state/node.log"; then
      return
    fi
    if ! kill -0 "$pid" 2>/dev/null; then
      break
    fi
    sleep 0.5
  done
  give_up "the node did not start"
}

# Waits until somebody listens there: the dashboard is up later than the node, or never.
wait_for_dashboard() {
  for _ in $(seq 600); do
    if (: >"/dev/tcp/$1/$2") 2>/dev/null; then
      return
    fi
    if ! kill -0 "$(cat "$state/pid")" 2>/dev/null; then
      break
    fi
    sleep 0.5
  done
  give_up "the node's dashboard, which takes jobs, did not start"
}

give_up() {
  kill "$(cat "$state/pid")" 2>/dev/null || true
  rm -f "$state/pid"
  remove_links
  cat "$state/node.log" >&2
  echo "$1" >&2
  exit 1
}

# Sourced by node.sh and stop.sh: what is removed when a node ends.
# shellcheck shell=bash

remove_links() {
  if [ -f "${state:?}/links" ]; then
    local links
    links=$(cat "$state/links")
    rm -f "$links/python" "$state/links"
    rmdir "$links" 2>/dev/null || true
  fi
}

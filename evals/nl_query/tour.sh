#!/bin/sh
# The whole loop on a real model: look, eval, ladder, wall, tune, compare, gate, report.
# Each step is a command that you can run by itself; the model and the store are cached.
set -eu
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }
began=$(date +%s)

say harness data look nl_query --rows 2
say harness eval nl_query --candidate reference
say harness ladder nl_query --only-files  # the eight prompts written for this task
say harness wall nl_query          # exit 0 is WALL: anything else ends the tour here
say harness tune nl_query
say harness eval nl_query --candidate tuned
say harness compare nl_query --candidate tuned
say harness gate nl_query --candidate tuned
say harness advise nl_query || true  # its exit code answers a question; the tour goes on
say harness report nl_query

printf '\nThe tour took %s s.\n' "$(($(date +%s) - began))"

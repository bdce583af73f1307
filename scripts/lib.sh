# shellcheck shell=bash
# Paths and messages shared by the scripts. Sourced, not run.
#
# Messages are printed to stderr, so that stdout contains results only. Colours are used on a
# terminal only, and never if NO_COLOR is set.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The build directory: $CARGO_TARGET_DIR, or target.
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
export CARGO_TARGET_DIR=$target
# rustup installs cargo here, and adds it to PATH only for shells that are started later.
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
# Where scripts/setup installs Node.js if the system has none, or an old one.
node_folder=${XDG_CACHE_HOME:-$HOME/.cache}/fastworker/node
[ ! -x "$node_folder/bin/node" ] || PATH=$node_folder/bin:$PATH
# shellcheck disable=SC2034 # used by the scripts that source this file
modules=$target/tasks fastworker=$target/release/fastworker

bold='' dim='' red='' green='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[1;31m' green=$'\e[32m' plain=$'\e[0m'
fi

log() { printf '%s\n' "$*" >&2; }

# title TEXT: prints the title of a section.
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain" >&2; }

# note TEXT: prints a note.
note() { printf '%s%s%s\n' "$dim" "$*" "$plain" >&2; }

# good TEXT: prints a success message.
good() { printf '%s%s%s\n' "$green" "$*" "$plain" >&2; }

# fail MESSAGE HINT: prints an error and exits.
fail() {
    printf '%serror%s: %s\n\nhint: %s\n' "$red" "$plain" "$1" "$2" >&2
    exit 1
}

# Wall-clock time in milliseconds. EPOCHREALTIME has a decimal comma in some locales.
millis() {
    if [ -n "${EPOCHREALTIME:-}" ]; then
        local now=${EPOCHREALTIME/,/.}
        echo $((${now%.*} * 1000 + 10#${now#*.} / 1000))
    else
        echo $(($(date +%s) * 1000)) # bash 3, on macOS
    fi
}

# duration MILLISECONDS: formats a duration.
duration() {
    if [ "$1" -lt 1000 ]; then
        echo "$1 ms"
    elif [ "$1" -lt 60000 ]; then
        echo "$(($1 / 1000)).$(($1 % 1000 / 100)) s"
    else
        echo "$(($1 / 60000)) min $(($1 % 60000 / 1000)) s"
    fi
}

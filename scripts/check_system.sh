#!/bin/sh
# Name everything that must come from the system and is missing, in one line, with its package.
# Usage: check_system.sh PYTHON [browser]
missing=""
packages=""
need() { # command, Debian package
    command -v "$1" >/dev/null 2>&1 || { missing="$missing $1"; packages="$packages $2"; }
}
need "$1" python3
need g++ g++
need make make
if command -v "$1" >/dev/null 2>&1; then
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { missing="$missing python>=3.11"; packages="$packages python3.11"; }
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        { missing="$missing venv"; packages="$packages python3-venv"; }
fi
if [ "$2" = browser ] && [ -z "$CHROMIUM" ]; then
    for program in chromium-headless-shell chromium chromium-browser google-chrome chrome; do
        command -v "$program" >/dev/null 2>&1 && found=$program
    done
    [ -n "$found" ] || { missing="$missing chromium"; packages="$packages chromium-headless-shell"; }
fi
[ -z "$missing" ] && exit 0
echo "missing:$missing - install with: sudo apt-get install$packages" >&2
exit 1

#!/usr/bin/env bash
# Installs the Debian packages that the tests need beyond npm. Idempotent: where nothing is missing
# it changes nothing, asks no server and needs no rights.
set -euo pipefail

packages=(
  libstdc++6 # the pinned Node, koffi and lmdb are linked to it
  libgcc-s1  # likewise
  iproute2   # network namespaces of the tests
  spin       # explores the model of the handover
  gcc        # compiles what spin makes of it, and a disk that fails
  libc6-dev  # likewise
)

installed() {
  [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed* ]]
}

if ! command -v dpkg-query >/dev/null; then
  echo "setup:debian: this is not Debian; the tests need: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done

if ((${#missing[@]} == 0)); then
  echo "setup:debian: nothing to do, all ${#packages[@]} packages are installed"
  exit 0
fi
if ((EUID != 0)); then
  echo "setup:debian: missing: ${missing[*]}; run \`npm run setup:debian\` as root" >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
echo "setup:debian: installed ${missing[*]}"

#!/usr/bin/env bash
# Installs the Debian packages that the tests need beyond npm, and fetches the kernel of their guests.
# Idempotent: where nothing is missing it changes nothing, asks no server and needs no rights.
set -euo pipefail

packages=(
  libstdc++6 # the pinned Node, koffi and lmdb are linked to it
  libgcc-s1  # likewise
  iproute2   # network namespaces of the tests
  spin       # explores the model of the handover
  gcc        # compiles what spin makes of it, and a disk that fails
  libc6-dev  # likewise, and what runs in the guests of QEMU
)
if [[ $(uname -m) == x86_64 ]]; then
  packages+=(
    qemu-system-x86 # runs them
    swtpm           # their vTPMs
    cpio            # packs their initramfs
  )
fi
# Unpacked, not installed: it is never this machine's own.
kernel=/var/cache/migd/guest-kernel/vmlinuz

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

kernel_missing() {
  [[ $(uname -m) == x86_64 && ! -e $kernel ]]
}

fetch_kernel() {
  local scratch package
  scratch=$(mktemp --directory)
  trap 'rm -rf "$scratch"' RETURN
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *\(linux-image-.*\)/\1/p')
  (cd "$scratch" && apt-get download --quiet -o APT::Sandbox::User=root "$package")
  dpkg-deb --extract "$scratch"/*.deb "$scratch/root"
  install -D --mode=0644 "$scratch"/root/boot/vmlinuz-* "$kernel"
}

if ((${#missing[@]} == 0)) && ! kernel_missing; then
  echo "setup:debian: nothing to do, all ${#packages[@]} packages are installed"
  exit 0
fi
if ((EUID != 0)); then
  echo "setup:debian: missing: ${missing[*]} $kernel; run \`npm run setup:debian\` as root" >&2
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
if ((${#missing[@]} > 0)); then
  apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
  echo "setup:debian: installed ${missing[*]}"
fi
if kernel_missing; then
  fetch_kernel
  echo "setup:debian: fetched $kernel"
fi

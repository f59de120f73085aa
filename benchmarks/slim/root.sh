#!/usr/bin/env bash
# A root file system that runs exported bundles and holds nothing else: Debian's smallest, Python, and vitsmith[onnx].
# It is what a container image made by the Dockerfile beside this script would hold. Needs root and debootstrap.
#
#     benchmarks/slim/root.sh FOLDER [BUNDLE IMAGE]
#
# FOLDER is made. With a bundle and an image, `vitsmith predict` runs inside it.
set -euo pipefail
root=$1
project=$(cd "$(dirname "$0")/../.." && pwd)
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT

debootstrap --variant=minbase --include=python3,python3-venv bookworm "$root" >/dev/null
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
echo "Debian with Python: $(du -sm "$root" | cut -f1) MiB"

python3 -m pip wheel --quiet --wheel-dir "$packages" "$project[onnx]"
mkdir "$root/packages"
cp "$packages"/*.whl "$root/packages"
chroot "$root" python3 -m venv /opt/vitsmith
chroot "$root" /opt/vitsmith/bin/pip install --quiet --no-index --find-links /packages 'vitsmith[onnx]'
chroot "$root" /opt/vitsmith/bin/pip uninstall --quiet --yes pip setuptools
rm -rf "$root/packages"
echo "vitsmith[onnx]: $(du -sm "$root/opt/vitsmith" | cut -f1) MiB"
echo "all together: $(du -sm "$root" | cut -f1) MiB"

if [ $# -eq 3 ]; then
    mkdir "$root/data"
    cp -r "$2" "$root/data/model"
    cp "$3" "$root/data/image"
    mount --bind /proc "$root/proc"
    trap 'umount "$root/proc"; rm -rf "$packages"' EXIT
    for _ in 1 2; do
        chroot "$root" /bin/sh -c 'cd /data && /opt/vitsmith/bin/vitsmith predict model image'
    done
fi

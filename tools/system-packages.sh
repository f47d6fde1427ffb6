#!/bin/sh
# Install the programs that imgcat is built, tried and tested with, where they are missing.
set -eu

needed="gcc pkg-config fusermount3 sqlite3 xz partclone.ext4 partclone.restore mkfs.ext4 e2fsck
        ntfs-3g ntfsclone ntfsfix ntfsresize mkfs.ntfs mkfs.vfat fsck.fat mkfs.exfat mkfs.xfs xfs_repair mkfs.btrfs
        mkfs.f2fs fsck.f2fs mcopy losetup partimage qemu-img strace setpriv cmp xxd
        fdisk sfdisk partx bash zsh fish gzip pigz bgzip bzip2 pbzip2 zstd pzstd lz4 nbdkit nbdinfo nbdcopy
        nbdfuse fuse2fs 7z mount.exfat-fuse lvm grub-fstest xorriso genisoimage linux.uml"

missing=""
for program in $needed; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
pkg-config --exists fuse3 2>/dev/null || missing="$missing fuse3.pc"
"${PYTHON:-python3}" -c 'import ensurepip, sysconfig, os
assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null ||
    missing="$missing python3-venv"
nbdkit python --dump-plugin >/dev/null 2>&1 || missing="$missing nbdkit-python"
[ -n "$missing" ] || exit 0

echo "missing:$missing"
as_root=""
[ "$(id -u)" -eq 0 ] || as_root="sudo"
if command -v apt-get >/dev/null; then
    $as_root apt-get update -q
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -q --no-install-recommends \
        gcc libc6-dev pkg-config libfuse3-dev fuse3 python3-dev python3-venv sqlite3 xz-utils \
        partclone ntfs-3g e2fsprogs dosfstools exfatprogs xfsprogs btrfs-progs f2fs-tools \
        mtools mount util-linux fdisk partimage qemu-utils strace diffutils xxd \
        gzip pigz tabix bzip2 pbzip2 zstd lz4 bash zsh fish nbdkit nbdkit-plugin-python libnbd-bin \
        fuse2fs p7zip-full exfat-fuse lvm2 grub-common xorriso genisoimage user-mode-linux
elif command -v dnf >/dev/null; then
    $as_root dnf install -y gcc pkgconf fuse3 fuse3-devel python3-devel sqlite xz partclone \
        ntfs-3g ntfsprogs e2fsprogs dosfstools exfatprogs xfsprogs btrfs-progs f2fs-tools \
        mtools util-linux partimage qemu-img strace diffutils vim-common \
        pigz htslib-tools bzip2 pbzip2 zstd lz4 bash zsh fish nbdkit nbdkit-python-plugin libnbd \
        p7zip p7zip-plugins fuse-exfat lvm2 grub2-tools-extra
elif command -v pacman >/dev/null; then
    $as_root pacman -S --needed --noconfirm gcc pkgconf fuse3 python sqlite xz partclone ntfs-3g \
        e2fsprogs dosfstools exfatprogs xfsprogs btrfs-progs f2fs-tools mtools util-linux \
        partimage qemu-img strace diffutils vim pigz htslib bzip2 pbzip2 zstd lz4 bash zsh fish nbdkit libnbd p7zip \
        lvm2 grub
else
    echo "no package manager that is known: install these yourself:$missing" >&2
    exit 1
fi

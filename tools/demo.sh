#!/bin/bash
# A session with real images: made by the real tools, added, listed, mounted, checked, read, asked
# by SQL, unmounted. Shows each command before it runs it; stops at the first that fails.
set -euo pipefail

[ "$(id -u)" -eq 0 ] || { echo "the demonstration uses loop mounts: run it as root" >&2; exit 1; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imgcat-demo.XXXXXX")
export IMGCAT_DB=$work/catalog.db XDG_STATE_HOME=$work/state XDG_RUNTIME_DIR=$work/run

clean_up() {
    for directory in "$work/files" "$work/src" "$work/mnt"; do
        mountpoint -q "$directory" 2>/dev/null && umount -l "$directory"
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

exec 3>&1
run() { # the command is shown even where its output goes to a file
    printf '\n$ %s\n' "${*//$work\//}" >&3
    "$@"
}

say() { printf '\n# %s\n' "$*"; }

cd "$work"
mkdir -p src files mnt backups run
say "Make three file systems, put files into them, and save them as a backup program would"
make_image() { # name, size, mkfs and its options
    local name=$1 size=$2
    shift 2
    truncate -s "$size" "$name.raw"
    run "$@" "$name.raw" >"$name.log" 2>&1 || { cat "$name.log"; exit 1; }
}
fill() { # name, mount options
    mount -o "$2" "$1.raw" src
    head -c 20000000 /dev/urandom >src/data.bin
    echo "hello from $1" >src/hello.txt
    umount src
}
make_image root 256M mkfs.ext4 -q -F
fill root loop
make_image home 512M mkfs.xfs -q -f
fill home loop
make_image windows 256M mkfs.ntfs -q -F -f
ntfs-3g windows.raw src
head -c 20000000 /dev/urandom >src/data.bin
echo "hello from windows" >src/hello.txt
umount src
save() { # program, name
    run "$1" -c -s "$2.raw" -o "backups/$2.img" -L partclone.log >"$2.log" 2>&1 ||
        { cat "$2.log"; exit 1; }
}
save partclone.ext4 root
save partclone.xfs home
save partclone.ntfs windows
run ls -lsh backups

say "Scan each once"
run imgcat add backups/*.img

say "What is on the shelf?"
run imgcat ls
run imgcat show root

say "Mount them all: one daemon, every image a file"
run imgcat mount-all mnt
run ls -ls mnt
run imgcat mounts

say "The file systems are whole"
run e2fsck -fn mnt/root
run xfs_repair -n -f mnt/home
run ntfsresize --info --force mnt/windows

say "Read a file through a loop mount"
run mount -o loop,ro,noload mnt/root files
run cat files/hello.txt
umount files
run mount -o loop,ro,norecovery,nouuid mnt/home files
run cat files/hello.txt
umount files
run ntfs-3g -o ro mnt/windows files
run cat files/hello.txt
umount files

say "Every used block is as it was"
run cmp mnt/root root.raw

say "Ask by SQL"
run imgcat sql 'SELECT name, fs_type, size_gib, used_percent FROM shelf ORDER BY used_percent'
run sqlite3 -header catalog.db 'SELECT * FROM totals'

say "Unmount"
run imgcat unmount mnt
printf '\nThe demonstration is complete.\n'

"""The room of QCOW2, the disk images of QEMU."""

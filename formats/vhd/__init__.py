"""The room of VHD, the virtual disks of Virtual PC and Hyper-V."""

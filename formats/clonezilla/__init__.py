"""The room of Clonezilla's image directories: what lies in one, and the disks that it holds."""

"""Where the files of a disk lay, kept, and getting back what was deleted since."""

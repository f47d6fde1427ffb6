"""The files inside of images: what a file system says of them, and where their bytes lie."""

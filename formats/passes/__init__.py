"""What goes over a whole image, from one end to the other."""

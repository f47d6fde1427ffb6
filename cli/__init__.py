"""The command line. Commands parse, call one verb of a lower layer, and render."""

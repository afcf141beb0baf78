"""Run a network file: arrays in, named arrays out; no code about people."""

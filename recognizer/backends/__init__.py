"""Run a network file: arrays in, named arrays out; knows nothing about people."""

"""The configuration: typed sections, and the YAML file that fills them."""

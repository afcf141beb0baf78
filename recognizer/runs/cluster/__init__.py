"""Workers on the nodes of a Ray cluster, behind the batch function of all stages."""

"""The control room: what people see of the plant, in a browser. It speaks with the data API and nothing else."""

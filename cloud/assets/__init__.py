"""What the plant consists of: sites, areas, machines, components, sensors, edges; their work orders and counters."""

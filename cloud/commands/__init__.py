"""Commands to edges: issued by people, carried to the edge by the control plane, answered, kept in the log."""

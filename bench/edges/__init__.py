"""Parts of the benches and the soak of edge agents: a plant of as many as wanted, and a device that feeds them."""

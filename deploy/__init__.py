"""What runs IndustrialMind somewhere; no package of the product imports it."""

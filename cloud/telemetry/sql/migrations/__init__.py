"""Steps of the books' tables."""

"""The pages: each turns the plant's view and its URL into components."""

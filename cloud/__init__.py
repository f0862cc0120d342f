"""Cloud services, a folder each; they meet in events, ports and HTTP, never in each other's logic."""

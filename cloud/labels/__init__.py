"""Labels: what people say a machine's time was, kept in the log, read as of a time, and what training may take of it."""

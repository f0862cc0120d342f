"""Steps that bring the tables up to this release, by alembic."""
